"""Processes that are killed, or find the disk full, at a step of what they do.

Steps are what Python reports to an audit hook: each open, rename, unlink, link, mkdir, in whatever thread.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Collection

from kist.errors import KistError

DONE, ERROR = 2, 3  # all went well although a step failed; a KistError
STEPS = {"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate", "os.mknod", "os.chmod"}
NETWORK_STEPS = {*STEPS, "fcntl.flock", "os.posix_spawn", "socket.__new__", "socket.sendmsg"}


def dying(n: int, act: Callable[[], object], how: Callable[[], None], steps: Collection[str] = STEPS) -> int:
    """Run `act` in a child that fails at its nth step; the child's wait status: 0 when there was no such step."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    left = n

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if event in steps:
            left -= 1
            if left == 0:
                how()

    try:
        sys.addaudithook(hook)
        act()
        os._exit(0 if left > 0 else DONE)
    except KistError:
        os._exit(ERROR)
    except BaseException:
        os._exit(4)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
