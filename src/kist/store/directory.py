"""Images in directories: OCI layouts, and the form that skopeo and podman call `dir:`; for `kist load` and `kist save`.

A `dir:` holds one image: manifest.json as it is, a file for each blob by the hexadecimal digits of its digest, of an
index the other manifests as HEX.manifest.json, and `version`. It has no name for the image.
Sources: OCI image-layout.md; containers-transports(5), "dir:path".
"""

from __future__ import annotations

import os

from kist.codec import loads
from kist.errors import InvalidInput
from kist.spec.image import INDEX, INDEXES, MANIFEST, MANIFESTS, Descriptor, Index, check_digest
from kist.spec.manifests import MANIFEST_BYTES_MAX, parse_manifest
from kist.store.blobs import BlobStore
from kist.store.data import StoreErrors
from kist.store.loading import add_all, parse_index
from kist.store.tree import OPEN_DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.store.images import ImageStore
    from kist.store.loading import Loaded, Progress

    Place = Callable[[Descriptor], str]

VERSION = b"Directory Transport Version: 1.1\n"
_READ_BYTES = 1 << 20


def load_directory(store: ImageStore, path: str, progress: Progress | None = None) -> list[Loaded]:
    """Every image of an OCI layout, or the one of a `dir:`. Raises as `loading.load`; NotFound for a missing blob."""
    with StoreErrors(f"cannot load {path}"), BlobStore(store.data_dir) as blobs:
        directory = os.open(path, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
        try:
            if (data := _read(directory, "index.json")) is not None:
                index = parse_index(data)
                for root in index.manifests:
                    _copy_all(blobs, directory, root, in_layout)
            elif (data := _read(directory, "manifest.json")) is not None:
                root = _put_manifest(blobs, data, path)
                _copy_below(blobs, directory, root, in_dir)
                index = Index(2, (root,), INDEX)
            else:
                why = "it has neither an index.json nor a manifest.json"
                raise InvalidInput(f"there is no image in {path}", why=why, code="no-image-archive")
        finally:
            os.close(directory)
        return add_all(store, index, progress)


def in_layout(descriptor: Descriptor) -> str:
    """Where a blob is in an OCI layout."""
    return f"blobs/{check_digest(descriptor.digest).replace(':', '/')}"


def in_dir(descriptor: Descriptor) -> str:
    """Where a blob is in a `dir:`."""
    digits = check_digest(descriptor.digest).partition(":")[2]
    return digits + (".manifest.json" if descriptor.media_type in (*INDEXES, *MANIFESTS) else "")


def _put_manifest(blobs: BlobStore, data: bytes, path: str) -> Descriptor:
    """Nobody says of which type it is but itself."""
    document = loads(data, f"{path}/manifest.json")
    if not isinstance(document, dict):
        why = "its manifest.json is a list, as in archives of docker's, or nothing"
        next_ = f"tar -C {path} -c . | kist load"
        raise InvalidInput(f"there is no image in {path}", why=why, next=next_, code="no-image-archive")
    kind = str(document.get("mediaType") or (INDEX if "manifests" in document else MANIFEST))
    parse_manifest(kind, data)
    return blobs.put(data, kind)


def _copy_all(blobs: BlobStore, directory: int, descriptor: Descriptor, place: Place) -> None:
    """A blob and all that it refers to, as far as it is there."""
    if _copy(blobs, directory, descriptor, place):
        _copy_below(blobs, directory, descriptor, place)


def _copy_below(blobs: BlobStore, directory: int, descriptor: Descriptor, place: Place) -> None:
    """Not only of images: an index may hold what was noted about them, such as buildx's attestations."""
    parsed = parse_manifest(descriptor.media_type, blobs.read(descriptor, MANIFEST_BYTES_MAX))
    if isinstance(parsed, Index):
        for child in parsed.manifests:
            if child.media_type in MANIFESTS:
                _copy_all(blobs, directory, child, place)
    else:
        for part in (parsed.config, *parsed.layers):
            _copy(blobs, directory, part, place)


def _copy(blobs: BlobStore, directory: int, descriptor: Descriptor, place: Place) -> bool:
    """False when it is not there."""
    path = place(descriptor)
    with blobs.ingest(descriptor) as writer:
        if writer.done:
            return True
        fd = _open(directory, path)
        if fd < 0:
            return False
        writer.restart()
        with os.fdopen(fd, "rb", buffering=0) as file:
            while data := file.read(_READ_BYTES):
                writer.write(data)
        writer.commit()
    return True


def _read(directory: int, name: str) -> bytes | None:
    fd = _open(directory, name)
    if fd < 0:
        return None
    with os.fdopen(fd, "rb") as file:
        data = file.read(MANIFEST_BYTES_MAX + 1)
    if len(data) > MANIFEST_BYTES_MAX:
        raise InvalidInput(f"{name} is larger than {MANIFEST_BYTES_MAX} bytes", code="too-large")
    return data


def _open(directory: int, path: str) -> int:
    """-1 when it is not there. A FIFO does not make us wait."""
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return -1
