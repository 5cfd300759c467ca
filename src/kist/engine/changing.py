"""A container's place in a network while a command changes it, so that what a killed one left is finished by the next.

RUN/.network/changing/ID    the network's name; locked for as long as the command, or a launcher of its, lives
"""

from __future__ import annotations

import os
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.engine.state import StateDirectory

_DIRECTORY = ".network/changing"


@contextmanager
def changing(states: StateDirectory, id: str, network: str) -> Iterator[int]:
    """While nobody else changes a place of this container's; the fd that says so, for launchers."""
    path = f"{states.base}/{_DIRECTORY}/{id}"
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    fd = _locked(path, os.O_CREAT)
    try:
        _finish(states, id, fd)
        os.pwrite(fd, network.encode(), 0)
        yield fd
    finally:
        os.unlink(path)
        os.close(fd)


def finish(states: StateDirectory) -> None:
    """What commands that were killed left: such a place is given back."""
    try:
        ids = os.listdir(f"{states.base}/{_DIRECTORY}")
    except FileNotFoundError:
        return
    for id in ids:
        path = f"{states.base}/{_DIRECTORY}/{id}"
        try:
            fd = _locked(path, 0, wait=False)
        except (FileNotFoundError, BlockingIOError):
            continue
        try:
            _finish(states, id, fd)
            os.unlink(path)
        finally:
            os.close(fd)


def _locked(path: str, flags: int, *, wait: bool = True) -> int:
    """The file of that name, also when others remove it meanwhile. Raises BlockingIOError, FileNotFoundError."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    while True:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
        try:
            flock(fd, LOCK_EX if wait else LOCK_EX | LOCK_NB)
            if os.fstat(fd).st_nlink:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _finish(states: StateDirectory, id: str, fd: int) -> None:
    network = os.pread(fd, 1 << 12, 0).decode()
    if not network:
        return
    from kist.engine.connect import take_out
    from kist.engine.containers import Containers
    from kist.errors import KistError

    try:
        take_out(Containers(states=states), id, network, fd)
    except KistError:
        pass  # the container is gone, or the network: and with it the place
    os.ftruncate(fd, 0)
