"""--systemd-cgroup: systemd makes the container's cgroup, as a scope unit. Source: runc docs/systemd.md.

A scope needs a process from the beginning. The container has none yet, so one of ours keeps the place until it has.
"""

from __future__ import annotations

import os

from kist.errors import InvalidInput, KistError
from kist.kernel.systemd import Manager, Property
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kist.plan.facts import HostFacts
    from kist.spec.runtime import Resources, Spec

_PROPERTY = "org.systemd.property."
_WAIT_S = 30.0
_UNLIMITED = 2**64 - 1


class Scope(Value):
    """`path` is the cgroup below the mount point; the keeper lives until its standard input ends: `hold` is open."""

    unit: str
    path: str
    keeper: int
    hold: int

    @property
    def release(self) -> str:
        """A file: what is written there ends the keeper."""
        return f"/proc/{self.keeper}/fd/0"


def unit_names(cgroups_path: str, id: str) -> tuple[str, str]:
    """The slice and the unit for `slice:prefix:name`. Raises InvalidInput."""
    slice, prefix, name = "system.slice" if os.geteuid() == 0 else "user.slice", "kist", id
    if cgroups_path:
        words = cgroups_path.split(":")
        if len(words) != 3 or not words[2]:
            raise InvalidInput(
                f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got {cgroups_path!r}',
                path="$.linux.cgroupsPath",
            )
        slice, prefix, name = words[0] or slice, words[1], words[2]
    if name.endswith(".slice"):
        raise InvalidInput(f"{name!r}: the cgroup of a container is a scope", path="$.linux.cgroupsPath")
    return slice, f"{prefix}-{name}.scope" if prefix else f"{name}.scope"


def start(spec: Spec, id: str, facts: HostFacts) -> Scope:
    """Raises InvalidInput, Unsupported without systemd, UnitError."""
    slice, unit = unit_names(spec.linux.cgroups_path, id)
    properties = [
        Property("Description", "s", f"kist container {id}"),
        Property("Slice", "s", slice),
        Property("Delegate", "b", True),
        Property("DefaultDependencies", "b", False),
        Property("CollectMode", "s", "inactive-or-failed"),
        *(Property(f"{name}Accounting", "b", True) for name in ("CPU", "Memory", "Tasks")),
        Property("IOAccounting" if facts.cgroup.version == 2 else "BlockIOAccounting", "b", True),
        *(resource_properties(spec.linux.resources, facts) if spec.linux.resources else ()),
        *_annotated(spec.annotations),
    ]
    keeper, hold = _keeper()
    try:
        with Manager() as manager:
            manager.start_scope(unit, [*properties, Property("PIDs", "au", [keeper])])
        return Scope(unit, _place(keeper, unit), keeper, hold)
    except BaseException:
        os.close(hold)
        raise


def within(spec: Spec, facts: HostFacts, scope: Scope) -> tuple[Spec, HostFacts]:
    """Both as if the cgroup had been asked for by its path."""
    v2 = facts.cgroup.v2
    path = scope.path
    if v2 and not v2.base_is_root:
        base, _, name = path.rpartition("/")
        enabled = frozenset(_read(f"{v2.mount}{path}/cgroup.controllers").split())
        v2 = replace(
            v2, base=base, path=base, available=enabled, enabled=enabled, delegated=True, other_processes=False,
            type="domain",
        )  # fmt: skip
        facts, path = replace(facts, cgroup=replace(facts.cgroup, v2=v2)), f"/{name}"
    return replace(spec, linux=replace(spec.linux, cgroups_path=path)), facts


