"""The processes of a container as ps(1) of the host shows them: none is needed inside."""

from __future__ import annotations

import os

from kist.errors import Conflict, KistError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kist.engine.containers import Container


def pids_of(container: Container) -> set[int]:
    """By their numbers on the host. Raises Conflict when it does not run."""
    from kist.kernel.cgroup import pids

    first, record = container.pid, container.record
    if record is None:
        raise Conflict(f"container {container.name} is not running", code="not-running")
    if record.cgroups:
        return pids(record.cgroups[0]) or {first}
    return _same_namespace(first) if record.namespaces & _CLONE_NEWPID else {first}


_CLONE_NEWPID = 0x20000000


def _same_namespace(first: int) -> set[int]:
    """Where there is no cgroup: the processes in the PID namespace of `first`, as far as they may be looked at."""

    def namespace(pid: str) -> str:
        try:
            return os.readlink(f"/proc/{pid}/ns/pid")
        except OSError:
            return ""

    own = namespace(str(first))
    return {first, *(int(name) for name in os.listdir("/proc") if name.isdigit() and own and namespace(name) == own)}


def listing(pids: Collection[int], options: Sequence[str]) -> tuple[str, list[str]]:
    """The heading, and the lines of those processes. `options`: of ps(1), "-ef" if there are none.

    Raises NotFound without ps(1), KistError when what it prints has no column PID.
    """
    from kist.kernel.programs import run_program

    head, *lines = run_program(["ps", *(options or ["-ef"])], timeout_s=30).splitlines()
    try:
        column = head.split().index("PID")
    except ValueError as e:
        raise KistError("couldn't find PID field in ps output", next="give ps options that show it") from e

    def is_wanted(line: str) -> bool:
        fields = line.split()
        return len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids

    return head, [line for line in lines if is_wanted(line)]
