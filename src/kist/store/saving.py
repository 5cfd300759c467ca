"""Images as archives that docker, podman, skopeo and containerd load: `kist save`.

One form serves them all: an OCI layout, which in Docker's form has a manifest.json beside it that names the same blobs.
The blobs are those of the store, byte for byte, so digests stay; the same images give the same archive.

Sources: OCI image-layout.md; moby image/spec, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import os

from kist.codec import dumps
from kist.errors import InvalidInput, KistError
from kist.spec.image import INDEX, INDEXES, MANIFESTS, Descriptor, Index, Manifest, SavedImage
from kist.spec.manifests import MANIFEST_BYTES_MAX, parse_manifest
from kist.store.blobs import BlobStore
from kist.store.data import StoreErrors
from kist.store.directory import VERSION, in_dir, in_layout
from kist.store.documents import read_manifest
from kist.store.layout import NAME, NAME_CONTAINERD
from kist.store.names import full_name, name_of
from kist.store.pack import directory_header, file_header
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kist.store.images import ImageStore
    from kist.store.pack import Sink

ARCHIVES = ("docker-archive", "oci-archive")
DIRECTORIES = ("oci-dir", "dir")
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_READ_BYTES = 1 << 20


class _Part(Value):
    """A file of the layout: a blob of the store, or what is made here."""

    name: str
    size: int
    digest: str = ""
    content: bytes = b""


def save(store: ImageStore, names: Iterable[str], sink: Sink, format: str) -> None:
    """Write the images to `sink`, as `docker-archive` or `oci-archive`. A name saves itself, an id all its names.

    Raises NotFound, CorruptStore; KistError when `sink` takes no more.
    """
    with StoreErrors("cannot save images"), BlobStore(store.data_dir) as blobs:
        directories: set[str] = set()
        for part in _parts(store, blobs, names, format):
            for directory in _above(part.name):
                if directory not in directories:  # an ordinary user's skopeo makes only those it is told of
                    directories.add(directory)
                    sink.write(directory_header(directory.encode()))
            sink.write(file_header(part.name.encode(), part.size))
            for data in _content(blobs, part):
                sink.write(data)
            sink.write(bytes(-part.size % 512))
        sink.write(bytes(1024))


def save_file(store: ImageStore, names: Iterable[str], path: str, format: str) -> None:
    """As `save`; the file is there when it is whole. A FIFO or device is written to as it is."""
    special = os.path.exists(path) and not os.path.isfile(path)
    making = path if special else f"{path}.{os.getpid()}.part"
    with StoreErrors(f"cannot write {path}"):
        try:
            with open(making, "wb" if special else "xb") as file:
                save(store, names, file, format)
            if not special:
                os.rename(making, path)
        except BaseException:
            if not special and os.path.exists(making):
                os.unlink(making)
            raise


def save_directory(store: ImageStore, names: Sequence[str], path: str, format: str) -> None:
    """Make `oci-dir`, an OCI layout of the images, or `dir` of one image, in the directory `path`, which must be empty
    or not be there."""
    with StoreErrors(f"cannot save to {path}"), BlobStore(store.data_dir) as blobs:
        os.makedirs(path, exist_ok=True)
        if os.listdir(path):
            raise InvalidInput(f"{path} is not empty", next="choose a directory that is not there yet")
        for part in _dir_parts(store, blobs, names) if format == "dir" else _parts(store, blobs, names, format):
            whole = f"{path}/{part.name}"
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            with open(whole, "xb") as file:
                for data in _content(blobs, part):
                    file.write(data)


def _above(path: str) -> list[str]:
    """`blobs`, `blobs/sha256`."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _content(blobs: BlobStore, part: _Part) -> Iterator[bytes]:
    if not part.digest:
        yield part.content
        return
    left = part.size
    with os.fdopen(blobs.open(part.digest), "rb", buffering=0) as file:
        while left and (data := file.read(min(left, _READ_BYTES))):
            left -= len(data)
            yield data
    if left:
        raise KistError(f"the blob {part.digest} got shorter while it was read", code="changed-while-read")


