"""The network namespace that the containers of an ordinary user share: the bridges of the user's networks are there.

Nobody serves it. It belongs to a user namespace that those containers are in, too (plan/compile_shared.py); each one's
supervisor has it open, and so it ends with the last of them, bridges and all. Who comes next finds it among what
those hold, or makes a new one, with the database locked:

    Record.shared         of a container that runs: FD INODE, the file descriptor of its supervisor
    RUN/.network/shared   of those that are just being made: lines of PID FD INODE
"""

from __future__ import annotations

import os
from fcntl import ioctl

from kist.kernel.launcher import run_steps
from kist.kernel.netlink import Netlink
from kist.network.database import DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.network.attach import States
    from kist.plan.facts import HostFacts
    from kist.plan.steps import Plan

_GET_USERNS = 0xB701  # NS_GET_USERNS, ioctl_nsfs(2)


class Shared:
    """Open: the namespace, the user namespace that owns it, and a connection inside."""

    def __init__(self, net: int, connection: Netlink) -> None:
        self.net, self.connection = net, connection
        self.user = ioctl(net, _GET_USERNS)
        self.net_path, self.user_path = (f"/proc/self/fd/{fd}" for fd in (net, self.user))

    @property
    def words(self) -> str:
        """As Record.shared has it."""
        return f"{self.net} {os.fstat(self.net).st_ino}"

    def close(self) -> None:
        self.connection.close()
        for fd in (self.net, self.user):
            os.close(fd)


def find(states: States) -> Shared | None:
    """With the database locked."""
    for line in (*_noted(states.base), *states.shared()):
        net = _open(line)
        if net >= 0:
            try:
                return _entered(net)
            finally:
                os.close(net)
    return None


def place(states: States) -> tuple[str, str]:
    """Paths, for other programs, of what containers share: the network namespace, and the user namespace that owns it.
    "": there is none. With the database locked."""
    for record in states.records():
        if record.shared and (net := _path(f"{states.supervisor(record.id)} {record.shared}")):
            return net, f"/proc/{states.pid(record.id)}/ns/user"
    return "", ""


def make(states: States, facts: HostFacts) -> Shared:
    """The one that is there, else a new one; with the database locked. The caller is noted as somebody who has it open.
    Raises Refused, StepFailed."""
    found = find(states)
    if found is None:
        from kist.plan.compile_shared import made

        found = _lent(lambda socket: made(facts, socket))
    lines = [line for line in _noted(states.base) if _is_there(line)]
    path = f"{states.base}/{DIRECTORY}/shared"
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write("".join([f"{line}\n" for line in (*lines, f"{os.getpid()} {found.words}")]))
    os.rename(f"{path}.new", path)
    return found


def _noted(base: str) -> list[str]:
    try:
        with open(f"{base}/{DIRECTORY}/shared", encoding="ascii") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def _path(line: str) -> str:
    """What the process has open there, if it is what the line says; else ""."""
    pid, fd, inode = line.split(" ")
    try:
        return path if os.readlink(path := f"/proc/{pid}/fd/{fd}") == f"net:[{inode}]" else ""
    except OSError:
        return ""


def _is_there(line: str) -> bool:
    return bool(_path(line))


def _open(line: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC) if (path := _path(line)) else -1
    except OSError:
        return -1


def _entered(net: int) -> Shared:
    from kist.plan.compile_shared import entered

    user = ioctl(net, _GET_USERNS)
    try:
        paths = (f"/proc/self/fd/{net}", f"/proc/self/fd/{user}")
        return _lent(lambda socket: entered(*paths, socket), net, user)
    finally:
        os.close(user)


def _lent(plan: Callable[[int], Plan], *keep: int) -> Shared:
    from _socket import AF_UNIX, CMSG_SPACE, SOCK_SEQPACKET, socketpair

    here, there = socketpair(AF_UNIX, SOCK_SEQPACKET)
    try:
        run_steps(plan(there.fileno()), there.fileno(), *keep)
        connection, net = (
            int.from_bytes(here.recvmsg(4, CMSG_SPACE(4))[1][0][2], "little") for _ in range(2)
        )  # fmt: skip
    finally:
        here.close()
        there.close()
    for fd in (connection, net):
        os.set_inheritable(fd, False)
    return Shared(net, Netlink(made=connection))
