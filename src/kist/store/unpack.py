"""Putting an archive's members into a directory that exists, as `docker cp` does.

Everything is done in directories that were opened one by one: below the destination no symlink is followed, so nothing
that is there, or that somebody puts there meanwhile, leads out of it (CVE-2018-15664, CVE-2026-42306). A directory
never takes the place of something else, nor something else that of a directory. A file appears whole, by rename(2).
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import chain

from kist.errors import InvalidInput, KistError
from kist.store import tar
from kist.store.data import disk_error, write_all
from kist.store.layers import Notes, is_portable, set_metadata
from kist.store.tree import Walker, clean, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.store.summary import Skipped
    from kist.store.tar import Entry, TarReader

_KINDS = {tar.CHAR_DEVICE: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK, tar.FIFO: stat.S_IFIFO}


class Unpacker:
    """`owner`: whom everything belongs to; None: as the archive says, where `owners`; else the caller.
    `devices`: they are made, too. `set_ids`: set-id bits are kept. `into`: opens the directory of a member's name that
    the walker cannot, since it is reached through symlinks; without it those are refused."""

    def __init__(
        self, root: int, *, owner: tuple[int, int] | None = None, owners: bool = True, devices: bool = True,
        set_ids: bool = True, into: Callable[[bytes], int] | None = None, root_too: bool = False,
    ) -> None:  # fmt: skip
        self._root, self._walker = root, Walker(root)
        self._owner, self._owners, self._devices, self._set_ids = owner, owners, devices, set_ids
        self._into, self._root_too = into, root_too
        self._reached: tuple[bytes, int] = (b"", -1)
        self._later: list[tuple[bytes, _Metadata, dict[bytes, bytes]]] = []
        self._notes = Notes()
        self.bytes = 0

    def unpack(
        self, reader: TarReader, rename: Callable[[list[bytes]], list[bytes]] = lambda parts: parts, *,
        first: Entry | None = None,
    ) -> None:  # fmt: skip
        """All members, under the names that `rename` makes of theirs; `first` was taken from the reader already.

        Raises InvalidInput, KistError.
        """
        for entry in chain([first] if first else [], reader):
            parts = rename(clean(entry.name))
            path = b"/".join(parts)
            link = b"/".join(rename(clean(entry.linkname))) if entry.kind == tar.HARDLINK else b""
            try:
                self._member(entry, reader, path, link)
            except OSError as e:
                raise _failed(e, path) from e
        for path, metadata, xattrs in reversed(self._later):  # what is put into a directory changes its times
            try:
                self._set(self._directory(path), metadata, xattrs)
            except OSError as e:
                raise _failed(e, path) from e

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        return self._notes.all()

    def close(self) -> None:
        self._walker.__exit__()
        if self._reached[1] >= 0:
            os.close(self._reached[1])

    def _directory(self, path: bytes) -> int:
        """Borrowed until the next call."""
        if not self._into:
            return self._walker.open_real(path).fd
        if self._reached[0] != path or self._reached[1] < 0:
            fd = self._into(path)
            if self._reached[1] >= 0:
                os.close(self._reached[1])
            self._reached = (path, fd)
        return self._reached[1]

    def _parent(self, head: bytes) -> int:
        """Opened, made when missing."""
        try:
            return self._directory(head)
        except FileNotFoundError:
            above, _, name = head.rpartition(b"/")
            os.mkdir(name, 0o755, dir_fd=self._parent(above))
            return self._directory(head)

    def _member(self, entry: Entry, reader: TarReader, path: bytes, link: bytes) -> None:
        head, _, name = path.rpartition(b"/")
        if not name:
            if self._root_too and entry.kind == tar.DIRECTORY:
                self._later.append((b"", self._metadata(entry), self._xattrs(entry)))
            return
        parent = self._parent(head)
        there = _mode_of(parent, name)
        if entry.kind == tar.DIRECTORY:
            if there and not stat.S_ISDIR(there):
                raise _clash(path, "is there and is no directory, and a directory would take its place")
            if not there:
                os.mkdir(name, 0o700, dir_fd=parent)
            self._later.append((path, self._metadata(entry), self._xattrs(entry)))
            return
        if stat.S_ISDIR(there):
            raise _clash(path, "is a directory, and something else would take its place")
        if entry.kind == tar.SOCKET or (entry.kind in (tar.CHAR_DEVICE, tar.BLOCK_DEVICE) and not self._devices):
            self._notes.skip("socket" if entry.kind == tar.SOCKET else "device", path)
            return
        making = b".kist-" + os.urandom(6).hex().encode()
        try:
            if not self._make(entry, reader, parent, making, link):
                self._notes.skip("device", path)
                return
            # The parent may have been let go of, for a hard link's.
            os.rename(making, name, src_dir_fd=self._directory(head), dst_dir_fd=self._directory(head))
        except BaseException:
            try:
                os.unlink(making, dir_fd=self._directory(head))
            except OSError:
                pass
            raise

    def _make(self, entry: Entry, reader: TarReader, parent: int, name: bytes, link: bytes) -> bool:
        metadata = self._metadata(entry)
        if entry.kind == tar.HARDLINK:
            parent = os.dup(parent)
            try:
                head, _, leaf = link.rpartition(b"/")
                os.link(leaf, name, src_dir_fd=self._directory(head), dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(parent)
        elif entry.kind == tar.SYMLINK:
            os.symlink(entry.linkname, name, dir_fd=parent)
            if self._chowns:
                os.chown(name, metadata.uid, metadata.gid, dir_fd=parent, follow_symlinks=False)
            os.utime(name, ns=(metadata.mtime_ns,) * 2, dir_fd=parent, follow_symlinks=False)
        elif entry.kind == tar.REGULAR:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600,
                         dir_fd=parent)  # fmt: skip
            try:
                self._content(entry, reader, fd)
                self._set(fd, metadata, self._xattrs(entry))
            finally:
                os.close(fd)
        else:
            return self._node(entry, parent, name, metadata)
        return True

    def _content(self, entry: Entry, reader: TarReader, fd: int) -> None:
        for offset, piece in reader.segments(entry):
            if entry.sparse is not None:
                os.lseek(fd, offset, os.SEEK_SET)
            write_all(fd, piece)
        if entry.sparse is not None:
            os.ftruncate(fd, entry.size)
        self.bytes += entry.size

    def _node(self, entry: Entry, parent: int, name: bytes, metadata: _Metadata) -> bool:
        try:
            os.mknod(name, _KINDS[entry.kind] | 0o600, os.makedev(entry.devmajor, entry.devminor), dir_fd=parent)
        except PermissionError:
            if entry.kind == tar.FIFO:
                raise
            return False
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._set(f"/proc/self/fd/{handle}", metadata, {})
        finally:
            os.close(handle)
        return True

    @property
    def _chowns(self) -> bool:
        return self._owners or self._owner is not None

    def _metadata(self, entry: Entry) -> _Metadata:
        uid, gid = self._owner or (entry.uid, entry.gid)
        mode = entry.mode if self._set_ids or entry.kind == tar.DIRECTORY else entry.mode & 0o1777
        return _Metadata(mode, uid, gid, entry.mtime_ns)

    def _xattrs(self, entry: Entry) -> dict[bytes, bytes]:
        keep_caps = self._owners and self._set_ids
        return {k: v for k, v in entry.xattrs.items() if is_portable(k) and (keep_caps or not k.startswith(b"sec"))}

    def _set(self, target: int | str, metadata: _Metadata, xattrs: dict[bytes, bytes]) -> None:
        try:
            set_metadata(target, metadata, xattrs, self._chowns)
        except OSError as e:
            if e.errno != errno.ENOTSUP or not xattrs:
                raise
            set_metadata(target, metadata, {}, self._chowns)  # a file system without attributes


class _Metadata:
    def __init__(self, mode: int, uid: int, gid: int, mtime_ns: int) -> None:
        self.mode, self.uid, self.gid, self.mtime_ns = mode, uid, gid, mtime_ns


def _mode_of(parent: int, name: bytes) -> int:
    """0 when there is nothing."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _clash(path: bytes, why: str) -> InvalidInput:
    return InvalidInput(
        f"cannot copy to {show(path)}", why=f"it {why}", next="remove it first", code="not-the-same-kind"
    )


def _failed(e: OSError, path: bytes) -> KistError:
    if e.errno in (errno.ENOTDIR, errno.ELOOP):
        return _clash(path, "is reached through a symlink, or through something that is no directory")
    if e.errno in (errno.EPERM, errno.EINVAL):
        return KistError(f"cannot copy {show(path)}: {e.strerror}", why="its owner has no id here, or it may not be "
                         "changed", next="leave out --archive, or run as root", code="copy-failed")  # fmt: skip
    if e.errno == errno.EROFS:
        return KistError(f"cannot copy {show(path)}: {e.strerror}", why="a mount there is read-only",
                         code="read-only")  # fmt: skip
    return disk_error(f"cannot copy {show(path)}", e)
