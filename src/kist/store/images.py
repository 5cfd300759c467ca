"""Images: names, what they stand for, and root file systems ready to be mounted."""

from __future__ import annotations

import os

from kist.errors import CorruptStore, NotFound
from kist.spec.image import ContainerConfig, Descriptor, ImageConfig, Platform
from kist.store import locks
from kist.store.data import StoreErrors, check_private, default_data_dir
from kist.store.forms import DIRECTORIES, EROFS, best_form
from kist.store.layout import Named, change_layout, find, named, read_layout
from kist.store.locks import Lock
from kist.store.names import chosen_name, name_of
from kist.store.records import Layer, Record, read_record, read_small, ready
from kist.store.summary import Skipped
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from kist.store.prepared import Prepared

    Entries = Sequence[Named]

    # (digest of the layer's blob, bytes of the blob prepared so far, all its bytes)
    Progress = Callable[[str, int, int], object]

__all__ = ["Image", "ImageLease", "ImageStore", "Layer", "Removed"]


class Image(Value):
    """`id` is the config's digest, `digest` that of what was added (manifest or index), as docker shows them."""

    id: str
    digest: str
    manifest: str
    names: tuple[str, ...]  # REPOSITORY:TAG, REPOSITORY@DIGEST, in docker's short form; none: another has its name
    created: str
    platform: Platform
    size_bytes: int  # of all files
    layers: tuple[Layer, ...]
    config: ContainerConfig = ContainerConfig()
    skipped: tuple[Skipped, ...] = ()  # what this host could not take of it

    @property
    def short_id(self) -> str:
        return self.id.partition(":")[2][:12]


class Mountable(Value):
    """What to mount for an image: an EROFS image with its devices, or directories, the uppermost first. Absolute."""

    erofs: str = ""
    devices: tuple[str, ...] = ()
    lowers: tuple[str, ...] = ()


