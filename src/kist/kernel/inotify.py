"""News of a directory. Source: inotify(7)."""

from __future__ import annotations

import os

_CREATE, _MODIFY, _MOVED_TO = 0x100, 0x2, 0x80


def watch(directory: str, *, written: bool = True) -> int:
    """An fd that is readable, and read with `drain`, when a file of the directory was made, renamed or, with `written`,
    written to.

    Raises OSError: this user may watch no more (ENOSPC, EMFILE), the directory is gone.
    """
    from ctypes import CDLL, get_errno

    libc = CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(get_errno(), os.strerror(get_errno()), directory)
    if libc.inotify_add_watch(fd, os.fsencode(directory), _CREATE | _MOVED_TO | _MODIFY * written) < 0:
        error = get_errno()
        os.close(fd)
        raise OSError(error, os.strerror(error), directory)
    return fd


def drain(fd: int) -> None:
    """Forget what was told so far."""
    try:
        while len(os.read(fd, 1 << 16)) > 1 << 15:
            pass
    except BlockingIOError:
        pass
