"""Images: names, what they stand for, and root file systems ready to be mounted. (The interface; see git log.)"""

from __future__ import annotations

import os

from kist.spec.image import ContainerConfig, Descriptor, ImageConfig, Platform
from kist.store.data import default_data_dir
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kist.store.names import Reference

    # (digest of the layer's blob, bytes of the blob prepared so far, all its bytes)
    Progress = Callable[[str, int, int], None]


class Layer(Value):
    """`digest` and `size` are of the blob; `diff_id` and `tar_bytes` of the uncompressed archive."""

    media_type: str
    digest: str
    size: int
    diff_id: str
    tar_bytes: int = 0
    file_bytes: int = 0  # of all files, holes included
    entries: int = 0


class Image(Value):
    """`id` is the config's digest, `digest` the manifest's, as docker shows them. `size_bytes`: of all files."""

    id: str
    digest: str
    names: tuple[str, ...]  # REPOSITORY:TAG, in docker's short form; none: it lost its name to another
    created: str
    platform: Platform
    size_bytes: int
    layers: tuple[Layer, ...]
    config: ContainerConfig = ContainerConfig()


class ImageStore:
    """The images under one data directory. Safe for concurrent threads and processes.

    Every method raises KistError (disk-full, store-io), Refused when the directory is another user's.
    """

    def __init__(self, data_dir: str = "") -> None:
        self.data_dir = os.path.abspath(data_dir or default_data_dir(os.environ))

    def add(self, reference: Reference | str | None, descriptor: Descriptor, progress: Progress | None = None) -> Image:
        """Make an image of a manifest whose blobs are all in the BlobStore, and give it its name: last, and at once.

        `descriptor` may also be an index: then of its manifests that are here the one for this machine is taken.
        Every digest and DiffID is verified first; whatever fails before the end, also by SIGKILL, changes no name.
        A name that another image had goes over to this one. Without a reference the image has no name until `tag`.
        `progress` may be called from other threads.
        Raises InvalidInput (bad-image, digest-mismatch, tar-...), NotFound (no-blob), Unsupported (not-an-image).
        """
        raise NotImplementedError

    def get(self, name: str) -> Image:
        """By name, NAME@sha256:..., digest, id, or an id's beginning that only one has. Raises NotFound, Conflict."""
        raise NotImplementedError

    def list(self) -> list[Image]:
        raise NotImplementedError

    def tag(self, name: str, reference: Reference | str) -> None:
        """Give an image another name, which it takes from whatever had it."""
        raise NotImplementedError

    def manifest(self, name: str) -> Descriptor:
        """What `push` and `save` begin with: the manifest's descriptor, or the index's when it was added as one."""
        raise NotImplementedError

    def remove(self, name: str, *, force: bool = False) -> Sequence[str]:
        """Take a name away, and with the last one the image. Returns what went, in docker's words.

        Raises Conflict when a container runs from it, or an id has several names, unless `force`.
        """
        raise NotImplementedError

    def lease(self, name: str) -> ImageLease:
        """Until it is closed, what a container needs of the image stays, also when the name goes."""
        raise NotImplementedError

    def gc(self) -> int:
        raise NotImplementedError

    def prune(self, filters: Mapping[str, Sequence[str]]) -> Sequence[str]:
        raise NotImplementedError


class ImageLease:
    """An image in use. A process that inherits `fd` keeps the lease with it."""

    fd: int
    config: ImageConfig

    def close(self) -> None:
        raise NotImplementedError
