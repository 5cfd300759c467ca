"""What a container wrote over its image: the upper directory of its overlay, read as what it means.

Source: Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories"; OCI layer.md, "Whiteouts".
"""

from __future__ import annotations

import errno
import os
import stat

from kist.errors import Unsupported
from kist.store.pack import Packer, pack_tree
from kist.store.tree import OPEN_DIRECTORY, Walker, show
from kist.store.view import OPAQUE, WHITEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kist.store.pack import Sink
    from kist.store.summary import Summary
    from kist.store.tree import Directory

_PREFIXES = (b"trusted.overlay.", b"user.overlay.")  # the second with the mount option userxattr


def write_changes(uppers: Sequence[tuple[str, bytes]], sink: Sink) -> None:
    """For each name in the upper directories `KIND PATH NUL`: D whiteout, O directory that hides what is below, / other
    directory, F anything else. Paths are absolute. Raises OSError."""
    for path, where in uppers:
        for kind, name in _changes(path):
            sink.write(kind + b" " + where.rstrip(b"/") + b"/" + name + b"\0")


def _changes(path: str) -> Iterator[tuple[bytes, bytes]]:
    try:
        root = os.open(path, OPEN_DIRECTORY)
    except FileNotFoundError:
        return  # it was never started
    try:
        with Walker(root) as walker:
            todo = [b""]
            while todo:
                directory = walker.open_real(todo.pop())
                for name in sorted(map(os.fsencode, os.listdir(directory.fd))):
                    status, path_ = os.stat(name, dir_fd=directory.fd, follow_symlinks=False), directory.join(name)
                    if stat.S_ISDIR(status.st_mode):
                        yield b"O" if _is_opaque_at(directory.fd, name) else b"/", path_
                        todo.append(path_)
                    else:
                        yield b"D" if is_whiteout(status) else b"F", path_
    finally:
        os.close(root)


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque_at(parent: int, name: bytes) -> bool:
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    try:
        return is_opaque(fd)
    finally:
        os.close(fd)


def is_opaque(directory: int) -> bool:
    """Raises Unsupported for a directory that was renamed: what it stands for is elsewhere."""
    for prefix in _PREFIXES:
        if _attribute(directory, prefix + b"redirect"):
            raise Unsupported("a directory of the image was renamed in the container", why="the overlay was mounted "
                              "with redirect_dir", next="kist export", code="redirected")  # fmt: skip
        if _attribute(directory, prefix + b"opaque") == b"y":
            return True
    return False


def _attribute(fd: int, name: bytes) -> bytes:
    try:
        return os.getxattr(fd, name)
    except OSError as e:
        if e.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return b""


def pack_layer(path: str, sink: Sink, left_out: frozenset[bytes]) -> Summary:
    """The upper directory as a layer of an image; `left_out`: paths without a slash in front. Raises KistError."""
    return pack_tree(path, _LayerPacker(sink, left_out))


class _LayerPacker(Packer):
    def __init__(self, sink: Sink, left_out: frozenset[bytes]) -> None:
        super().__init__(sink)
        self._left_out = left_out

    def directory(self, directory: Directory) -> Iterator[bytes]:
        opaque = directory.path and is_opaque(directory.fd)
        for path in super().directory(directory):  # its own entry comes first
            if opaque:
                self.empty_file(directory.join(OPAQUE))
                opaque = False
            if path not in self._left_out:
                yield path
        if opaque:
            self.empty_file(directory.join(OPAQUE))

    def leaf(self, directory: Directory, name: bytes, status: os.stat_result) -> None:
        path = directory.join(name)
        if path in self._left_out:
            return
        if name.startswith(WHITEOUT):
            raise Unsupported(f"an image can't hold {show(path)}", why="such names say in a layer what it hides",
                              next="kist export", code="whiteout-name")  # fmt: skip
        if is_whiteout(status):
            self.empty_file(directory.join(WHITEOUT + name))
        else:
            super().leaf(directory, name, status)
