"""A container's counters in the shape of runc's `events`, which containerd and others read.

Source: runc types/events.go; kernel cgroup-v1/memory.rst, cpuacct.rst, blkio-controller.rst, cgroup-v2.rst.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def collect(cgroups: Sequence[str]) -> dict[str, object]:
    """cgroup v1: one directory per hierarchy; v2: the only one."""
    if len(cgroups) == 1 and os.path.exists(f"{cgroups[0]}/cgroup.controllers"):
        return _v2(cgroups[0])
    return _v1({path.split("/")[4]: path for path in cgroups})


def oom_kills(cgroups: Sequence[str]) -> int:
    files = ("memory.oom_control", "memory.events")
    return sum(_keys(f"{path}/{name}").get("oom_kill", 0) for path in cgroups for name in files)


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 2**64 - 1 if text == "max" else 0


def _keys(path: str) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _memory_entry(directory: str, prefix: str) -> dict[str, int]:
    return {
        "limit": _number(f"{directory}/{prefix}.limit_in_bytes"),
        "usage": _number(f"{directory}/{prefix}.usage_in_bytes"),
        "max": _number(f"{directory}/{prefix}.max_usage_in_bytes"),
        "failcnt": _number(f"{directory}/{prefix}.failcnt"),
    }


def _blkio(text: str) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[2].isdigit() and ":" in fields[0]:
            major, minor = fields[0].split(":")
            entries.append({"major": int(major), "minor": int(minor), "op": fields[1], "value": int(fields[2])})
    return entries


def _v1(paths: Mapping[str, str]) -> dict[str, object]:
    def at(controller: str) -> str:
        found = next((path for name, path in paths.items() if controller in name.split(",")), "")
        return found or "/nonexistent"

    cpuacct, cpu, memory, pids = at("cpuacct"), at("cpu"), at("memory"), at("pids")
    throttling = _keys(f"{cpu}/cpu.stat")
    ticks = {key: value * 10**9 // os.sysconf("SC_CLK_TCK") for key, value in _keys(f"{cpuacct}/cpuacct.stat").items()}
    percpu = [int(word) for word in _text(f"{cpuacct}/cpuacct.usage_percpu").split()]
    raw = _keys(f"{memory}/memory.stat")
    return {
        "cpu": {
            "usage": {
                "total": _number(f"{cpuacct}/cpuacct.usage"), "percpu": percpu,
                "kernel": ticks.get("system", 0), "user": ticks.get("user", 0),
            },
            "throttling": _throttling(throttling.get("nr_periods", 0), throttling.get("nr_throttled", 0),
                                      throttling.get("throttled_time", 0)),
        },
        "memory": {
            "cache": raw.get("cache", 0),
            "usage": _memory_entry(memory, "memory"),
            "swap": _memory_entry(memory, "memory.memsw"),
            "kernel": _memory_entry(memory, "memory.kmem"),
            "kernelTCP": _memory_entry(memory, "memory.kmem.tcp"),
            "raw": raw,
        },
        "pids": _pids(pids),
        "blkio": {
            "ioServiceBytesRecursive": _blkio(_text(f"{at('blkio')}/blkio.throttle.io_service_bytes_recursive")),
            "ioServicedRecursive": _blkio(_text(f"{at('blkio')}/blkio.throttle.io_serviced_recursive")),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }  # fmt: skip


def _throttling(periods: int, throttled: int, nanoseconds: int) -> dict[str, int]:
    return {"periods": periods, "throttledPeriods": throttled, "throttledTime": nanoseconds}


def _pids(directory: str) -> dict[str, int]:
    limit = _number(f"{directory}/pids.max")
    return {"current": _number(f"{directory}/pids.current"), "limit": 0 if limit == 2**64 - 1 else limit}


def _v2(path: str) -> dict[str, object]:
    cpu, raw = _keys(f"{path}/cpu.stat"), _keys(f"{path}/memory.stat")
    usage = {
        "limit": _number(f"{path}/memory.max"), "usage": _number(f"{path}/memory.current"),
        "max": _number(f"{path}/memory.peak"), "failcnt": _keys(f"{path}/memory.events").get("max", 0),
    }  # fmt: skip
    swap = {
        "limit": _number(f"{path}/memory.swap.max"),
        "usage": _number(f"{path}/memory.swap.current"),
        "max": 0,
        "failcnt": 0,
    }
    nothing = {"limit": 0, "usage": 0, "max": 0, "failcnt": 0}
    entries = []
    for line in _text(f"{path}/io.stat").splitlines():
        number, _, rest = line.partition(" ")
        major, _, minor = number.partition(":")
        for word in rest.split():
            key, _, value = word.partition("=")
            if key in ("rbytes", "wbytes") and major.isdigit() and minor.isdigit() and value.isdigit():
                op = {"rbytes": "Read", "wbytes": "Write"}[key]
                entries.append({"major": int(major), "minor": int(minor), "op": op, "value": int(value)})
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000, "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": _throttling(cpu.get("nr_periods", 0), cpu.get("nr_throttled", 0),
                                      cpu.get("throttled_usec", 0) * 1000),
        },
        "memory": {
            "cache": raw.get("file", 0), "usage": usage, "swap": swap, "kernel": nothing, "kernelTCP": nothing,
            "raw": raw,
        },
        "pids": _pids(path),
        "blkio": {"ioServiceBytesRecursive": entries},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }  # fmt: skip
