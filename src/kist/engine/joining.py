"""Namespaces that exist: --network and --pid with container:NAME or ns:PATH."""

from __future__ import annotations

import os

from kist.errors import Conflict, InvalidInput, NotFound
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kist.engine.state import StateDirectory
    from kist.plan.facts import HostFacts
    from kist.plan.request import RunRequest

_NAMES = {"network": "net", "pid": "pid", "user": "user"}  # OCI's words and those of /proc/PID/ns
_SHARED = ("/etc/hosts", "/etc/resolv.conf")


class Joined(Value):
    """`paths` by OCI's name of the namespace lead to the open `fds`, which no other process can become meanwhile."""

    paths: Mapping[str, str]
    fds: tuple[int, ...]
    files: tuple[tuple[str, bytes], ...] = ()

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


def join(request: RunRequest, facts: HostFacts, states: StateDirectory, id: str) -> Joined:
    """`id`: the container's own, which is not meant.

    Raises NotFound, Conflict (it does not run), InvalidInput (the path is no such namespace)."""
    opened: dict[str, int] = {}
    files: tuple[tuple[str, bytes], ...] = ()
    try:
        for kind, text in (("network", request.network), ("pid", request.pid)):
            mode, _, what = text.partition(":")
            if mode == "ns":
                opened[kind] = _open(kind, what)
            elif mode == "container":
                pid = _pid(what, states, id)
                opened[kind] = _open(kind, f"/proc/{pid}/ns/{_NAMES[kind]}")
                if facts.uid != 0 or request.userns == "private":  # the namespace belongs to that of its users
                    opened.setdefault("user", _open("user", f"/proc/{pid}/ns/user"))
                files = _files(pid) if kind == "network" else files
    except BaseException:
        for fd in opened.values():
            os.close(fd)
        raise
    return Joined({kind: f"/proc/self/fd/{fd}" for kind, fd in opened.items()}, tuple(opened.values()), files)


def _pid(name: str, states: StateDirectory, own: str) -> int:
    from kist.engine.containers import Containers

    try:
        return Containers(states=states).find(name, but=own).pid
    except Conflict as e:
        raise Conflict(f"{name} does not run: its namespaces are gone", next=f"kist start {name}", code=e.code) from e


def _open(kind: str, path: str) -> int:
    from fcntl import ioctl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise NotFound(f"no namespace {path}: {e.strerror}", next="ip netns list, or lsns") from e
    try:
        found = ioctl(fd, _GET_KIND)
    except OSError:
        found = -1
    if found != _KINDS[kind]:
        os.close(fd)
        raise InvalidInput(f"{path} is no {kind} namespace", next="/proc/PID/ns/net, or a file of ip netns")
    return fd


_GET_KIND = 0xB703  # NS_GET_NSTYPE, ioctl_nsfs(2)
_KINDS = {"network": 0x40000000, "pid": 0x20000000, "user": 0x10000000}


def _files(pid: int) -> tuple[tuple[str, bytes], ...]:
    """What the other container knows of the network, read as a file that nobody trusts."""
    from kist.engine.identity import RootReader

    read = RootReader(f"/proc/{pid}/root")
    return tuple([(path, text.encode()) for path in _SHARED if (text := read(path))])
