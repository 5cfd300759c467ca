"""Mounts of this mount namespace, and taking one away."""

from __future__ import annotations

import os

from kist.kernel.probe import unescape

_MNT_DETACH = 2


def mount_points() -> list[str]:
    """In the order in which they were mounted. Source: proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [unescape(line.split(" ")[4]) for line in file]


def unmount(path: str) -> None:
    """At once, whoever uses it; what is no mount point is fine. Raises OSError."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(path), _MNT_DETACH) < 0 and ctypes.get_errno() not in (errno.EINVAL, errno.ENOENT):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
