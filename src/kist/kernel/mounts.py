"""Mounts of this mount namespace, made and taken away without the launcher; and a namespace of our own.

A new mount is a file descriptor first, attached nowhere: what is in it can be read, and closing it takes it away.
Sources: fsopen(2), fsconfig(2), fsmount(2), move_mount(2), umount(2).
"""

from __future__ import annotations

import errno
import os

from kist.kernel.probe import unescape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from ctypes import CDLL

# The same numbers on every machine but alpha. Source: linux/scripts/syscall.tbl.
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_AT_FDCWD = -100
_F_EMPTY_PATH = 4
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_MNT_DETACH = 2
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_SLAVE = 0x20000, 4096, 16384, 1 << 19
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4


def mount_points() -> list[str]:
    """In the order in which they were mounted. Source: proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [unescape(line.split(" ")[4]) for line in file]


def enter_own_namespace() -> None:
    """From here on this process's mounts are nobody else's, and go with it. Raises OSError.

    Source: unshare(2), mount_namespaces(7). Only for a process with one thread.
    """
    _check(_libc().unshare(_CLONE_NEWNS), "unshare")
    _mount("none", "/", _MS_SLAVE | _MS_REC)


def bind(source: str, target: str) -> None:
    """With all that is mounted below. Raises OSError."""
    _mount(source, target, _MS_BIND | _MS_REC)


def mount_overlay(lowers: Sequence[str], target: str, attributes: int) -> None:
    """Directories on each other, the uppermost first, which nobody can write. Raises OSError (EINVAL: more than a page
    of names).

    By mount(2), for kernels that do not know fsconfig's lowerdir+ (6.8). Source: kernel overlayfs.rst.
    """
    below = [path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:") for path in lowers]
    _mount("overlay", target, attributes, "overlay", f"lowerdir={':'.join(below)}")  # MS_* 1, 2, 4 are ATTR_* 1, 2, 4


def _mount(source: str, target: str, flags: int, fstype: str = "", data: str = "") -> None:
    import ctypes

    kind, options = (os.fsencode(text) if text else None for text in (fstype, data))
    if options and len(options) >= os.sysconf("SC_PAGE_SIZE"):
        raise OSError(errno.EINVAL, "mount(2) takes one page of options", target)
    _check(_libc().mount(os.fsencode(source), os.fsencode(target), kind, ctypes.c_ulong(flags), options), target)


def new_mount(fstype: str, source: str, options: Sequence[str] = (), attributes: int = 0) -> int:
    """A new file system, mounted nowhere; options are "key" or "key=value". Raises OSError."""
    libc = _libc()
    fs = _check(libc.syscall(_FSOPEN, fstype.encode(), _FSOPEN_CLOEXEC))
    try:
        for option in (f"source={source}", *options):
            key, equals, value = option.partition("=")
            kind, text = (_SET_STRING, os.fsencode(value)) if equals else (_SET_FLAG, None)
            _check(libc.syscall(_FSCONFIG, fs, kind, key.encode(), text, 0), source)
        _check(libc.syscall(_FSCONFIG, fs, _CREATE, None, None, 0), source)
        return _check(libc.syscall(_FSMOUNT, fs, _FSMOUNT_CLOEXEC, attributes), source)
    finally:
        os.close(fs)


def attach(mount: int, path: str) -> None:
    """Show it at a path. Raises OSError."""
    _check(_libc().syscall(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(path), _F_EMPTY_PATH), path)


def unmount(path: str) -> None:
    """At once, whoever uses it; what is no mount point is fine. Raises OSError."""
    try:
        _check(_libc().umount2(os.fsencode(path), _MNT_DETACH), path)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def sync_filesystem(fd: int) -> None:
    """Write everything that the file system of `fd` still holds in memory to the disk: one call for thousands of files.

    Raises OSError, also for a delayed write that failed (syncfs(2), since Linux 5.8).
    """
    _check(_libc().syncfs(fd))


def _libc() -> CDLL:
    import ctypes  # 10 ms: not for whoever only reads

    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str = "") -> int:
    if result < 0:
        import ctypes

        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), *([path] if path else []))
    return result
