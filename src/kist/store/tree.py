"""Walking and deleting directory trees by file descriptors alone: no path is ever joined and given to the kernel.

The kernel follows no symlink for us here: each component is opened by itself with O_NOFOLLOW, and a link found on the
way is read and resolved inside the root, as chroot(2) would (CVE-2018-15664 and its like).
"""

from __future__ import annotations

import errno
import os

from kist.errors import InvalidInput
from kist.value import Value

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH_BYTES_MAX = 4096  # PATH_MAX: past it no program could name the file
_LINKS_MAX = 40  # MAXSYMLINKS, path_resolution(7)
_CACHE_MAX = 128  # of the usual limit of 1,024 open files
_STEPS_FREE = 1_000_000
_STEPS_PER_OPEN = 64


class Directory(Value):
    """An open directory under the root. `path` is where it really is: relative, free of symlinks, b"" for the root."""

    fd: int
    path: bytes

    def join(self, name: bytes) -> bytes:
        """Where an entry of this directory is; for books and messages only, never for a system call."""
        return self.path + b"/" + name if self.path else name


def components(name: bytes) -> list[bytes]:
    """The parts of a path as a symlink holds it; `..` is kept."""
    return [part for part in name.split(b"/") if part not in (b"", b".")]


def clean(name: bytes) -> list[bytes]:
    """The parts of an archive member's name, taken from the root, `..` resolved by text as Docker and podman do.

    Raises InvalidInput (tar-escape) when `..` climbs out of the root.
    """
    parts: list[bytes] = []
    for part in components(name):
        if part != b"..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            raise InvalidInput(
                f"the tar entry {show(name)} climbs out of the root directory with '..'",
                why="an honest root file system has no such name",
                code="tar-escape",
            )
    return parts


def readable(name: bytes) -> str:
    """A name as text, at most 200 bytes of it; what is not UTF-8 as \\xNN."""
    return name[:200].decode(errors="backslashreplace") + ("..." if len(name) > 200 else "")


def show(name: bytes) -> str:
    """A name for a message: quoted, bounded, no control characters."""
    return repr(readable(name))


class Walker:
    """Opens directories inside one root and keeps the last ones open. Use it as a context manager.

    A Directory that it returns stays open until the next call of `open`, `open_real` or `forget`.
    """

    def __init__(self, root_fd: int) -> None:
        self._root = Directory(os.dup(root_fd), b"")
        self._cache: dict[bytes, Directory] = {}  # by the path as asked for, and by the real one
        self._steps = _STEPS_FREE

    def __enter__(self) -> Walker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.forget()
        os.close(self._root.fd)

    def open(self, path: bytes) -> Directory:
        """The directory at `path`; symlinks are followed inside the root.

        Raises InvalidInput (tar-escape, tar-path, tar-limit), FileNotFoundError.
        """
        found = self._cache.get(path)
        if found is None:
            # Names full of long symlinks cost thousands of system calls each: the average is bounded.
            self._steps += _STEPS_PER_OPEN
            found = self._walk(clean(path), follow=True)
            self._remember(path, found)
        return found

    def open_real(self, path: bytes) -> Directory:
        """The directory at the real path `path`. Raises OSError when a part is missing or not a directory now."""
        self._steps += _STEPS_PER_OPEN
        return self._walk(components(path), follow=False)

    def forget(self, keep: Directory | None = None) -> None:
        """Close what is kept open, `keep` excepted: something that is on those paths was removed."""
        kept = keep.fd if keep else -1
        for fd in {directory.fd for directory in self._cache.values()} - {kept, self._root.fd}:
            os.close(fd)
        self._cache.clear()
        if keep and keep.path:
            self._cache[keep.path] = keep

    def _remember(self, path: bytes, directory: Directory) -> None:
        if len(self._cache) >= _CACHE_MAX:
            self.forget(keep=directory)
        self._cache[path] = directory

    def _nearest(self, parts: list[bytes]) -> tuple[Directory, list[bytes]]:
        """The deepest open directory on that way, and what remains to be walked, last part first."""
        todo: list[bytes] = []
        while parts:
            if (known := self._cache.get(b"/".join(parts))) is not None:
                return known, todo
            todo.append(parts.pop())
        return self._root, todo

    def _walk(self, parts: list[bytes], *, follow: bool) -> Directory:
        here, todo = self._nearest(parts)
        links = 0
        while todo:
            part = todo.pop()
            self._steps -= 1
            if self._steps < 0:
                raise InvalidInput("the tar archive's names take too many steps to resolve", code="tar-limit")
            if part == b"..":  # only from a symlink; at the root it stays there, as in chroot
                todo += components(here.path)[-2::-1]
                here = self._root
                continue
            path = here.join(part)
            if (known := self._cache.get(path)) is not None:
                here = known
                continue
            try:
                fd = os.open(part, OPEN_DIRECTORY, dir_fd=here.fd)
            except OSError as e:
                if e.errno not in (errno.ENOTDIR, errno.ELOOP) or not follow:
                    raise
                links += 1
                target = _read_link(here, part)
                if links > _LINKS_MAX:
                    raise InvalidInput(f"too many symlinks on the way to {show(path)}", code="tar-path") from e
                here = self._root if target.startswith(b"/") else here
                todo += components(target)[::-1]
                continue
            here = Directory(fd, path)
            self._remember(path, here)
            if len(path) > _PATH_BYTES_MAX:
                raise InvalidInput(f"a directory path of more than {_PATH_BYTES_MAX} bytes", code="tar-path")
        return here


