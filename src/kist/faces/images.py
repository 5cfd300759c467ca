"""The public Python API for images: what `kist pull`, `push`, `images`, `tag`, `rmi`, `save`, `load` and `import` do.

    image = kist.pull("debian:12")
    kist.tag(image.id, "localhost:5000/mine")
    kist.push("localhost:5000/mine")
    kist.run(["cat", "/etc/os-release"], image="debian:12")

Images are named as on the command line: by name, NAME@DIGEST, id, or an id's beginning. Every function raises
KistError: NotFound (no-image, not-in-registry, no-platform), Conflict, InvalidInput, RegistryError, CorruptStore. Safe
from several threads and processes. The store is that of KIST_DATA_DIR, or the user's own.
"""

from __future__ import annotations

from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kist.registry.client import Client
    from kist.registry.content import Progress as Transferred
    from kist.spec.image import Descriptor
    from kist.spec.reference import Reference
    from kist.store.images import Image as Stored
    from kist.store.images import ImageStore

    Progress = Callable[[str, int, int], object]  # (digest of the blob, bytes done, all its bytes)


class Image(Value):
    """`id` is the configuration's digest, `digest` that of the manifest or index, as registries know it."""

    id: str
    digest: str
    names: tuple[str, ...]  # NAME:TAG and NAME@DIGEST, in Docker's short form
    created: str  # RFC 3339, "" when it does not say
    platform: str  # linux/arm64/v8
    size_bytes: int  # of all files
    layers: tuple[str, ...]  # DiffIDs, the lowest first
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    env: tuple[str, ...]
    user: str
    workdir: str
    labels: Mapping[str, str]


class Removed(Value):
    """`untagged`: names; `deleted`: ids of images that are gone."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]


def images() -> list[Image]:
    """All that are here, the last one made first."""
    return [_image(stored) for stored in _store().list()]


def image(name: str) -> Image:
    """One that is here. Raises NotFound."""
    return _image(_store().get(name))


def pull(
    name: str,
    *,
    platform: str = "",
    credentials: tuple[str, str] | None = None,
    tls_verify: bool = True,
    progress: Progress | None = None,
) -> Image:
    """Fetch an image from a registry. What is here already is not fetched again.

    `platform` is another machine's ("linux/arm/v7"), `credentials` a user and a password instead of those that
    `kist login`, docker and podman keep. `progress` is called from several threads.
    """
    from kist.engine.pull import pull_image
    from kist.registry.content import no_progress
    from kist.spec.manifests import parse_platform
    from kist.spec.reference import parse_reference

    reference = parse_reference(name)
    wanted = parse_platform(platform) if platform else None
    tell = _telling(progress) if progress else no_progress
    with _client(reference, credentials, tls_verify=tls_verify) as client:
        return _image(pull_image(_store(), client, reference, wanted, tell).image)


def push(
    name: str,
    *,
    credentials: tuple[str, str] | None = None,
    tls_verify: bool = True,
    progress: Progress | None = None,
) -> str:
    """Send an image to the registry that its name begins with; the digest that it has there."""
    from kist.engine.push import push_image
    from kist.registry.content import no_progress
    from kist.spec.reference import parse_reference

    reference = parse_reference(name)
    tell = _telling(progress) if progress else no_progress
    with _client(reference, credentials, tls_verify=tls_verify) as client:
        return push_image(_store(), client, reference, tell)[0].digest


def tag(name: str, new: str) -> Image:
    """Give an image another name, which it takes from whatever had it."""
    store = _store()
    store.tag(name, new)
    return _image(store.get(new))


def remove_image(name: str, *, force: bool = False) -> Removed:
    """Take a name away, and with the last one the image; an id stands for all names.

    Raises Conflict when an id has several names, or a container runs from it, unless `force`: then what that needs
    stays until it ends.
    """
    removed = _store().remove(name, force=force)
    return Removed(removed.untagged, removed.deleted)


def save(names: str | Iterable[str], path: str, *, format: str = "docker-archive") -> None:
    """Write images to a file, for kist, docker, podman or skopeo to load; or to a new directory.

    `format`: docker-archive, oci-archive, oci-dir, or dir for one image. The file is there when it is whole.
    """
    from kist.store.saving import DIRECTORIES, save_directory, save_file

    asked = (names,) if isinstance(names, str) else tuple(names)
    if format in DIRECTORIES:
        save_directory(_store(), asked, path, format)
    else:
        save_file(_store(), asked, path, format)


def load(path: str) -> list[Image]:
    """Every image of an archive or directory that kist, docker, podman or skopeo made, plain or compressed."""
    import os

    from kist.store.directory import load_directory
    from kist.store.loading import load as load_archive
    from kist.store.source import ArchiveFile

    store = _store()
    if os.path.isdir(path):
        found = load_directory(store, path)
    else:
        with ArchiveFile(path) as archive:
            found = load_archive(store, archive)
    return list({stored.id: _image(store.get(stored.manifest)) for _, stored in found}.values())


def import_image(path: str, name: str, *, replace: bool = False) -> Image:
    """Make an image of a tar of a root file system, plain or compressed. Raises Conflict for a name that is taken."""
    from kist.store.importing import import_tar
    from kist.store.source import ArchiveFile

    with ArchiveFile(path) as archive:
        return _image(import_tar(_store(), archive, name, replace=replace))


def _store() -> ImageStore:
    from kist.store.images import ImageStore

    return ImageStore()


def _client(reference: Reference, credentials: tuple[str, str] | None, *, tls_verify: bool) -> Client:
    import os

    from kist.registry.client import Client, Credentials
    from kist.registry.hosts import read_hosts

    hosts = read_hosts(os.environ)
    if not tls_verify:
        hosts = hosts.trusting(reference.domain)
    return Client(hosts=hosts, credentials=Credentials(*credentials) if credentials else None)


def _telling(progress: Progress) -> Transferred:
    def tell(blob: Descriptor, state: str, done: int) -> None:
        progress(blob.digest, blob.size if state in ("exists", "pulled", "pushed", "mounted") else done, blob.size)

    return tell


def _image(stored: Stored) -> Image:
    from kist.spec.manifests import platform_words

    config = stored.config
    return Image(
        id=stored.id,
        digest=stored.digest,
        names=stored.names,
        created=stored.created,
        platform=platform_words(stored.platform),
        size_bytes=stored.size_bytes,
        layers=tuple(layer.diff_id for layer in stored.layers),
        entrypoint=config.entrypoint,
        command=config.cmd,
        env=config.env,
        user=config.user,
        workdir=config.working_dir,
        labels=config.labels,
    )
