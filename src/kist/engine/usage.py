"""What running containers use just now. Source: kernel cgroup-v1, cgroup-v2.rst; proc_pid_net_dev; docker stats."""

from __future__ import annotations

import os
import time

from kist.engine.processes import pids_of
from kist.engine.state import read_file
from kist.errors import KistError
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kist.engine.containers import Container

_CLONE_NEWNET = 0x40000000
_NO_LIMIT = 1 << 60  # beyond it v1 means none


class Sample(Value):
    """Counters at one moment. `memory_bytes`: without the page cache that can be dropped. `memory_limit_bytes`: the
    machine's memory where there is no limit."""

    at_ns: int
    cpu_ns: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    pids: int = 0

    def cpu_percent(self, before: Sample) -> float:
        """Of one CPU, since `before`: up to 100 for each CPU of the machine."""
        elapsed_ns = self.at_ns - before.at_ns
        return max(self.cpu_ns - before.cpu_ns, 0) * 100 / elapsed_ns if elapsed_ns > 0 else 0.0

    @property
    def memory_percent(self) -> float:
        return self.memory_bytes * 100 / self.memory_limit_bytes if self.memory_limit_bytes else 0.0


def sample(container: Container) -> Sample | None:
    """None when it does not run."""
    record, pid = container.record, _pid(container)
    if record is None or not pid:
        return None
    received, sent = interface_bytes(pid) if record.namespaces & _CLONE_NEWNET else (0, 0)
    if not record.cgroups:
        return _without_cgroup(container, received, sent)
    files = _Files(record.cgroups)
    cpu_ns = files.cpu_ns()
    if cpu_ns is None:
        return None
    limit, machine = files.number("memory", files.names.limit), _machine_bytes()
    cache = files.keys("memory", "memory.stat").get(files.names.cache, 0)
    read, written = files.moved()
    return Sample(
        at_ns=time.monotonic_ns(),
        cpu_ns=cpu_ns,
        memory_bytes=max(files.number("memory", files.names.usage) - cache, 0),
        memory_limit_bytes=min(limit, machine) if 0 < limit < _NO_LIMIT else machine,
        received_bytes=received,
        sent_bytes=sent,
        read_bytes=read,
        written_bytes=written,
        pids=files.number("pids", "pids.current"),
    )


def cpu_sample(container: Container) -> Sample | None:
    """Only its time on the CPUs, to compare a later sample with: a ninth of the files."""
    record = container.record
    if record is None or record.restarting:
        return None
    if not record.cgroups:
        return sample(container)
    cpu_ns = _Files(record.cgroups).cpu_ns()
    return None if cpu_ns is None else Sample(time.monotonic_ns(), cpu_ns)


def _pid(container: Container) -> int:
    try:
        return container.pid
    except KistError:
        return 0


def _machine_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class _Names(Value):
    usage: str
    limit: str
    cache: str  # in memory.stat: pages of files that can be dropped


_V1 = _Names("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
_V2 = _Names("memory.current", "memory.max", "inactive_file")


class _Files:
    """Those of a container's cgroups: a directory for each hierarchy, or with v2 the only one."""

    def __init__(self, cgroups: Sequence[str]) -> None:
        self._only = cgroups[0] if len(cgroups) == 1 else ""
        self._paths = {} if self._only else {name: path for path in cgroups for name in path.split("/")[4].split(",")}
        self.names = _V2 if self._only else _V1

    def _bytes(self, controller: str, name: str) -> bytes:
        try:
            return read_file(f"{self._only or self._paths[controller]}/{name}")
        except (OSError, KeyError):
            return b""  # gone, or a controller that the host has not

    def number(self, controller: str, name: str) -> int:
        text = self._bytes(controller, name).strip()
        return int(text) if text.isdigit() else 0  # "max", too

    def keys(self, controller: str, name: str) -> dict[str, int]:
        words = self._bytes(controller, name).decode("ascii", "replace").split()
        return {key: int(value) for key, value in zip(words[::2], words[1::2], strict=False) if value.isdigit()}

    def cpu_ns(self) -> int | None:
        """None: the cgroup is gone."""
        if self._only:
            usage_us = self.keys("cpu", "cpu.stat").get("usage_usec")
            return None if usage_us is None else usage_us * 1000
        text = self._bytes("cpuacct", "cpuacct.usage").strip()
        return int(text) if text.isdigit() else 0 if "cpuacct" not in self._paths else None

    def moved(self) -> tuple[int, int]:
        """Read from and written to block devices."""
        if self._only:  # 8:0 rbytes=1 wbytes=2 ...
            pairs = [word.partition(b"=")[::2] for word in self._bytes("io", "io.stat").split()]
            read, written = b"rbytes", b"wbytes"
        else:  # 8:0 Read 1
            lines = self._bytes("blkio", "blkio.throttle.io_service_bytes_recursive").splitlines()
            pairs = [(words[1], words[2]) for line in lines if len(words := line.split()) == 3]
            read, written = b"Read", b"Write"
        return sum(int(n) for op, n in pairs if op == read), sum(int(n) for op, n in pairs if op == written)


def _without_cgroup(container: Container, received: int, sent: int) -> Sample | None:
    """An ordinary user's container without delegation: what its living processes count, memory as resident set size.

    Source: proc_pid_stat(5), fields utime, stime and rss."""
    try:
        pids = pids_of(container)
    except KistError:
        return None
    ticks = pages = alive = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        ticks, pages, alive = ticks + int(fields[11]) + int(fields[12]), pages + int(fields[21]), alive + 1
    page = os.sysconf("SC_PAGE_SIZE")
    return Sample(
        at_ns=time.monotonic_ns(),
        cpu_ns=ticks * 10**9 // os.sysconf("SC_CLK_TCK"),
        memory_bytes=pages * page,
        memory_limit_bytes=page * os.sysconf("SC_PHYS_PAGES"),
        received_bytes=received,
        sent_bytes=sent,
        pids=alive,
    )


def interface_bytes(pid: int) -> tuple[int, int]:
    """Received and sent by all interfaces of a process's network namespace but `lo`. (0, 0) when it is gone."""
    received = sent = 0
    try:
        for line in read_file(f"/proc/{pid}/net/dev").splitlines():
            name, colon, rest = line.partition(b":")
            numbers = rest.split()
            if colon and name.strip() != b"lo" and len(numbers) >= 9:
                received, sent = received + int(numbers[0]), sent + int(numbers[8])
    except OSError:
        return 0, 0
    return received, sent
