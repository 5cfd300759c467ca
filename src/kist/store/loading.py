"""Images from archives that docker, podman and skopeo save: `kist load`.

What an archive is follows from its parts: with an index.json it is an OCI layout, with a manifest.json alone Docker's
older form. Members may come in any order, so every file is kept as a blob first, by its own digest; what no image
needs in the end is collected later. Names of members are only ever looked up among the archive's members.

Sources: OCI image-layout.md; moby image/spec, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import os
from contextlib import ExitStack, nullcontext
from functools import partial
from hashlib import sha256

from kist.codec import decode, dumps, loads
from kist.errors import InvalidInput, KistError
from kist.spec.image import (
    CONFIG,
    LAYER,
    MANIFEST,
    Descriptor,
    Index,
    Manifest,
    SavedImage,
    check_digest,
)
from kist.store.ahead import Beside
from kist.store.blobs import BlobStore, Ingest
from kist.store.data import Behind, StoreErrors, new_temporary
from kist.store.incoming import Incoming
from kist.store.layout import NAME, NAME_CONTAINERD
from kist.store.names import chosen_name
from kist.store.prepared import Prepared
from kist.store.tar import HARDLINK, REGULAR, SYMLINK, Limits, TarReader
from kist.store.tree import clean, readable
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from logging import Logger

    from kist.store.images import Image, ImageStore
    from kist.store.source import Source
    from kist.store.tar import Entry

    Progress = Callable[[str, int, int], object]
    Loaded = tuple[str, Image]  # its name, "" for none

_DOCUMENT_MAX = 4 << 20
_LIMITS = Limits(entries=20_000)
_LINKS_MAX = 8
_DOCUMENTS = (b"index.json", b"manifest.json")
_MAGICS = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_READ_BYTES = 1 << 20


def load(store: ImageStore, stream: Source, progress: Progress | None = None) -> list[Loaded]:
    """Every image in the archive, which may be compressed; each gets its names when it is whole.

    A name that another image has goes over to the new one. Raises what TarReader and ImageStore.add raise;
    InvalidInput (no-image-archive, bad-image).
    """
    try:
        return _load(store, stream, progress)
    except KistError:
        try:
            store.gc()  # blobs that came before it failed
        except KistError as e:
            _log().warning("%s", e)
        raise


def _log() -> Logger:
    from logging import getLogger  # 8 ms, seldom of use

    return getLogger(__name__)


def _load(store: ImageStore, stream: Source, progress: Progress | None) -> list[Loaded]:
    with StoreErrors("cannot load images"), BlobStore(store.data_dir) as blobs:
        blobs.begin()
        prepared = Prepared(blobs.data_dir)
        with Incoming(prepared) as incoming, Beside() as beside:
            archive = _Archive(blobs, incoming, beside)
            archive.read(stream)
            incoming.finish()
            beside.finish()
            return _add(store, archive, prepared, progress)


def _add(store: ImageStore, archive: _Archive, prepared: Prepared, progress: Progress | None) -> list[Loaded]:
    if index := archive.documents.get(b"index.json"):
        return add_all(store, parse_index(index), progress, prepared)
    if saved := archive.documents.get(b"manifest.json"):
        return _add_saved(store, archive, prepared, saved, progress)
    raise InvalidInput(
        "there is no image in this archive",
        why="it has neither an index.json nor a manifest.json",
        next="a root file system becomes an image with: kist import FILE NAME",
        code="no-image-archive",
    )


def parse_index(data: bytes) -> Index:
    return decode(Index, loads(data, "index.json"))


def add_all(
    store: ImageStore, index: Index, progress: Progress | None, prepared: Prepared | None = None
) -> list[Loaded]:
    found = []
    for root in index.manifests:
        plain = replace(root, annotations={}, data="", urls=())
        name = _name(root.annotations)
        found.append((name, store.add(name or None, plain, progress, prepared=prepared)))
    return found


def _name(annotations: Mapping[str, str]) -> str:
    """What an OCI layout calls an image, in containerd's or the specification's word; "" for what is no name."""
    text = annotations.get(NAME_CONTAINERD) or annotations.get(NAME, "")
    try:
        return chosen_name(text) if text else ""
    except InvalidInput:
        return ""


def _add_saved(
    store: ImageStore, archive: _Archive, prepared: Prepared, data: bytes, progress: Progress | None
) -> list[Loaded]:
    items = loads(data, "manifest.json")
    if not isinstance(items, list):
        raise InvalidInput("manifest.json is no list", code="bad-image")
    found = []
    for i, item in enumerate(items):
        saved = decode(SavedImage, item, f"$[{i}]")
        config = replace(archive.find(saved.config), media_type=CONFIG)
        layers = tuple([archive.layer(path) for path in saved.layers])
        root = archive.blobs.put(dumps(Manifest(2, config, layers, MANIFEST)).encode(), MANIFEST)
        for name in [chosen_name(tag) for tag in saved.repo_tags] or [""]:
            found.append((name, store.add(name or None, root, progress, prepared=prepared)))
    return found


def _commit(writer: Ingest, stack: ExitStack) -> None:
    with stack:
        writer.commit()


def _discard(writer: Ingest, kind: object, *_: object) -> None:
    """After a failure: no later load goes on where this one ended."""
    if kind is not None:
        writer.discard()


def _adopt(blobs: BlobStore, making: str, fd: int, digest: str, stack: ExitStack) -> None:
    with stack, StoreErrors("cannot load images"):
        blobs.adopt(making, fd, "", digest)


def _remove(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


class _Archive:
    """The members of an archive, as blobs. They wait for the disk in `beside`, while the next ones are read."""

    def __init__(self, blobs: BlobStore, incoming: Incoming, beside: Beside) -> None:
        self.blobs = blobs
        self._incoming = incoming
        self._beside = beside
        self.documents: dict[bytes, bytes] = {}
        self._files: dict[bytes, Descriptor] = {}
        self._links: dict[bytes, bytes] = {}

    def read(self, stream: Source) -> None:
        with TarReader(stream, _LIMITS) as reader:
            for entry in reader:
                self._beside.check()
                self._entry(entry, reader)

    def _entry(self, entry: Entry, reader: TarReader) -> None:
        name = b"/".join(clean(entry.name))
        if entry.kind == SYMLINK:
            head = name.rpartition(b"/")[0]
            self._links[name] = b"/".join(clean(head + b"/" + entry.linkname))
        elif entry.kind == HARDLINK:
            self._links[name] = b"/".join(clean(entry.linkname))
        elif entry.kind == REGULAR and entry.sparse is None:
            self._file(name, entry, reader)

    def _file(self, name: bytes, entry: Entry, reader: TarReader) -> None:
        if name in _DOCUMENTS:
            if entry.size > _DOCUMENT_MAX:
                raise InvalidInput(f"{readable(name)} has {entry.size} bytes", code="too-large")
            self.documents[name] = b"".join(map(bytes, iter(reader.piece, b"")))
            return
        parts = name.split(b"/")
        if len(parts) == 3 and parts[0] == b"blobs":
            digest = check_digest(os.fsdecode(b":".join(parts[1:])), readable(name))
            self._files[name] = descriptor = Descriptor("", digest, entry.size)
            with ExitStack() as stack:
                writer = stack.enter_context(self.blobs.ingest(descriptor))
                if not writer.done:
                    writer.restart()
                    stack.push(partial(_discard, writer))
                    self._keep(reader, writer.write)
                    self._beside.give(partial(_commit, writer, stack.pop_all()))
            return
        self._files[name] = self._spool(reader)

    def _spool(self, reader: TarReader) -> Descriptor:
        """Keep a file of which the archive does not say the digest."""
        making, found = new_temporary(self.blobs.data_dir), sha256()
        self.blobs.begin()
        with ExitStack() as stack:
            stack.callback(_remove, making)
            fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            file = Behind(fd)

            def write(piece: bytes) -> None:
                found.update(piece)
                file.write(piece)

            self._keep(reader, write)
            digest, size = f"sha256:{found.hexdigest()}", os.fstat(fd).st_size
            self._beside.give(partial(_adopt, self.blobs, making, fd, digest, stack.pop_all()))
        return Descriptor("", digest, size)

    def _keep(self, reader: TarReader, write: Callable[[bytes], object]) -> None:
        """Write the member's content; what is a compressed layer is prepared by the same reading of it."""
        head = bytes(reader.piece(4))
        write(head)
        feed = self._incoming.begin(wait=True) if head.startswith(tuple(_MAGICS)) else None
        with feed or nullcontext():
            if feed:
                feed.write(head)
            while piece := bytes(reader.piece()):
                write(piece)
                if feed:
                    feed.write(piece)
            if feed:
                feed.end()

    def find(self, path: str) -> Descriptor:
        name = b"/".join(clean(os.fsencode(path)))
        for _ in range(_LINKS_MAX):
            if (found := self._files.get(name)) is not None:
                return found
            name = self._links.get(name, b"")
        raise InvalidInput(f"manifest.json names {path[:200]!r}, which is not in the archive", code="bad-image")

    def layer(self, path: str) -> Descriptor:
        found = self.find(path)
        fd = self.blobs.open(found.digest)
        try:
            head = os.read(fd, 4)
        finally:
            os.close(fd)
        kind = next((suffix for magic, suffix in _MAGICS.items() if head.startswith(magic)), "")
        return replace(found, media_type=LAYER + kind)
