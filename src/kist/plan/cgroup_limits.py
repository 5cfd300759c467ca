"""OCI `linux.resources` as values for the files of one cgroup, in the order in which the kernel takes them.

Source: OCI config-linux.md; kernel cgroup-v1/*.rst, cgroup-v2.rst, sched-bwc.rst. Every function may raise InvalidInput
for values that no kernel accepts. 0 means "not set" and -1 "no limit", as in runc: neither needs a write, because a
fresh cgroup has no limit.
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.plan.facts import HostFacts
from kist.plan.words import members
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.spec.runtime import BlockIO, Cpu, Memory, Network, Resources

WHERE = "$.linux.resources"


class Limit(Value):
    """One value for one file."""

    name: str  # below linux.resources, "memory.limit": what an error and `not_enforced` call it
    controller: str  # "" for the files that every cgroup has
    file: str
    data: str
    why: str
    missing: str = ""  # why this host has no such file; "" when it has
    next: str = ""


def v2_cpu_weight(shares: int) -> int:
    """cpu.weight (1..10000) for v1 cpu.shares (2..262144): both ends and the defaults 1024 -> 100 meet.

    Source: the quadratic that runc (since 1.3.2) and crun use; the older linear one gave 1024 -> 39.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    import math  # a file of its own to load: 0.4 ms of each start

    bits = math.log2(shares)
    return math.ceil(10 ** ((bits * bits + 125 * bits) / 612 - 7 / 34))


def v2_io_weight(weight: int) -> int:
    """io.weight (1..10000) for blkio weight (10..1000), linear, as runc does."""
    return 1 + (weight - 10) * 9999 // 990


def v2_swap(memory: int, swap: int) -> int:
    """memory.swap.max in bytes for OCI's swap, which counts memory too. `memory` -1: no limit; then swap as it is.

    Raises InvalidInput when the sum is the smaller one, or without a memory limit to take off.
    """
    if swap < 0:
        return swap
    _check_swap(memory, swap)
    return swap if memory < 0 else swap - memory


def _check_swap(memory: int, swap: int) -> None:
    if memory == 0:
        raise InvalidInput(
            "a limit of memory and swap needs a memory limit", path=f"{WHERE}.memory.swap", next="set memory as well"
        )
    if 0 < swap < memory:
        raise InvalidInput(
            f"{swap} bytes of memory and swap together are less than the memory limit, {memory}",
            path=f"{WHERE}.memory.swap",
            next="swap is the sum of both: make it at least the memory limit; equal means no swap",
        )


def _amount(value: int | None, path: str, low: int = 1, high: int = 2**63 - 1) -> int:
    """A limit: 0 when not set, -1 when unlimited. Raises InvalidInput outside of low..high."""
    if value is None or value in (0, -1):
        return value or 0
    if not low <= value <= high:
        raise InvalidInput(f"{value} is not within {low}..{high}", path=f"{WHERE}.{path}")
    return value


# --- memory, pids -------------------------------------------------------------------------------------------------


