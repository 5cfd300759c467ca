"""Cgroups as they run: what they counted, moving into one, removing them with everything inside.

Making them is the launcher's work (plan.cgroup). Source: cgroups(7); kernel cgroup-v2.rst and
cgroup-v1/freezer-subsystem.rst.
"""

from __future__ import annotations

import errno
import time

from kist.errors import Conflict
from kist.system import os
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Usage(Value):
    """What a container used. None: this kernel does not count it, or the controller is not there."""

    cpu_total_ns: int | None = None
    cpu_user_ns: int | None = None  # user and system are sampled on v1: their sum may differ from total
    cpu_system_ns: int | None = None
    memory_peak_bytes: int | None = None  # v2: since Linux 5.19
    memory_limit_hits: int | None = None  # times that the limit made the kernel reclaim or kill
    oom_kills: int | None = None  # processes that the OOM killer ended
    pids_peak: int | None = None  # since Linux 6.1
    pids_limit_hits: int | None = None  # forks refused
    io_read_bytes: int | None = None
    io_written_bytes: int | None = None


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _keys(text: str) -> dict[str, int]:
    """Flat keyed: a "key number" pair a line; other lines are left out."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: value for pair in pairs if len(pair) == 2 and (value := _number(pair[1])) is not None}


def _nested_sum(text: str, key: str) -> int:
    """Nested keyed (io.stat): the sum of `key=` over all lines."""
    words = (word.partition("=") for line in text.splitlines() for word in line.split()[1:])
    return sum(_number(value) or 0 for name, _, value in words if name == key)


def _blkio_sum(text: str, direction: str) -> int:
    """v1 "8:0 Read 4096": the sum over all devices."""
    lines = (line.split() for line in text.splitlines())
    return sum(_number(line[2]) or 0 for line in lines if len(line) == 3 and line[1] == direction)


def parse_usage(reports: Mapping[str, str]) -> Usage:
    """Usage from what CgroupPlan.after reported: file contents by label, v1's and v2's file names alike.

    A missing, cut or strange file leaves its numbers None; this never raises.
    """

    def times(usec: int | None) -> int | None:
        return None if usec is None else usec * 1000

    def number(label: str) -> int | None:
        return _number(reports.get(label, ""))

    def first(*values: int | None) -> int | None:
        return next((value for value in values if value is not None), None)

    cpu = _keys(reports.get("cpu.stat", ""))
    events = _keys(reports.get("memory.events", ""))
    io, blkio = reports.get("io.stat"), reports.get("blkio.throttle.io_service_bytes")
    read = written = None
    if io is not None:
        read, written = _nested_sum(io, "rbytes"), _nested_sum(io, "wbytes")
    elif blkio is not None:
        read, written = _blkio_sum(blkio, "Read"), _blkio_sum(blkio, "Write")
    return Usage(
        cpu_total_ns=first(times(cpu.get("usage_usec")), number("cpuacct.usage")),
        cpu_user_ns=first(times(cpu.get("user_usec")), number("cpuacct.usage_user")),
        cpu_system_ns=first(times(cpu.get("system_usec")), number("cpuacct.usage_sys")),
        memory_peak_bytes=first(number("memory.peak"), number("memory.max_usage_in_bytes")),
        memory_limit_hits=first(events.get("max"), number("memory.failcnt")),
        oom_kills=first(events.get("oom_kill"), _keys(reports.get("memory.oom_control", "")).get("oom_kill")),
        pids_peak=number("pids.peak"),
        pids_limit_hits=_keys(reports.get("pids.events", "")).get("max"),
        io_read_bytes=read,
        io_written_bytes=written,
    )


def enter(path: str) -> None:
    """Make the v2 cgroup `path` and move this whole process there (CgroupPlan.leaf). Raises OSError."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    _write(os.path.join(path, "cgroup.procs"), "0")


