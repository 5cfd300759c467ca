"""Writing a directory tree as a PAX archive: the same tree gives the same bytes.

Entries go directory by directory, names in byte order. Mode, owner, nanosecond times, hard links, devices, extended
attributes are kept; holes are written as zeros, sockets left out, other file systems mounted inside appear as empty
directories. Source: POSIX.1-2017 pax(1).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct

from kist.errors import KistError
from kist.store.data import disk_error
from kist.store.layers import is_portable
from kist.store.summary import Skipped, Summary
from kist.store.tree import OPEN_DIRECTORY, Directory, Walker, readable, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol
else:
    Protocol = object

_READ_BYTES = 1 << 20
_OCTAL_7, _OCTAL_11 = 8**7, 8**11  # what the numeric fields of a header hold
# name mode uid gid size mtime checksum type linkname magic version (user, group) devmajor devminor (prefix)
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s64x8s8s167x")
_TYPES = {
    stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5", stat.S_IFIFO: b"6",
}  # fmt: skip


class Sink(Protocol):
    """Any binary file opened for writing that writes all it is given: buffered, or BytesIO."""

    def write(self, data: bytes, /) -> object: ...


def pack(root: int | str, sink: Sink) -> Summary:
    """Write the tree under `root` (a descriptor or a path) as a tar archive to `sink`.

    Raises KistError (store-io, disk-full; changed-while-read when a file got shorter).
    """
    return pack_tree(root, Packer(sink))


def pack_tree(root: int | str, packer: Packer) -> Summary:
    """The same, as that packer has it."""
    root_fd = os.open(root, OPEN_DIRECTORY & ~os.O_NOFOLLOW) if isinstance(root, str) else os.dup(root)
    try:
        with Walker(root_fd) as walker:
            packer.device = os.fstat(root_fd).st_dev
            todo = [b""]
            while todo:
                directory = walker.open_real(todo.pop())
                todo += reversed(list(packer.directory(directory)))
            return packer.finish()
    except OSError as e:
        raise disk_error("cannot write the tar archive", e) from e
    finally:
        os.close(root_fd)


def pack_one(parent: int, name: bytes, packer: Packer) -> Summary:
    """The same for one name that is no directory. Raises OSError, KistError."""
    packer.leaf(Directory(parent, b""), name, os.stat(name, dir_fd=parent, follow_symlinks=False))
    return packer.finish()


class Packer:
    """An archive being written. `prefix`: what its names begin with, in place of the root's. `every_mount`: what is
    mounted inside is packed too. `hollow`: directories whose content is left out. `renamed`: the name in the archive of
    a single file."""

    def __init__(
        self, sink: Sink, *, prefix: bytes = b"", every_mount: bool = False, hollow: frozenset[bytes] = frozenset(),
        renamed: bytes = b"",
    ) -> None:  # fmt: skip
        self._sink = sink
        self._hollow = hollow
        self.device = -1
        self._prefix, self._every_mount, self._renamed = prefix, every_mount, renamed
        self._hash = hashlib.sha256()
        self._links: dict[tuple[int, int], bytes] = {}  # inode -> the name that has its content
        self._entries = self._file_bytes = self._archive_bytes = 0
        self._sockets: list[bytes] = []

    def directory(self, directory: Directory) -> Iterator[bytes]:
        """Write the directory and what is in it, but for its subdirectories: their paths are yielded."""
        self._header(self._named(directory.path) + b"/", os.fstat(directory.fd), _xattrs(directory.fd))
        for name in sorted(set(map(os.fsencode, os.listdir(directory.fd)))):  # readdir(3) may tell one twice
            try:
                status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed meanwhile
            if not stat.S_ISDIR(status.st_mode):
                self.leaf(directory, name, status)
            elif (self._every_mount or status.st_dev == self.device) and directory.join(name) not in self._hollow:
                yield directory.join(name)
            else:
                self._header(self._named(directory.join(name)) + b"/", status, {})

    def _named(self, path: bytes) -> bytes:
        if not path:
            return self._prefix or b"."
        return self._prefix + b"/" + path if self._prefix else path

    def leaf(self, directory: Directory, name: bytes, status: os.stat_result) -> None:
        """Write anything but a directory."""
        path = self._renamed or self._named(directory.join(name))
        if stat.S_ISSOCK(status.st_mode):
            return self._sockets.append(path)
        inode = (status.st_dev, status.st_ino)
        if (first := self._links.get(inode)) is not None:
            return self._header(path, status, {}, kind=b"1", link=first)
        if status.st_nlink > 1:
            self._links[inode] = path
        if stat.S_ISREG(status.st_mode):
            self._file(directory, name, path)
        elif stat.S_ISLNK(status.st_mode):
            self._header(path, status, {}, link=os.readlink(name, dir_fd=directory.fd))
        else:
            self._header(path, status, {})
        return None

    def empty_file(self, path: bytes) -> None:
        """One that says something by its name."""
        self._write(file_header(path, 0))
        self._entries += 1

    def _file(self, directory: Directory, name: bytes, path: bytes) -> None:
        # Looked at before it is opened: a FIFO or device may have taken its place, and must not hear of us.
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise KistError(f"{show(path)} was replaced while it was read", code="changed-while-read")
            fd = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(handle)
        try:
            status = os.fstat(fd)
            self._header(path, status, _xattrs(fd))
            left = status.st_size
            self._file_bytes += left
            padding = -left % 512
            while left:
                data = os.read(fd, min(left, _READ_BYTES))
                if not data:
                    raise KistError(f"{show(path)} got shorter while it was read", code="changed-while-read")
                self._write(data)
                left -= len(data)
            self._write(bytes(padding))
        finally:
            os.close(fd)

    def _header(
        self, path: bytes, status: os.stat_result, xattrs: dict[bytes, bytes], *, kind: bytes = b"", link: bytes = b""
    ) -> None:
        kind = kind or _TYPES[stat.S_IFMT(status.st_mode)]
        size = status.st_size if kind == b"0" else 0
        uid, gid = status.st_uid, status.st_gid
        seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
        records = {b"SCHILY.xattr." + name: value for name, value in xattrs.items()}
        if nanoseconds or not 0 <= seconds < _OCTAL_11:
            records[b"mtime"] = _seconds(status.st_mtime_ns)
        records |= {key: name for key, name in ((b"path", path), (b"linkpath", link)) if len(name) > 100}
        records |= {key: b"%d" % id for key, id in ((b"uid", uid), (b"gid", gid)) if id >= _OCTAL_7}
        if size >= _OCTAL_11:
            records[b"size"] = b"%d" % size
        self._write(_extended(records))
        mode = stat.S_IMODE(status.st_mode)
        device = status.st_rdev if kind in (b"3", b"4") else 0
        self._write(_block(path, kind, size, mode=mode, owner=(uid, gid), mtime=seconds, link=link, device=device))
        self._entries += 1

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self._hash.update(data)
        self._archive_bytes += len(data)

    def finish(self) -> Summary:
        self._write(bytes(1024))
        skipped: tuple[Skipped, ...] = ()
        if self._sockets:
            skipped = (Skipped("socket", len(self._sockets), tuple(map(readable, self._sockets[:8]))),)
        digest = f"sha256:{self._hash.hexdigest()}"
        return Summary(self._entries, self._file_bytes, self._archive_bytes, digest, skipped)


def file_header(name: bytes, size: int) -> bytes:
    """What stands before the content of a file of root's that anybody may read."""
    records = {b"path": name} if len(name) > 100 else {}
    if size >= _OCTAL_11:
        records[b"size"] = b"%d" % size
    return _extended(records) + _block(name, b"0", size)


