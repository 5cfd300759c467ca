"""Namespaces of a process beside the host's: same or different. Reads links of /proc, changes nothing.

Source: namespaces(7): two processes are in the same namespace if the links in /proc/PID/ns have the same inode.
"""

from __future__ import annotations

import os

from kist.engine.containers import Containers
from kist.errors import Conflict, InvalidInput, NotFound, Refused
from kist.value import Value

# In the order in which `kist explain` tells them. Source: namespaces(7).
ISOLATES = {
    "user": "user and group ids, capabilities",
    "mnt": "mounts: the tree of files",
    "pid": "process ids",
    "net": "interfaces, addresses, ports",
    "ipc": "System V IPC, POSIX message queues",
    "uts": "host name and domain name",
    "cgroup": "what looks like the root cgroup",
    "time": "clocks since boot",
}


class Namespace(Value):
    """One line of the comparison. Inode numbers; 0 when this kernel has no such namespace."""

    name: str
    host: int
    process: int
    same: bool
    isolates: str


class Comparison(Value):
    """`host_is_pid_1` is False where only root may look at PID 1: then "host" is the caller's own namespaces."""

    pid: int
    host_is_pid_1: bool
    namespaces: tuple[Namespace, ...]


def compare(pid: int) -> Comparison:
    """Raises NotFound if there is no such process, Refused if the caller may not look at it (ptrace(2) rules)."""
    theirs = _inodes(str(pid))
    try:
        host, host_is_pid_1 = _inodes("1"), True
    except (Refused, NotFound):  # hidepid= hides it altogether
        host, host_is_pid_1 = _inodes("self"), False
    pairs = ((name, host.get(name, 0), theirs.get(name, 0)) for name in ISOLATES)
    return Comparison(pid, host_is_pid_1, tuple(Namespace(n, a, b, a == b, ISOLATES[n]) for n, a, b in pairs))


def find_pid(container_or_pid: str) -> int:
    """The first process of a container, by name or id; else the number of a process of this host.

    Raises NotFound, InvalidInput.
    """
    try:
        return Containers().find(container_or_pid).pid
    except (NotFound, Conflict):
        if not (container_or_pid.isascii() and container_or_pid.isdigit()):
            raise
    if len(container_or_pid) > 10 or int(container_or_pid) == 0:
        raise InvalidInput(f"{container_or_pid} is not a process id", path="CONTAINER|PID", next="see ps(1)")
    return int(container_or_pid)


def _inodes(pid: str) -> dict[str, int]:
    """Inode by namespace. One open directory, so that all links are of the same process, even if its id is reused."""
    try:
        directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise NotFound(f"there is no process {pid}", why=e.strerror or "", next="see ps(1)") from e
    try:
        inodes = {}
        for name in ISOLATES:
            try:
                link = os.readlink(f"ns/{name}", dir_fd=directory)  # "pid:[4026531836]"
            except FileNotFoundError:
                continue  # an older kernel
            inodes[name] = int(link.partition("[")[2].removesuffix("]"))
        if not inodes:
            raise NotFound(f"there is no process {pid}", why="it has ended", next="see ps(1)")
        return inodes
    except PermissionError as e:
        why = "its namespaces are visible to its own user and to root"
        raise Refused(f"cannot look at process {pid}", why=why, next="run as root, or as that user") from e
    except ProcessLookupError as e:
        raise NotFound(f"there is no process {pid}", why="it has ended", next="see ps(1)") from e
    finally:
        os.close(directory)