def _read_link(parent: Directory, name: bytes) -> bytes:
    try:
        return os.readlink(name, dir_fd=parent.fd)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        raise InvalidInput(
            f"{show(parent.join(name))} is used as a directory, and is something else", code="tar-path"
        ) from e


def remove_tree(parent_fd: int, name: bytes | str) -> None:
    """Delete `name` in `parent_fd`, whatever it is and however deep; a missing one is fine.

    Directories that forbid it (mode 000) are opened up first: enough for an ordinary user who owns them. Keeps at most
    some 70 files open. Another process may delete the same at the same time.
    Raises OSError: EBUSY for a mount point, EPERM for an immutable file.
    """
    try:
        os.unlink(name, dir_fd=parent_fd)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        try:
            top = _open_to_empty(parent_fd, name)
        except FileNotFoundError:
            return
        try:
            _Remover(top).remove(parent_fd, name, top, 0)
        finally:
            os.close(top)


class _Remover:
    """Depth first down to a bounded depth; what lies deeper is first moved up into the tree's top directory."""

    _DEPTH_MAX = 32

    def __init__(self, top: int) -> None:
        self._top = top
        self._moved = 0

    def remove(self, parent: int, name: bytes | str, directory: int, depth: int) -> None:
        while True:
            self._empty(directory, depth)
            try:
                return os.rmdir(name, dir_fd=parent)
            except FileNotFoundError:
                return None
            except OSError as e:
                # readdir(3) may miss entries while others go, and the top directory gets new ones
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise

    def _empty(self, directory: int, depth: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    self._entry(directory, entry, depth)
                except FileNotFoundError:
                    continue

    def _entry(self, directory: int, entry: os.DirEntry[str], depth: int) -> None:
        if not entry.is_dir(follow_symlinks=False):
            return os.unlink(entry.name, dir_fd=directory)
        child = _open_to_empty(directory, entry.name)
        try:
            if depth < self._DEPTH_MAX:
                self.remove(directory, entry.name, child, depth + 1)
            else:
                self._move_up(directory, entry.name)
        finally:
            os.close(child)
        return None

    def _move_up(self, directory: int, name: str) -> None:
        while True:
            self._moved += 1
            try:
                return os.rename(name, f".kist-{self._moved}", src_dir_fd=directory, dst_dir_fd=self._top)
            except OSError as e:
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # the tree has that name itself
                    raise


def _open_to_empty(parent: int, name: bytes | str) -> int:
    try:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except PermissionError:
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)  # fchmod(2) refuses O_PATH; this link leads to the inode itself
            return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        finally:
            os.close(handle)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd
