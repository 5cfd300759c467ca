"""Paths of a root that nobody trusts, resolved by the kernel inside that root. Source: openat2(2), Linux 5.6."""

from __future__ import annotations

import errno
import os
from struct import pack

_OPENAT2 = 437  # the same on every machine but alpha
NO_CROSSING, _NO_MAGICLINKS, _IN_ROOT = 0x01, 0x02, 0x10
_TRIES = 128
_LINKS_MAX = 40  # MAXSYMLINKS, path_resolution(7)
PATH = os.O_PATH | os.O_CLOEXEC
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_inside(root: int, path: bytes, flags: int, mode: int = 0, *, crossing: int = 0) -> int:
    """Open `path` as a process would whose root directory is `root`: `..` and links never lead out of it, and links of
    procfs to open files are not followed at all. Whatever is renamed meanwhile. Raises OSError.

    With O_CREAT the last part is made; nothing else is. With NO_CROSSING, EXDEV where another mount begins.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    how = pack("QQQ", flags | os.O_CLOEXEC, mode, _NO_MAGICLINKS | _IN_ROOT | crossing)
    for _ in range(_TRIES):
        fd: int = libc.syscall(_OPENAT2, root, path or b".", how, len(how))
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something was renamed on the way
            break
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code), os.fsdecode(path))


def open_parent(root: int, path: bytes, *, follow: bool) -> tuple[int, bytes]:
    """The directory, opened with O_PATH, and the name in it that `path` stands for; b"" for the root itself.

    With `follow`, what a symlink at the end stands for, also when that is not there. Raises OSError.
    """
    for _ in range(_LINKS_MAX):
        head, _, name = path.rstrip(b"/").rpartition(b"/")
        if name in (b".", b".."):
            head, name = path.rstrip(b"/"), b""
        fd = open_inside(root, head or b"/", PATH | os.O_DIRECTORY)
        if not (follow and name):
            return fd, name
        try:
            target = os.readlink(name, dir_fd=fd)
        except OSError:  # no symlink, or nothing
            return fd, name
        os.close(fd)
        path = target if target.startswith(b"/") else head + b"/" + target
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))


def reopen(handle: int, flags: int) -> int:
    """What was opened with O_PATH, and looked at, opened to be used: the same inode, whatever its name leads to now."""
    return os.open(f"/proc/self/fd/{handle}", flags | os.O_CLOEXEC)