def _parts(store: ImageStore, blobs: BlobStore, names: Iterable[str], format: str) -> Iterator[_Part]:
    """Everything, what others read first coming first."""
    if format not in (*ARCHIVES, *DIRECTORIES):
        next_ = f"one of: {', '.join((*ARCHIVES, *DIRECTORIES))}"
        raise InvalidInput(f"{format[:40]!r} is no format of an image", path="format", next=next_)
    blobs.begin()
    roots: dict[tuple[str, str], tuple[Descriptor, str]] = {}  # (name, digest) -> what is saved, the image's manifest
    for text in names:
        image = store.get(text)
        root = _whole_root(blobs, store.root(text), image.manifest)
        asked = [name for name in image.names if name == _as_name(text)] or image.names
        # Archives have names with tags; a digest is in them anyway.
        for name in [name for name in asked if "@" not in name] or [""]:
            roots[name, root.digest] = root, image.manifest
    saved: dict[str, SavedImage] = {}
    needed: dict[str, Descriptor] = {}
    for (name, _), (root, chosen) in roots.items():
        for manifest in _walk(blobs, root, needed):
            if manifest.digest == chosen:
                document = read_manifest(blobs, manifest)
                before = saved.get(
                    chosen, SavedImage(in_layout(document.config), (), tuple(map(in_layout, document.layers)))
                )
                saved[chosen] = replace(before, repo_tags=(*before.repo_tags, *([full_name(name)] if name else [])))
    index = Index(2, tuple([_named(root, name) for (name, _), (root, _) in roots.items()]), INDEX)
    documents = {"oci-layout": _LAYOUT, "index.json": dumps(index).encode()}
    if format == "docker-archive":
        documents["manifest.json"] = dumps(list(saved.values())).encode()
    for path, content in documents.items():
        yield _Part(path, len(content), content=content)
    for path, descriptor in needed.items():  # layers in their order: who reads them can put them on each other
        yield _Part(path, descriptor.size, descriptor.digest)


def _dir_parts(store: ImageStore, blobs: BlobStore, names: Sequence[str]) -> Iterator[_Part]:
    """See directory.py."""
    blobs.begin()
    if len(names) != 1:
        raise InvalidInput("a dir: holds one image", path="--format", next="oci-dir holds several")
    root, needed = _whole_root(blobs, store.root(names[0]), store.get(names[0]).manifest), dict[str, Descriptor]()
    for _ in _walk(blobs, root, needed):
        pass
    del needed[in_layout(root)]
    yield _Part("version", len(VERSION), content=VERSION)
    yield _Part("manifest.json", root.size, root.digest)
    for part in needed.values():
        yield _Part(in_dir(part), part.size, part.digest)


def _as_name(text: str) -> str:
    try:
        return name_of(text)
    except InvalidInput:
        return ""


def _whole_root(blobs: BlobStore, root: Descriptor, manifest: str) -> Descriptor:
    """`root`, unless it is an index of which other platforms' images are not here: then the manifest."""
    if root.media_type not in INDEXES:
        return root
    children = _children(blobs, root)
    if all(map(blobs.has, children)):
        return root
    return next(child for child in children if child.digest == manifest)


def _children(blobs: BlobStore, index: Descriptor) -> tuple[Descriptor, ...]:
    parsed = _parsed(blobs, index)
    assert isinstance(parsed, Index)
    return parsed.manifests


def _parsed(blobs: BlobStore, descriptor: Descriptor) -> Index | Manifest:
    return parse_manifest(descriptor.media_type, blobs.read(descriptor, MANIFEST_BYTES_MAX))


def _walk(blobs: BlobStore, root: Descriptor, needed: dict[str, Descriptor]) -> Iterator[Descriptor]:
    """The manifests below `root`, of images and of what was noted about them; all blobs are put into `needed`."""
    needed[in_layout(root)] = root
    if root.media_type in INDEXES:
        for child in _children(blobs, root):
            yield from _walk(blobs, child, needed)
    elif root.media_type in MANIFESTS:
        document = _parsed(blobs, root)
        assert isinstance(document, Manifest)
        for part in (document.config, *document.layers):
            needed[in_layout(part)] = part
        yield root


def _named(root: Descriptor, name: str) -> Descriptor:
    if not name:
        return root
    return replace(root, annotations={**root.annotations, NAME_CONTAINERD: full_name(name), NAME: full_name(name)})