def remove_cgroups(paths: Sequence[str], *, timeout_s: float = 5.0) -> None:
    """Kill every process in these cgroups and below them, then remove the directories. One that is gone is fine.

    Raises Conflict when one is still there after `timeout_s`: a process in uninterruptible sleep, or this very process
    is inside. Everything that could be removed has been.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.0005
    # The v1 freezer first: who is stopped there cannot fork while the other hierarchies are read.
    left = sorted(paths, key=lambda path: not os.path.exists(f"{path}/freezer.state"))
    while left := [path for path in left if not _remove(path)]:
        pids = set[int]().union(*map(_kill, left))
        if os.getpid() in pids or time.monotonic() >= deadline:
            raise Conflict(
                f"cannot remove the cgroup {left[0]}",
                why="kist itself runs in it" if os.getpid() in pids else f"still inside: {sorted(pids) or 'nobody'}",
                next="run kist from another cgroup" if os.getpid() in pids else "see /proc/PID/stack of what is inside",
                code="cgroup-busy",
            )
        time.sleep(pause_s)  # nothing tells of a v1 cgroup that has become empty
        pause_s = min(pause_s * 2, 0.05)


def pids(path: str) -> set[int]:
    """Processes in a cgroup and below it."""
    return _pids(path)


def kill_all(paths: Sequence[str], number: int) -> None:
    """Send a signal to every process in these cgroups (the hierarchies of one container) and below them."""
    import _signal as signal  # type: ignore[import-not-found]

    for path in paths:
        if number == signal.SIGKILL:
            _kill(path)
        else:
            _signal_all(path, number)
        return  # all of them hold the same processes


def write_value(path: str, value: str) -> bool:
    """False when there is no such file. Raises OSError when the kernel does not take the value."""
    return _write(path, value)


def _remove(path: str) -> bool:
    for _ in _walk(path, remove=True):
        pass
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as e:
        if e.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True


def _kill(path: str) -> set[int]:
    """SIGKILL to all inside; to nobody when we are. Returns who was there.

    v2: cgroup.kill (Linux 5.14) reaches those just being forked, too. Else all are stopped first.
    """
    pids = _pids(path)
    if pids and os.getpid() not in pids and not _write(f"{path}/cgroup.kill", "1"):
        _freeze(path)
        _signal_all(path)
        _write(f"{path}/freezer.state", "THAWED")  # a process stopped by v1 dies only now
        _write(f"{path}/cgroup.freeze", "0")
    return pids


def _freeze(path: str) -> None:
    """Stop all processes and wait, a little, until they stand still."""
    if _write(f"{path}/freezer.state", "FROZEN"):
        for _ in range(50):
            with open(f"{path}/freezer.state", encoding="ascii") as file:
                if file.read().strip() == "FROZEN":
                    return
            time.sleep(0.001)
    else:
        _write(f"{path}/cgroup.freeze", "1")


def _signal_all(path: str, number: int = 9) -> None:
    """A signal by pidfd: between reading a list and signalling, a number can come to mean another process."""
    import _signal as signal

    pids = sorted(_pids(path))
    for start in range(0, len(pids), 100):
        handles: dict[int, int] = {}
        try:
            for pid in pids[start : start + 100]:
                try:
                    handles[pid] = os.pidfd_open(pid)
                except ProcessLookupError:
                    pass
            for pid in handles.keys() & _pids(path):
                try:
                    signal.pidfd_send_signal(handles[pid], number)
                except ProcessLookupError:
                    pass
        finally:
            for handle in handles.values():
                os.close(handle)


def _pids(path: str) -> set[int]:
    """Processes at and below `path`; without those of other PID namespaces, which read as 0."""
    pids: set[int] = set()
    for fd in _walk(path):
        try:
            file = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)
            with open(file, encoding="ascii") as lines:
                pids.update(map(int, lines))
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):  # gone; a threaded one is read above it
                raise
    return pids - {0}


_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _walk(path: str, *, remove: bool = False) -> Iterator[int]:
    """A directory fd of each cgroup at and below `path`, children first; `remove` tries to remove each one below.

    One fd is open at a time and no long path is used: a container may have nested cgroups as deep as it liked.
    """
    try:
        fd = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        names: list[str] = []
        levels = [_children(fd)]
        while True:
            if levels[-1]:
                name = levels[-1].pop()
                try:
                    child = os.open(name, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    continue
                os.close(fd)
                fd = child
                names.append(name)
                levels.append(_children(fd))
                continue
            yield fd
            levels.pop()
            if not levels:
                return
            parent = os.open("..", _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = parent
            name = names.pop()
            if remove:
                try:
                    os.rmdir(name, dir_fd=fd)
                except OSError:
                    pass  # the caller sees it when it removes the top
    finally:
        os.close(fd)


def _children(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _write(path: str, value: str) -> bool:
    """False when there is no such file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.write(fd, value.encode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)
    return True