def _memory(memory: Memory, facts: HostFacts, v2: bool, update: bool) -> Iterator[Limit]:
    def limit(name: str, file: str, data: int, why: str, **rest: str) -> Limit:
        return Limit(f"memory.{name}", "memory", f"memory.{file}", _text(data, v2), why, **rest)

    most = _amount(memory.limit, "memory.limit")
    if _counts(most, update):
        yield limit("limit", "max" if v2 else "limit_in_bytes", most, "beyond it: reclaim, then the OOM killer")
    swap = _amount(memory.swap, "memory.swap")
    if update and most < 0 and memory.swap is None and facts.cgroup.swap_accounting:
        swap = -1  # OCI's is the sum of both: it cannot be less than unlimited memory; as runc has it, on v2, too
    # No swap at all, as crun has it; v1 cannot say so, and a caller that writes 0 for all it has not set means nothing.
    none = v2 and memory.swap == 0 and memory.limit != 0 and facts.cgroup.swap_accounting
    if _counts(swap, update) or none:
        if swap > 0 and not (update and memory.limit is None and not v2):  # else the kernel compares
            _check_swap(most if v2 else max(most, 0), swap)
        # v1: after the memory limit, which must never be above the sum.
        file, data = ("swap.max", v2_swap(most, swap) if swap else 0) if v2 else ("memsw.limit_in_bytes", swap)
        absent = "" if facts.cgroup.swap_accounting else "this kernel does not count swap per cgroup"
        boot = "boot with swapaccount=1 (CONFIG_SWAP is needed too), or set no swap limit"
        yield limit("swap", file, data, "swap, so that a full memory does not move there", missing=absent, next=boot)
    reservation = _amount(memory.reservation, "memory.reservation")
    if _counts(reservation, update):
        file = "low" if v2 else "soft_limit_in_bytes"
        yield limit("reservation", file, reservation, "what the container keeps while others need memory")
    tcp = _amount(memory.kernel_tcp, "memory.kernelTCP")
    if _counts(tcp, update):
        absent = "cgroup v2 counts the buffers of TCP with all other memory" if v2 else ""
        fix = "leave it out; memory.limit holds for them, too"
        yield limit("kernelTCP", "kmem.tcp.limit_in_bytes", tcp, "what TCP may buffer", missing=absent, next=fix)
    if memory.swappiness is not None:
        if not 0 <= memory.swappiness <= 100:
            raise InvalidInput(f"{memory.swappiness} is not within 0..100", path=f"{WHERE}.memory.swappiness")
        absent = "cgroup v2 has no swappiness per cgroup" if v2 else ""
        fix = "leave it out; memory.swap bounds swapping"
        why = "how readily pages go to swap"
        yield limit("swappiness", "swappiness", memory.swappiness, why, missing=absent, next=fix)
    if memory.disable_oom_killer:
        absent = "cgroup v2 cannot switch the OOM killer off" if v2 else ""
        fix = "leave it out; --oom-score-adj tells the OOM killer whom to spare"
        yield limit("disableOOMKiller", "oom_control", 1, "processes wait instead of dying", missing=absent, next=fix)


def _pids(limit: int | None, update: bool) -> Iterator[Limit]:
    if limit is not None and (limit >= 0 or update):
        # 0 as 1, as runc and systemd have it: the command itself is there in either case.
        data = "max" if limit < 0 else str(max(limit, 1))
        yield Limit("pids.limit", "pids", "pids.max", data, "processes and threads: a fork bomb ends here")


# --- cpu, cpuset --------------------------------------------------------------------------------------------------


def _cpu(cpu: Cpu, facts: HostFacts, v2: bool, update: bool) -> Iterator[Limit]:
    def limit(name: str, file: str, data: object, why: str, **rest: str) -> Limit:
        return Limit(f"cpu.{name}", "cpu", f"cpu.{file}", str(data), why, **rest)

    def since(version: tuple[int, int]) -> str:
        return "" if facts.kernel >= version else "needs Linux {}.{}".format(*version)

    shares = _amount(cpu.shares, "cpu.shares", 2, 262144)
    if shares > 0:
        file, data = ("weight", v2_cpu_weight(shares)) if v2 else ("shares", shares)
        yield limit("shares", file, data, "its part when there is not enough for all")
    quota = _amount(max(cpu.quota or 0, -1), "cpu.quota", 1000)  # less than 0: no limit, as the kernel has it on v1
    period = _amount(cpu.period, "cpu.period", 1000, 1_000_000)
    if v2 and (_counts(quota, update) or period > 0):
        words = [str(quota if quota > 0 else "max"), str(period if period > 0 else 100_000)]
        most = " ".join(words[: 1 if update and period <= 0 else 2])  # alone it leaves the period as it is
        yield limit("quota", "max", most, "microseconds of processor time in each period")
    if not v2 and period > 0:
        yield limit("period", "cfs_period_us", period, "microseconds after which the quota is given anew")
    if not v2 and _counts(quota, update):
        yield limit("quota", "cfs_quota_us", quota, "microseconds of processor time in each period")
    burst = _amount(cpu.burst, "cpu.burst")
    if burst > 0 or (update and cpu.burst == 0):
        if not update and (quota <= 0 or burst > quota):
            raise InvalidInput("a burst needs a quota and is at most as large", path=f"{WHERE}.cpu.burst")
        file = "max.burst" if v2 else "cfs_burst_us"
        yield limit("burst", file, burst, "unused time that may be kept for later", missing=since((5, 14)))
    if cpu.idle is not None and cpu.idle not in (0, 1):
        raise InvalidInput(f"{cpu.idle} is neither 0 nor 1", path=f"{WHERE}.cpu.idle")
    if cpu.idle or (update and cpu.idle is not None):  # after the shares: an idle cgroup's cannot be set (EINVAL)
        yield limit("idle", "idle", cpu.idle, "run only when nothing else wants to", missing=since((5, 15)))
    absent = "cgroup v2 does not control realtime processes"
    if not v2:
        absent = "" if facts.cgroup.realtime else "this kernel has no realtime groups (CONFIG_RT_GROUP_SCHED)"
    for name, value in (("Period", cpu.realtime_period), ("Runtime", cpu.realtime_runtime)):
        if _amount(value, f"cpu.realtime{name}") > 0:
            file = f"rt_{name.lower()}_us"
            yield limit(f"realtime{name}", file, value, "microseconds for realtime processes", missing=absent)


