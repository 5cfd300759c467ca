"""What files differ between two images: `kist image diff`."""

from __future__ import annotations

import os
import stat

from kist.store import directories, erofs
from kist.store.data import StoreErrors
from kist.store.forms import DIRECTORIES
from kist.store.prepared import Prepared
from kist.store.view import Inode
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.store.images import ImageStore
    from kist.store.view import Node

_READ_BYTES = 1 << 20


class Difference(Value):
    """`kind`: A only in the second, D only in the first, C in both and not the same; then `what` says in which way:
    type, mode, owner, size, content, target, device, attributes, time."""

    path: bytes
    kind: str
    what: tuple[str, ...] = ()


def compare(store: ImageStore, one: str, other: str) -> Iterator[Difference]:
    """In the order of the paths; what lies below a directory that only one has is left out."""
    with StoreErrors("cannot compare the images"), store.lease(one) as first, store.lease(other) as second:
        before, after = (_Files(store.data_dir, lease.diff_ids, lease.form) for lease in (first, second))
        yield from _compare(before, after)


class _Files:
    """An image's files by path."""

    def __init__(self, data_dir: str, diff_ids: tuple[str, ...], form: str) -> None:
        self.diff_ids = diff_ids
        self._prepared = Prepared(data_dir)
        self._form = form
        self.nodes = dict(self._prepared.view(diff_ids, form).walk())

    def origin(self, inode: Inode) -> tuple[str, int]:
        """Two files that came from the same place are the same."""
        return (self.diff_ids[inode.layer], inode.place) if inode.layer < len(self.diff_ids) else ("", inode.place)

    def pieces(self, path: bytes, inode: Inode) -> Iterator[bytes]:
        if self._form == DIRECTORIES:
            fd, left = directories.open_layered(self._prepared.roots(self.diff_ids), path), inode.size
        else:
            name = "extra" if inode.place >= erofs.EXTRA else "tar"
            fd = os.open(f"{self._prepared.layer_path(self.diff_ids[inode.layer])}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            os.lseek(fd, inode.place & ~erofs.EXTRA, os.SEEK_SET)
            left = inode.size
        try:
            while left and (data := os.read(fd, min(left, _READ_BYTES))):
                left -= len(data)
                yield data
        finally:
            os.close(fd)


def _compare(before: _Files, after: _Files) -> Iterator[Difference]:
    skip: bytes | None = None
    for path in sorted({*before.nodes, *after.nodes}, key=lambda path: path.split(b"/")):
        if skip is not None and path.startswith(skip):
            continue
        skip = None
        one, other = before.nodes.get(path), after.nodes.get(path)
        if one is not None and other is not None:
            if what := tuple(_ways(path, before, one, after, other)):
                yield Difference(path, "C", what)
            continue
        yield Difference(path, "D" if other is None else "A")
        if not isinstance(one or other, Inode):
            skip = path + b"/"


def _ways(path: bytes, before: _Files, one: Node, after: _Files, other: Node) -> Iterator[str]:
    a, b = (node if isinstance(node, Inode) else node.inode for node in (one, other))
    if a is b:
        return
    kind = stat.S_IFMT(a.mode)
    if kind != stat.S_IFMT(b.mode):
        yield "type"
        return
    if kind == stat.S_IFREG:
        if a.size != b.size:
            yield "size"
        elif before.origin(a) != after.origin(b) and not _same(before.pieces(path, a), after.pieces(path, b)):
            yield "content"
    elif kind == stat.S_IFLNK:
        if a.target != b.target:
            yield "target"
    elif kind in (stat.S_IFCHR, stat.S_IFBLK) and a.place != b.place:
        yield "device"
    if a.mode != b.mode and kind != stat.S_IFLNK:
        yield "mode"
    if (a.uid, a.gid) != (b.uid, b.gid):
        yield "owner"
    if a.xattrs != b.xattrs:
        yield "attributes"
    if a.mtime_ns != b.mtime_ns:
        yield "time"


def _same(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    """Both in pieces of the same sizes, since the files have the same size."""
    return all(a == b for a, b in zip(one, other, strict=True))
