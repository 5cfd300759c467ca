"""Reading a layer: one pass over its archive, from which its changes, its contents and its DiffID come.

Where the contents go depends on who takes them: see RawContents and StagedContents.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from bisect import bisect_right

from kist.errors import InvalidInput, KistError
from kist.store import tar
from kist.store.changes import Change, Writer
from kist.store.data import Behind, disk_error, write_all
from kist.store.erofs import EXTRA
from kist.store.summary import Skipped, Summary
from kist.store.tree import readable, show
from kist.store.view import INODE, WHITEOUT, Inode, pack_xattrs
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from kist.store.source import Source
    from kist.store.summary import Reason
    from kist.store.tar import Entry, Limits, TarReader
else:
    Protocol = object

_EXAMPLES_MAX = 8
_NAME_BYTES_MAX = 255  # NAME_MAX
_NONE: dict[bytes, bytes] = {}
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPES = {
    tar.REGULAR: stat.S_IFREG, tar.SYMLINK: stat.S_IFLNK, tar.CHAR_DEVICE: stat.S_IFCHR,
    tar.BLOCK_DEVICE: stat.S_IFBLK, tar.DIRECTORY: stat.S_IFDIR, tar.FIFO: stat.S_IFIFO,
}  # fmt: skip


class Contents(Protocol):
    """Takes the contents of files."""

    @property
    def copy(self) -> Callable[[memoryview], object] | None:
        """Is to get all of the uncompressed archive, in a thread of its own."""

    @property
    def files(self) -> Files | None:
        """Where plain files are put; None if they stay in the archive."""

    def add(self, number: int, entry: Entry, content: TarReader, xattrs: dict[bytes, bytes], /) -> int:
        """Given each regular file, by its number among the entries. Returns the place that its inode names."""


class Staged:
    """Where the contents of files wait, by the numbers of their entries: those that stand beside each other in the
    archive, in one directory, are so here too, under their own names; files with names that are none, under numbers."""

    def __init__(self) -> None:
        self._firsts, self._counts = array("Q"), array("Q")  # of files in one directory, ascending
        self._head = b""  # of their names, those of the last ones

    def add(self, runs: array[int], head: bytes) -> None:
        """Pairs: the number of the first file, and how many; the first pair may be the last one before, grown."""
        if self._firsts and self._firsts[-1] == runs[0]:
            self._firsts.pop()
            self._counts.pop()
        self._firsts += runs[::2]
        self._counts += runs[1::2]
        self._head = head

    @property
    def last(self) -> tuple[int, int, bytes]:
        """Of those that were put into one directory last: the first one's number, how many, the head of their names."""
        return (self._firsts[-1], self._counts[-1], self._head) if self._firsts else (0, 0, b"")

    def beside(self, number: int) -> range | None:
        """The numbers of all files in the directory that has this one."""
        i = bisect_right(self._firsts, number) - 1
        if i < 0:
            return None
        found = range(self._firsts[i], self._firsts[i] + self._counts[i])
        return found if number in found else None

    def name(self, number: int, leaf: bytes) -> bytes:
        """`leaf`: the last part of its name in the archive."""
        beside = self.beside(number)
        return b"%b/%b" % (directory_of(beside.start), leaf) if beside else b"%d" % number


def directory_of(first: int) -> bytes:
    """As in layers.c."""
    return b"r%d" % first


class Files(Value):
    """A directory for files, and where in it they are. `own`: whom they belong to at first, None for nobody; `mode`:
    what of their mode they get; `owners`: whether owners are set."""

    directory: int
    staged: Staged
    owners: bool
    own: tuple[int, int] | None
    mode: int


class Notes:
    """What is left out, and why."""

    def __init__(self) -> None:
        self._skipped: dict[Reason, Skipped] = {}

    def skip(self, reason: Reason, name: bytes) -> None:
        self.add((Skipped(reason, 1, (readable(name),)),))

    def add(self, others: Iterable[Skipped]) -> None:
        for other in others:
            before = self._skipped.get(other.reason, Skipped(other.reason, 0, ()))
            examples = (*before.examples, *other.examples)[:_EXAMPLES_MAX]
            self._skipped[other.reason] = Skipped(other.reason, before.count + other.count, examples)

    def all(self) -> tuple[Skipped, ...]:
        return tuple(self._skipped.values())