def _cpuset(cpu: Cpu, facts: HostFacts) -> Iterator[Limit]:
    wanted = {"cpus": cpu.cpus.strip(), "mems": cpu.mems.strip()}
    have = {"cpus": facts.cgroup.cpuset_cpus, "mems": facts.cgroup.cpuset_mems}
    why = {"cpus": "the processors it may run on", "mems": "the memory nodes it may use"}
    for name, value in wanted.items():
        path = f"{WHERE}.cpu.{name}"
        if value:
            if members(path, value) & ~members(path, have[name] or value):
                raise InvalidInput(f"{value} asks for more than this host has: {have[name]}", path=path)
            yield Limit(f"cpu.{name}", "cpuset", f"cpuset.{name}", value, why[name])


# --- block I/O ----------------------------------------------------------------------------------------------------


def _block_io(block: BlockIO, facts: HostFacts, v2: bool) -> Iterator[Limit]:
    controller = "io" if v2 else "blkio"
    file = facts.cgroup.io_weight
    absent = "" if file else "no I/O scheduler here weighs cgroups against each other (BFQ does; on v2 io.cost too)"
    fix = "echo bfq > /sys/block/DISK/queue/scheduler, or limit bytes per second instead of weighing"
    leaf = "leaf weights went with the CFQ scheduler in Linux 5.0"

    def weight(name: str, value: int | None, prefix: str, suffix: str) -> Iterator[Limit]:
        amount = _amount(value, f"blockIO.{name}", 10, 1000)
        if amount > 0:
            data = f"{prefix}{v2_io_weight(amount) if file == 'io.weight' else amount}"
            why = "its part when the disk is busy"
            yield Limit(f"blockIO.{name}", controller, file + suffix, data, why, missing=absent, next=fix)

    def leaf_weight(name: str, value: int | None) -> Iterator[Limit]:
        if value:
            yield Limit(f"blockIO.{name}", controller, "", "", "", missing=leaf, next="use weight")

    yield from weight("weight", block.weight, "", "")
    yield from leaf_weight("leafWeight", block.leaf_weight)
    for device in block.weight_device:
        number = _block_device(device.major, device.minor, "weightDevice")
        yield from weight("weightDevice", device.weight, f"{number} ", "" if v2 else "_device")
        yield from leaf_weight("weightDevice", device.leaf_weight)
    for throttles, name, v1_file, key, unit in (
        (block.throttle_read_bps_device, "throttleReadBpsDevice", "read_bps_device", "rbps", "bytes read"),
        (block.throttle_write_bps_device, "throttleWriteBpsDevice", "write_bps_device", "wbps", "bytes written"),
        (block.throttle_read_iops_device, "throttleReadIOPSDevice", "read_iops_device", "riops", "reads"),
        (block.throttle_write_iops_device, "throttleWriteIOPSDevice", "write_iops_device", "wiops", "writes"),
    ):
        for throttle in throttles:
            number = _block_device(throttle.major, throttle.minor, name)
            rate = _amount(throttle.rate, f"blockIO.{name}", 1, 2**64 - 1)
            if rate > 0:
                target, data = ("io.max", f"{key}=") if v2 else (f"blkio.throttle.{v1_file}", "")
                yield Limit(f"blockIO.{name}", controller, target, f"{number} {data}{rate}", f"{unit} a second")


def _block_device(major: int, minor: int, name: str) -> str:
    if not (0 <= major < 2**12 and 0 <= minor < 2**20):
        raise InvalidInput(f"{major}:{minor} is no device number", path=f"{WHERE}.blockIO.{name}")
    return f"{major}:{minor}"


# --- the rest -----------------------------------------------------------------------------------------------------