class Removed(Value):
    """`untagged`: names; `deleted`: ids of images. `reclaimed_bytes` of the disk."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    reclaimed_bytes: int = 0


class ImageLease:
    """An image in use: nothing of it is deleted while this is open. A process that inherits `fd` keeps the lease."""

    def __init__(self, lock: Lock, data_dir: str, record: Record, form: str) -> None:
        self._lock = lock
        self._data_dir = data_dir
        self._record = record
        self.form = form

    @property
    def fd(self) -> int:
        return self._lock.fd

    @property
    def manifest(self) -> str:
        return self._record.manifest.digest

    @property
    def config(self) -> ImageConfig:
        return self._record.config

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple([layer.diff_id for layer in self._record.layers])

    @property
    def mountable(self) -> Mountable:
        erofs, base = self._record.erofs, self._data_dir
        if self.form == EROFS and erofs is not None:
            return Mountable(f"{base}/{erofs.index}", tuple([f"{base}/{path}" for path in erofs.devices]))
        return Mountable(lowers=tuple([f"{base}/{path}" for path in reversed(self._record.roots or ())]))

    def read(self, name: str) -> str:
        """`passwd` or `group` of the image; "" if it has none that is a regular file of at most 1 MiB."""
        with StoreErrors("cannot read the image's files"):
            return read_small(self._data_dir, self._record.manifest.digest, name)

    def close(self) -> None:
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ImageStore:
    """The images under one data directory. Safe for concurrent threads and processes.

    Nothing is created before the first image. Every method raises KistError (disk-full, store-io, data-dir), Refused
    when the directory is another user's, InvalidInput for a malformed name.
    """

    def __init__(self, data_dir: str = "") -> None:
        self.data_dir = os.path.abspath(data_dir or default_data_dir(os.environ))

    # --- making

    def add(
        self,
        name: str | None,
        descriptor: Descriptor,
        progress: Progress | None = None,
        *,
        replace: bool = True,
        prepared: Prepared | None = None,
    ) -> Image:
        """Make an image of a manifest whose blobs are all in the BlobStore, and give it its name: last, and at once.

        `descriptor` may also be an index: then of its manifests that are here the one for this machine is taken.
        Every digest and DiffID is verified first; whatever fails before the end, also by SIGKILL, changes no name.
        A name that another image had goes over to this one; REPOSITORY@DIGEST is one, too. Without a name the image has
        none until `tag`. `prepared` may know its layers already.
        Raises Conflict when the name is taken, unless `replace`; InvalidInput (bad-image, digest-mismatch, tar-...),
        NotFound (no-blob), Unsupported (not-an-image).
        """
        from kist.store.add import prepare

        name = "" if name is None else name_of(name) if "@" in name else chosen_name(name)
        with StoreErrors(f"cannot make the image {name or descriptor.digest}"):
            manifest, use = prepare(self.data_dir, descriptor, progress, prepared=prepared)
            with use:
                change_layout(self.data_dir, lambda e: named(e, Named(name, descriptor, manifest), replace=replace))
        return self.get(manifest)

    def tag(self, name: str, new: str) -> None:
        """Give an image another name, which it takes from whatever had it. Raises NotFound, Conflict."""
        wanted = chosen_name(new)

        def change(entries: Entries) -> Entries:
            found = self._find(entries, name)[0]
            return named(entries, Named(wanted, found.root, found.manifest))

        with StoreErrors(f"cannot name the image {name}"):
            change_layout(self.data_dir, change)

    # --- asking

    def get(self, name: str) -> Image:
        """By name, NAME@sha256:..., digest, id, or an id's beginning that only one has. Raises NotFound, Conflict."""
        with StoreErrors(f"cannot look for the image {name}"):
            entries = self.entries()
            found = self._find(entries, name)[0].manifest
            return image_of([entry for entry in entries if entry.manifest == found], read_record(self.data_dir, found))

    def list(self) -> list[Image]:
        """All images, the last one made first. One whose record is damaged is left out, with a warning in the log."""
        with StoreErrors(f"cannot list the images in {self.data_dir}"):
            if not self.entries():
                return []
            from kist.store.catalog import Catalog

            with Catalog(self.data_dir) as catalog:
                for text in catalog.damaged:
                    import logging

                    logging.getLogger(__name__).warning("%s", text)
                return catalog.images()

    def root(self, name: str) -> Descriptor:
        """What was added as this image, manifest or index: what `push` and `save` begin with. Raises as `get`."""
        with StoreErrors(f"cannot look for the image {name}"):
            return self._find(self.entries(), name)[0].root

    # --- using

    def lease(self, name: str) -> ImageLease:
        """Until it is closed, what a container needs of the image stays, also when the name goes.

        What is missing on this host, after a crash of the machine or in the form that this kernel takes, is made first.
        Raises as `get`, and what `add` raises.
        """
        with StoreErrors(f"cannot open the image {name}"):
            while True:
                manifest = self._find(self.entries(), name)[0].manifest
                lock = Lock(self.data_dir, locks.of_digest(locks.IMAGE, manifest), shared=True)
                try:
                    record = read_record(self.data_dir, manifest)
                    return self._open(lock, record)
                except NotFound as e:
                    lock.close()
                    if any(entry.manifest == manifest for entry in self.entries()):
                        raise CorruptStore(f"the image {name} is damaged", why=str(e),
                                           next="kist store check --repair") from e  # fmt: skip
                    continue  # removed meanwhile
                except BaseException:
                    lock.close()
                    raise

    def _open(self, lock: Lock, record: Record) -> ImageLease:
        best = best_form(self.data_dir)
        for form in dict.fromkeys((best, DIRECTORIES)):
            if ready(self.data_dir, record, form):
                return ImageLease(lock, self.data_dir, record, form)
        from kist.store.add import prepare

        _, use = prepare(self.data_dir, record.manifest, None)
        use.close()
        record = read_record(self.data_dir, record.manifest.digest)
        return ImageLease(lock, self.data_dir, record, best if ready(self.data_dir, record, best) else DIRECTORIES)

    # --- removing

    def remove(self, name: str, *, force: bool = False, background: bool = False) -> Removed:
        """Take a name away, and with the last one the image. An id stands for all names of the image.

        Raises NotFound; Conflict when it would end an image from which a container runs, or an id has several names,
        unless `force`: then what a container needs stays until it ends. `background`: see collect.
        """
        from kist.store.collect import remove

        with StoreErrors(f"cannot remove the image {name}"):
            find = lambda entries: self._find(entries, name)  # noqa: E731
            return remove(self.data_dir, find, name, force=force, background=background)

    def prune(self, filters: Mapping[str, Sequence[str]]) -> Removed:
        """Remove images without a name; with the filter dangling=false all that no container runs from. The filters
        until, label and label! leave out some, as docker's. Raises InvalidInput for another filter."""
        from kist.store.collect import prune

        with StoreErrors("cannot remove images"):
            return prune(self, filters)

    def gc(self) -> Removed:
        """Delete what no image refers to and nobody is using, and bring to the disk what is not there yet.

        Nothing is deleted while something is being pulled, loaded or imported.
        """
        from kist.store.collect import collect

        with StoreErrors("cannot clean the store"):
            return Removed(reclaimed_bytes=collect(self.data_dir, settle=True))

    # ---

    def entries(self) -> Entries:
        """What index.json says: names, and what they stand for."""
        try:
            check_private(self.data_dir)
        except FileNotFoundError:
            return []  # nothing was made yet
        return read_layout(self.data_dir)

    def _find(self, entries: Entries, name: str) -> Entries:
        return find(entries, name, self._id)

    def _id(self, manifest: str) -> str:
        try:
            return read_record(self.data_dir, manifest).id
        except (CorruptStore, NotFound):
            return ""


def image_of(entries: Sequence[Named], record: Record) -> Image:
    """`entries` are all that stand for the image."""
    config = record.config
    return Image(
        id=record.id,
        digest=entries[0].root.digest,
        manifest=record.manifest.digest,
        names=tuple(sorted(entry.name for entry in entries if entry.name)),
        created=config.created,
        platform=Platform(config.architecture, config.os, config.variant, config.os_version),
        size_bytes=sum(layer.file_bytes for layer in record.layers),
        layers=record.layers,
        config=config.config or ContainerConfig(),
        skipped=record.skipped,
    )