def read_layer(
    stream: Source, writer: Writer, contents: Contents, algorithm: str, limits: Limits | None, *, ahead: bool
) -> Summary:
    """Read the archive in `stream`, plain or compressed, to its end. `algorithm` is of the digest to be made; for
    `ahead` see Chunks.

    Raises what TarReader raises; InvalidInput (tar-link, tar-corrupt), KistError (disk-full, store-io, unpack-failed).
    """
    from kist.store.library import Plain

    limits = limits or tar.Limits()
    plain = Plain(writer, contents.files, limits)
    with tar.TarReader(stream, limits, contents.copy, algorithm, ahead=ahead, plain=plain) as reader:
        found = _read(reader, writer, contents)
    entries, file_bytes = found.entries + plain.entries, found.file_bytes + plain.file_bytes
    return replace(found, entries=entries, file_bytes=file_bytes)


def _read(reader: TarReader, writer: Writer, contents: Contents) -> Summary:
    """What is not plain counts."""
    notes, entries, file_bytes = Notes(), 0, 0
    for entry in reader:
        entries += 1
        try:
            if WHITEOUT in entry.name and entry.name.rstrip(b"/").rpartition(b"/")[2].startswith(WHITEOUT):
                writer.hide(entry.name)
            elif entry.kind == tar.SOCKET:
                notes.skip("socket", entry.name)
            else:
                writer.add(_change(entry, reader, writer, contents, notes))
                file_bytes += entry.size if entry.kind == tar.REGULAR else 0
        except OSError as e:
            raise failed(e, entry.name) from e
    return Summary(entries, file_bytes, reader.size_bytes, reader.digest, notes.all())


def _change(entry: Entry, reader: TarReader, writer: Writer, contents: Contents, notes: Notes) -> Change:
    kind, size, place, tail, xattrs = entry.kind, 0, 0, b"", _NONE
    if kind in (tar.HARDLINK, tar.SYMLINK) and not entry.linkname:
        raise InvalidInput(f"the link {show(entry.name)} has no target", code="tar-link")
    if kind == tar.HARDLINK:
        return Change(entry.name, None, entry.linkname)
    if entry.xattrs:
        xattrs = _portable(entry, notes)
    if kind == tar.REGULAR:
        size, place = entry.size, contents.add(writer.count, entry, reader, xattrs)
    elif kind == tar.SYMLINK:
        tail = entry.linkname
    elif kind in (tar.CHAR_DEVICE, tar.BLOCK_DEVICE):
        place = _device(entry)
    if xattrs:
        tail = pack_xattrs(xattrs)
    seconds, nanoseconds = divmod(entry.mtime_ns, 1_000_000_000)  # Inode.make takes twice as long
    packed = INODE.pack(
        _TYPES[kind] | entry.mode, writer.layer, entry.uid, entry.gid, nanoseconds, seconds, size, place
    )
    return Change(entry.name, Inode(packed + tail))


def _device(entry: Entry) -> int:
    if not (0 <= entry.devmajor < 1 << 12 and 0 <= entry.devminor < 1 << 20):  # dev_t in the kernel
        raise InvalidInput(
            f"the device {show(entry.name)} has the number {entry.devmajor}:{entry.devminor}", code="tar-corrupt"
        )
    return os.makedev(entry.devmajor, entry.devminor)


def _portable(entry: Entry, notes: Notes) -> dict[bytes, bytes]:
    found = {}
    for name, value in entry.xattrs.items():
        if entry.kind != tar.SYMLINK and is_portable(name):  # xattr(7): symlinks have none of these
            found[name] = value
        else:
            notes.skip("xattr", entry.name + b" " + name)
    return found


def is_portable(xattr: bytes) -> bool:
    """Whether an extended attribute travels with an image.

    trusted.overlay.* and user.overlay.* would steer the overlay mounted on top (redirects, whiteouts);
    security.selinux and such are the host's to give.
    """
    if xattr.startswith(b"user."):
        return len(xattr) > 5 and not xattr.startswith(b"user.overlay.")
    return xattr in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


class RawContents:
    """The uncompressed archive itself, as a file; what it does not hold in one piece is put in a second one."""

    def __init__(self, raw: int, extra_path: str) -> None:
        self._raw = raw
        self._extra_path = extra_path
        self._extra = -1
        self._end = 0

    @property
    def copy(self) -> Callable[[memoryview], object] | None:
        return Behind(self._raw).write if self._raw >= 0 else None

    files = None

    def add(self, _number: int, entry: Entry, content: TarReader, _xattrs: dict[bytes, bytes]) -> int:
        if entry.sparse is None:
            return entry.offset
        if self._extra < 0:
            self._extra = os.open(self._extra_path, _NEW_FILE, 0o600)
        start = self._end
        for offset, piece in content.segments(entry):
            os.lseek(self._extra, start + offset, os.SEEK_SET)
            write_all(self._extra, piece)
        self._end = start + entry.size + -entry.size % tar.BLOCK
        os.ftruncate(self._extra, self._end)
        return EXTRA | start

    def close(self) -> None:
        for fd in (self._raw, self._extra):
            if fd >= 0:
                os.close(fd)
        self._raw = self._extra = -1