def _hugepages(resources: Resources, v2: bool) -> Iterator[Limit]:
    for index, limit in enumerate(resources.hugepage_limits):
        size = limit.page_size
        digits, unit = size[:-2], size[-2:]
        if not (digits.isascii() and digits.isdigit() and digits[0] != "0" and unit in ("KB", "MB", "GB")):
            raise InvalidInput(f"{size!r} is no page size like 2MB", path=f"{WHERE}.hugepageLimits[{index}].pageSize")
        for part, why in (
            ("", "huge pages in use"),
            (".rsvd", "huge pages set aside, so that mmap fails instead of SIGBUS"),
        ):
            file = f"hugetlb.{size}{part}.{'max' if v2 else 'limit_in_bytes'}"
            yield Limit(f"hugepageLimits.{size}", "hugetlb", file, str(limit.limit), f"bytes of {why}")


def _network(network: Network, v2: bool) -> Iterator[Limit]:
    absent = "cgroup v2 has neither network classes nor priorities" if v2 else ""
    fix = "mark packets with a BPF program or an nftables rule on the cgroup instead"
    if network.class_id is not None:
        data = str(network.class_id)
        why = "the tc class of its packets"
        yield Limit("network.classID", "net_cls", "net_cls.classid", data, why, missing=absent, next=fix)
    for priority in network.priorities:
        name = priority.name
        if not name or len(name) > 15 or name in (".", "..") or any(c in "/: \t\n" for c in name):
            raise InvalidInput(f"{name!r} is no interface name", path=f"{WHERE}.network.priorities")
        data = f"{name} {priority.priority}"
        why = "the priority of its packets"
        yield Limit("network.priorities", "net_prio", "net_prio.ifpriomap", data, why, missing=absent, next=fix)


def _rdma(resources: Resources) -> Iterator[Limit]:
    for device, limit in resources.rdma.items():
        if not device or any(c.isspace() for c in device):
            raise InvalidInput(f"{device!r} is no RDMA device", path=f"{WHERE}.rdma")
        pairs = (("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects))
        data = " ".join([device, *(f"{key}={value}" for key, value in pairs if value is not None)])
        if data != device:
            yield Limit(f"rdma.{device}", "rdma", "rdma.max", data, "handles and objects of an RDMA device")


# What kist itself decides about: processes, children, types, the end.
_OURS = frozenset({"procs", "threads", "subtree_control", "controllers", "type", "kill", "freeze", "events", "stat"})


def _unified(resources: Resources, v2: bool) -> Iterator[Limit]:
    absent = "" if v2 else "unified values are files of cgroup v2; this host's controllers are on v1"
    fix = "" if v2 else "use the named limits, or boot with systemd.unified_cgroup_hierarchy=1"
    for key, value in sorted(resources.unified.items()):
        controller, dot, rest = key.partition(".")
        if not (controller and dot and rest) or any(c == "/" or not c.isprintable() or c == " " for c in key):
            what = f"the specified key has not the form CONTROLLER.VALUE `{key}`"  # crun's words
            raise InvalidInput(what, path=f"{WHERE}.unified")
        if controller == "cgroup" and rest in _OURS:
            raise InvalidInput(f"{key!r} is not for a container to set", path=f"{WHERE}.unified")
        controller = "" if controller == "cgroup" else controller
        for line in value.splitlines() or [""]:  # io.max and its like take one device a write
            yield Limit(f"unified.{key}", controller, key, line, "set as it was given", missing=absent, next=fix)


def _counts(amount: int, update: bool) -> bool:
    """A fresh cgroup has no limit: "no limit" is worth a write only where there may be one."""
    return amount > 0 or (update and amount < 0)


def _text(amount: int, v2: bool) -> str:
    return "max" if v2 and amount < 0 else str(amount)


def limits(resources: Resources, facts: HostFacts, *, update: bool = False) -> tuple[Limit, ...]:
    """Every write that `resources` ask for, in order; device rules apart (plan.cgroup_devices). `update`: of a cgroup
    that has limits already.

    Raises InvalidInput for a value that no kernel takes.
    """
    v2 = facts.cgroup.version != 1
    found: list[Limit] = []
    if resources.memory is not None:
        found += _memory(resources.memory, facts, v2, update)
    if resources.pids is not None:
        found += _pids(resources.pids.limit, update)
    if resources.cpu is not None:
        found += _cpu(resources.cpu, facts, v2, update)
        found += _cpuset(resources.cpu, facts)
    if resources.block_io is not None:
        found += _block_io(resources.block_io, facts, v2)
    found += _hugepages(resources, v2)
    if resources.network is not None:
        found += _network(resources.network, v2)
    found += _rdma(resources)
    found += _unified(resources, v2)
    return tuple(found)
