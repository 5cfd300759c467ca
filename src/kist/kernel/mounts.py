"""Mounts of this mount namespace, a namespace of our own, and taking one away."""

from __future__ import annotations

import os

from kist.kernel.probe import unescape

_MNT_DETACH = 2
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_SLAVE = 0x20000, 4096, 16384, 1 << 19


def mount_points() -> list[str]:
    """In the order in which they were mounted. Source: proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [unescape(line.split(" ")[4]) for line in file]


def enter_own_namespace() -> None:
    """From here on this process's mounts are nobody else's, and go with it. Raises OSError.

    Source: unshare(2), mount_namespaces(7). Only for a process with one thread.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) < 0:
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")
    _mount("none", "/", _MS_SLAVE | _MS_REC)


def bind(source: str, target: str) -> None:
    """With all that is mounted below. Raises OSError."""
    _mount(source, target, _MS_BIND | _MS_REC)


def _mount(source: str, target: str, flags: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def unmount(path: str) -> None:
    """At once, whoever uses it; what is no mount point is fine. Raises OSError."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), _MNT_DETACH) < 0 and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