class StagedContents:
    """A file for each, with its metadata: directories.build puts it where it belongs."""

    def __init__(self, directory: int, owners: bool) -> None:
        status = os.fstat(directory)
        # What a new file has anyway, also on a file system that gives it its directory's group.
        own = (os.geteuid(), os.getegid()) if status.st_gid == os.getegid() else None
        fd = os.open("mode", _NEW_FILE, 0o777, dir_fd=directory)
        mode = os.fstat(fd).st_mode & 0o777  # what umask and a default ACL, acl(5), leave of a new file's mode
        os.close(fd)
        os.unlink("mode", dir_fd=directory)
        self.files = Files(directory, Staged(), owners, own, mode)

    copy = None

    def add(self, number: int, entry: Entry, content: TarReader, xattrs: dict[bytes, bytes]) -> int:
        own = (entry.uid, entry.gid) == self.files.own
        right = not xattrs and not entry.mode & ~self.files.mode  # setxattr(2) needs a file that its owner may write
        fd = self._open(number, entry.name, entry.mode if right else 0o600)
        try:
            if entry.sparse is None:
                while piece := content.piece():
                    write_all(fd, piece)
            else:
                os.ftruncate(fd, entry.size)
                for offset, piece in content.segments(entry):
                    os.lseek(fd, offset, os.SEEK_SET)
                    write_all(fd, piece)
            set_metadata(fd, entry, xattrs, self.files.owners, chown=not own, chmod=not right)
        finally:
            os.close(fd)
        return number

    def _open(self, number: int, name: bytes, mode: int) -> int:
        """As in layers.c."""
        directory, leaf, first = self.files.directory, name.rpartition(b"/")[2], number
        if not 0 < len(leaf) <= _NAME_BYTES_MAX or leaf in (b".", b"..") or b"\0" in leaf:
            return os.open(b"%d" % number, _NEW_FILE, mode, dir_fd=directory)
        head, last = name[: -len(leaf)], self.files.staged.last
        fd = -1
        if last[1] and (sum(last[:2]), last[2]) == (number, head):
            try:
                fd = os.open(b"%b/%b" % (directory_of(last[0]), leaf), _NEW_FILE, mode, dir_fd=directory)
                first = last[0]
            except FileExistsError:
                pass
        if fd < 0:
            os.mkdir(directory_of(number), 0o700, dir_fd=directory)
            fd = os.open(b"%b/%b" % (directory_of(number), leaf), _NEW_FILE, mode, dir_fd=directory)
        self.files.staged.add(array("Q", (first, number - first + 1)), head)
        return fd


class Metadata(Protocol):
    """What an archive's entry and an inode have in common."""

    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...


def set_metadata(
    target: int | str, of: Metadata, xattrs: dict[bytes, bytes], owners: bool, *, chown: bool = True, chmod: bool = True
) -> None:
    """Owner, attributes, mode, times, in this order: chown(2) clears set-id bits and capabilities. Raises OSError."""
    if owners and chown:
        os.chown(target, of.uid, of.gid)
    for name, value in xattrs.items():
        if owners or not name.startswith(b"security."):
            os.setxattr(target, name, value)
    if chmod:
        os.chmod(target, stat.S_IMODE(of.mode))
    os.utime(target, ns=(of.mtime_ns, of.mtime_ns))


def failed(e: OSError, name: bytes) -> KistError:
    """What a failed system call on behalf of an entry is to be called."""
    what = f"cannot unpack {show(name)}"
    if e.errno in (errno.EPERM, errno.EINVAL):
        return KistError(
            f"{what}: {e.strerror}",
            why="its owner has no id here, or its attributes are not for the caller to set",
            next="run as root, or as a user with subordinate ids (subuid(5))",
            code="unpack-failed",
        )
    if e.errno in (errno.ENOTSUP, errno.E2BIG):
        return KistError(
            f"{what}: {e.strerror}",
            why="many file systems allow 4 KiB for all extended attributes of a file together, some none",
            code="unpack-failed",
        )
    return disk_error(what, e)