def resource_properties(resources: Resources, facts: HostFacts) -> list[Property]:
    """The limits in systemd's words, so that it does not take them back. Source: systemd.resource-control(5)."""
    from kist.plan.cgroup_limits import v2_cpu_weight

    v2 = facts.cgroup.version == 2
    found = []

    def limit(name: str, value: int | None) -> None:
        if value:
            found.append(Property(name, "t", value if value > 0 else _UNLIMITED))

    memory, cpu, pids = resources.memory, resources.cpu, resources.pids
    if memory:
        limit("MemoryMax" if v2 else "MemoryLimit", memory.limit)
        limit("MemoryLow", memory.reservation if v2 else None)
        if v2 and memory.swap and memory.limit and 0 < memory.limit <= memory.swap:
            found.append(Property("MemorySwapMax", "t", memory.swap - memory.limit))
    if cpu:
        shares = cpu.shares or 0
        limit("CPUWeight" if v2 else "CPUShares", v2_cpu_weight(shares) if v2 and shares else shares)
        if cpu.quota:
            period = cpu.period or 100_000
            per_second = _UNLIMITED if cpu.quota < 0 else -(-cpu.quota * 1_000_000 // period // 10_000) * 10_000
            found.append(Property("CPUQuotaPerSecUSec", "t", per_second))
        if cpu.period:
            found.append(Property("CPUQuotaPeriodUSec", "t", cpu.period))
        for name, text in (("AllowedCPUs", cpu.cpus), ("AllowedMemoryNodes", cpu.mems)):
            if v2 and text:
                from kist.plan.compile_process import cpu_mask

                mask = cpu_mask(text, "$.linux.resources.cpu").rstrip(b"\0")
                found.append(Property(name, "ay", mask))
    if pids and pids.limit is not None:
        found.append(Property("TasksMax", "t", _UNLIMITED if pids.limit < 0 else max(pids.limit, 1)))
    return found


def _annotated(annotations: Mapping[str, str]) -> list[Property]:
    """`org.systemd.property.NAME: VALUE`, the value as gvariant-text(5) has it: 'word', true, 5, uint64 5, ['a', 'b'].

    A name that ends in Sec is given in seconds and goes to systemd in microseconds, as NAMEUSec.
    """
    return [
        _property(k.removeprefix(_PROPERTY), v.strip(), k) for k, v in annotations.items() if k.startswith(_PROPERTY)
    ]


def _property(name: str, text: str, key: str) -> Property:
    kind, _, number = text.rpartition(" ")
    if not (name.isascii() and name.isalpha()):
        raise InvalidInput(f"{name!r} is no name of a property", path=f"$.annotations[{key!r}]")
    if name.endswith("Sec") and not name.endswith("USec") and number.isdigit():
        return Property(f"{name[:-3]}USec", "t", int(number) * 1_000_000)
    if text in ("true", "false"):
        return Property(name, "b", text == "true")
    if text.startswith("["):
        return Property(name, "as", [word.strip().strip("'\"") for word in text.strip("[]").split(",") if word.strip()])
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        return Property(name, "s", text[1:-1])
    signature = {"": "i", "int32": "i", "uint32": "u", "uint64": "t", "int64": "x"}.get(kind)
    if signature and number.removeprefix("-").isdigit():
        return Property(name, signature, int(number))
    raise InvalidInput(f"{text!r} is no value: 'text', true, 5, uint64 5 or ['a']", path=f"$.annotations[{key!r}]")


def _keeper() -> tuple[int, int]:
    """A process that lives until its standard input ends, soon nobody's child. Its pid, and the other end."""
    read, write = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:
                os.setsid()
                os.write(tell, f"{os.getpid()}\n".encode())
                os.dup2(read, 0)
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, 1)
                os.dup2(null, 2)
                os.closerange(3, 1024)
                os.read(0, 1)
        finally:
            os._exit(0)
    os.close(read)
    os.close(tell)
    os.waitpid(child, 0)
    with os.fdopen(told, "rb") as file:
        line = file.readline()
    return int(line), write


def _place(keeper: int, unit: str) -> str:
    """The cgroup, when systemd has moved the process there."""
    import time

    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        for line in _read(f"/proc/{keeper}/cgroup").splitlines():
            _, names, path = line.split(":", 2)
            if names in ("", "name=systemd") and path.endswith(f"/{unit}"):
                return path
        time.sleep(0.002)
    raise KistError(f"systemd has not started {unit}", next=f"systemctl status {unit}", code="systemd")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
