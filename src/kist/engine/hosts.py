"""/etc/hosts and /etc/resolv.conf of a container that runs, when it comes into a network or leaves one.

As docker has it: a line for each address in a network. The files are the container's to change: only kist's own lines
are, and only where the file is still the one that kist wrote, not a volume's. `root` is its root directory, open.
Source: moby libnetwork/sandbox_dns_unix.go.
"""

from __future__ import annotations

import errno
import os
import stat

from kist.kernel.resolve import NO_CROSSING, PATH, open_inside, reopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_BYTES = 1 << 20


def enter(root: int, addresses: tuple[str, ...], names: str) -> tuple[str, ...]:
    """What the user should know."""
    return _change(
        root, "/etc/hosts", lambda lines: [*_without(lines, addresses), *(f"{a} {names}" for a in addresses)]
    )


def leave(root: int, addresses: tuple[str, ...]) -> tuple[str, ...]:
    return _change(root, "/etc/hosts", lambda lines: _without(lines, addresses))


def _without(lines: list[str], addresses: tuple[str, ...]) -> list[str]:
    return [line for line in lines if line.split()[:1] not in [[address] for address in addresses]]


def answer_names(root: int) -> tuple[str, ...]:
    """From now on its programs ask its own name server."""
    from kist.network.resolver import own_server

    return _change(root, "/etc/resolv.conf", own_server)


def _change(root: int, path: str, change: Callable[[list[str]], list[str]]) -> tuple[str, ...]:
    """In place: programs inside may have it open. Notes for the user where it can't be."""
    try:
        handle = open_inside(root, path.encode(), PATH, crossing=NO_CROSSING)
    except OSError as e:
        if e.errno in (errno.EXDEV, errno.ENOENT):
            return ()  # a volume's, or not there: not ours
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return ()
        with open(reopen(handle, os.O_RDWR), "r+b", buffering=0) as file:
            lines = file.read(_MAX_BYTES).decode(errors="surrogateescape").splitlines()
            text = "".join([f"{line}\n" for line in change(lines)])
            file.seek(0)
            file.write(text.encode(errors="surrogateescape"))
            file.truncate()
    except OSError as e:
        return (f"the container's {path} stays as it is: {e.strerror}",)
    finally:
        os.close(handle)
    return ()
