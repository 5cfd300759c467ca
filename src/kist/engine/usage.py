"""What running containers use just now. Source: kernel cgroup-v1, cgroup-v2.rst; proc_pid_net_dev; docker stats."""

from __future__ import annotations

import os
import time

from kist.engine.processes import pids_of
from kist.engine.runtime.stats import collect
from kist.errors import KistError
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    record = container.record
    if record is None or record.restarting:
        return None
    try:
        pid = container.pid
    except KistError:
        return None
    received, sent = interface_bytes(pid) if record.namespaces & _CLONE_NEWNET else (0, 0)
    if not record.cgroups:
        return _without_cgroup(container, received, sent)
    counted = collect(record.cgroups)
    memory, entry = _table(counted, "memory"), _table(counted, "memory", "usage")
    raw = _table(memory, "raw")
    cache = _number(raw, "total_inactive_file") or _number(raw, "inactive_file")
    limit, machine = _number(entry, "limit"), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    blocks = _table(counted, "blkio").get("ioServiceBytesRecursive")
    return Sample(
        at_ns=time.monotonic_ns(),
        cpu_ns=_number(_table(counted, "cpu", "usage"), "total"),
        memory_bytes=max(_number(entry, "usage") - cache, 0),
        memory_limit_bytes=min(limit, machine) if 0 < limit < _NO_LIMIT else machine,
        received_bytes=received,
        sent_bytes=sent,
        read_bytes=_moved(blocks, "Read"),
        written_bytes=_moved(blocks, "Write"),
        pids=_number(_table(counted, "pids"), "current"),
    )


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
        with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
            for line in file:
                name, colon, rest = line.partition(":")
                numbers = rest.split()
                if colon and name.strip() != "lo" and len(numbers) >= 9:
                    received, sent = received + int(numbers[0]), sent + int(numbers[8])
    except OSError:
        return 0, 0
    return received, sent


def _table(value: object, *keys: str) -> dict[str, object]:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _number(table: dict[str, object], key: str) -> int:
    value = table.get(key)
    return value if isinstance(value, int) else 0


def _moved(entries: object, op: str) -> int:
    found = entries if isinstance(entries, list) else []
    return sum(entry["value"] for entry in found if entry["op"] == op)