def directory_header(name: bytes) -> bytes:
    """A directory of root's that anybody may enter."""
    return _block(name + b"/", b"5", 0, mode=0o755)


def _extended(records: dict[bytes, bytes]) -> bytes:
    """A PAX header, none for no records."""
    if not records:
        return b""
    content = b"".join(_record(key, records[key]) for key in sorted(records))
    return _block(b"PaxHeader", b"x", len(content)) + content + bytes(-len(content) % 512)


def _block(
    path: bytes,
    kind: bytes,
    size: int,
    *,
    mode: int = 0o644,
    owner: tuple[int, int] = (0, 0),
    mtime: int = 0,
    link: bytes = b"",
    device: int = 0,
) -> bytes:
    """One ustar header. What does not fit is cut or 0: the PAX header before it has it whole."""
    sized = size if size < _OCTAL_11 else 0
    numbers = [b"%07o" % number for number in (mode, *(id if id < _OCTAL_7 else 0 for id in owner))]
    times = (b"%011o" % sized, b"%011o" % (mtime if 0 <= mtime < _OCTAL_11 else 0))
    devices = (b"%07o" % os.major(device), b"%07o" % os.minor(device))
    block = _HEADER.pack(path, *numbers, *times, b" " * 8, kind, link, b"ustar", b"00", *devices)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\n`, where LENGTH counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _seconds(ns: int) -> bytes:
    """Decimal seconds, exact: 1.5 s before 1970 is -1.5."""
    seconds, fraction = divmod(abs(ns), 1_000_000_000)
    return b"%b%d.%09d" % (b"-" if ns < 0 else b"", seconds, fraction)


def _xattrs(fd: int) -> dict[bytes, bytes]:
    try:
        names = [os.fsencode(name) for name in os.listxattr(fd)]
    except OSError as e:
        if e.errno == errno.ENOTSUP:
            return {}
        raise
    return {name: os.getxattr(fd, name) for name in names if is_portable(name)}
