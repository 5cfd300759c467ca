"""A container's cgroup: which directories, which values in which order, how its first process gets in, what to report.

v1 has a tree per controller, and the container's first process joins them one after the other; each costs about 0.1 ms
to make, join and remove, so only those that are needed are used. v2 has one tree, and clone3 starts the process inside.
Source: cgroups(7); kernel cgroup-v1/cgroups.rst, cgroup-v2.rst.
"""

from __future__ import annotations

from kist.errors import InvalidInput, Refused, Unsupported
from kist.plan.cgroup_devices import DeviceRules, device_program, device_rules, device_writes
from kist.plan.cgroup_limits import Limit, limits
from kist.plan.facts import CGROUP_LEAF, CgroupV1, CgroupV2, HostFacts
from kist.plan.steps import (
    HOST,
    INIT,
    CgroupDevices,
    CgroupInherit,
    CgroupJoin,
    CgroupMake,
    Entry,
    Mkdir,
    Open,
    ReportFile,
    Slots,
    Step,
    WriteFile,
)  # fmt: skip
from kist.spec.runtime import Resources
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kist.plan.steps import Plan

_O_DIRECTORY = 0o2200000  # O_RDONLY | O_DIRECTORY | O_CLOEXEC
ALWAYS = ("memory", "pids", "cpuacct", "freezer")  # v1: for usage, stopping and killing, where they are there
PARENT = "kist"  # the parent directory that is kist's own


class CgroupPlan(Value):
    """Steps for `plan_cgroup`'s cgroup, to be put where they belong.

    `before`: by the supervisor, before Clone. `join`: by the container's first process, while it is still the host's
    root and sees the host's mounts. `after`: by the supervisor, after Supervise; labels are the files' names.
    """

    before: Plan = ()
    join: Plan = ()
    after: Plan = ()
    uses_clone_into: bool = False  # Clone needs cgroup=Slots.CGROUP
    freezer: str = ""  # v1 .../freezer.state (FROZEN, THAWED), v2 .../cgroup.freeze (1, 0)
    not_enforced: tuple[str, ...] = ()  # names below linux.resources: "memory.limit", "devices"
    paths: tuple[str, ...] = ()  # every directory made, absolute
    oom_counter: tuple[str, str] | None = None  # (file, key) of the number of processes that the OOM killer ended
    leaf: str = ""  # the cgroup that the calling process must move to first (kernel.cgroup.enter); see _v2


class _Problem(Value):
    """Something asked for that can't be enforced."""

    name: str
    why: str
    next: str
    kernel: bool  # the kernel lacks it; otherwise this user may not


def check_path(path: str) -> tuple[str, ...]:
    """The components of a cgroup path like "/kist/ab12". Raises InvalidInput for `..`, empty or unprintable ones."""
    first, *parts = path.split("/")
    if first or not parts or not all(p and p not in (".", "..") and p.isprintable() and len(p) < 256 for p in parts):
        raise InvalidInput(
            f"{path!r} is no cgroup path",
            why="it must be like /kist/NAME: absolute, without . and ..",
            path="$.linux.cgroupsPath",
            code="cgroup-path",
        )
    if CGROUP_LEAF in parts:
        raise InvalidInput(f"{path!r}: the name {CGROUP_LEAF} is taken", path="$.linux.cgroupsPath", code="cgroup-path")
    return tuple(parts)


def plan_cgroup(
    resources: Resources | None,
    path: str,
    facts: HostFacts,
    *,
    allow_unenforced: bool,
    exclusive: bool = True,
    always: Sequence[str] = ALWAYS,
    optional: Sequence[str] = (),
) -> CgroupPlan:
    """The cgroup at `path` with these limits. An empty plan when none can be made and none is asked for.

    It must not exist yet if `exclusive`. `always`: v1's controllers that are used without a limit, too.
    `optional`: names of limits that may be left out where the kernel has none such.

    Raises InvalidInput for a malformed path or value; Refused when this user may not enforce a limit and Unsupported
    when this kernel can't, unless `allow_unenforced`: then they are left out and named in `not_enforced`.
    """
    parts = check_path(path)
    resources = resources or Resources()
    if facts.cgroup.version == 1:
        plan, problems = _v1(resources, parts, facts, int(not exclusive), always)
    else:
        plan, problems = _v2(resources, parts, facts, int(not exclusive))
    hard = [problem for problem in problems if not (problem.kernel and problem.name in optional)]
    if hard and not allow_unenforced:
        raise _error(hard)
    return replace(plan, not_enforced=_unique(problem.name for problem in problems))


def cgroup_paths(path: str, facts: HostFacts) -> tuple[str, ...]:
    """Every directory that a plan for `path` may have made, whatever its limits were: what a sweep removes.

    For an ordinary user they lie below the own cgroup, which is another one in each session: keep CgroupPlan.paths.
    """
    parts = check_path(path)
    if facts.cgroup.version == 1:
        bases = {_v1_base(v1, facts) for name, v1 in facts.cgroup.v1.items() if not name.startswith("name=")}
        return tuple(_join(base, *parts) for base in sorted(bases))
    v2 = facts.cgroup.v2
    return (_join(v2.mount, v2.base, *parts),) if v2 else ()


def _error(problems: Sequence[_Problem]) -> Refused | Unsupported:
    names = ", ".join(_unique(p.name for p in problems))
    kind = Unsupported if all(p.kernel for p in problems) else Refused
    fixes = _unique(p.next for p in problems if p.next)
    return kind(
        f"cannot enforce {names}",
        why="; ".join(_unique(p.why for p in problems)),
        next="; ".join([*fixes, "or run without: --allow-unenforced"]),
        code="cgroup-unenforced",
    )


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _join(*parts: str) -> str:
    return "/" + "/".join(part.strip("/") for part in parts if part.strip("/"))


def _host(step: Step, why: str) -> Entry:
    return Entry(step, HOST, "cgroup", why)


def _is_host_root(facts: HostFacts) -> bool:
    return facts.uid == 0 and not facts.in_user_namespace


def _write(directory: str, limit: Limit) -> Entry:
    return _host(WriteFile(f"{directory}/{limit.file}", limit.data), f"{limit.name}: {limit.why}")


def _report(directory: str, files: Iterable[str], facts: HostFacts) -> list[Entry]:
    since = {"memory.peak": (5, 19), "pids.peak": (6, 1)}
    return [
        _host(ReportFile(file, f"{directory}/{file}"), "what the cgroup counted")
        for file in files
        if facts.kernel >= since.get(file, (0, 0))
    ]


def _filter_needed(devices: DeviceRules, facts: HostFacts) -> bool:
    """Whether device rules need the kernel's filter. An ordinary user's that only allow do not: in a user namespace no
    node can be made and no file system with nodes mounted, which leaves the ones that the caller binds in and may open
    anyway."""
    return devices.restrict and (_is_host_root(facts) or not devices.only_allow)


# --- v1 -----------------------------------------------------------------------------------------------------------

# What is reported, by controller.
_V1_REPORT = {
    "memory": ("memory.max_usage_in_bytes", "memory.failcnt", "memory.oom_control"),
    "pids": ("pids.peak", "pids.events"),
    "cpuacct": ("cpuacct.usage", "cpuacct.usage_user", "cpuacct.usage_sys"),
    "freezer": (),
    "blkio": ("blkio.throttle.io_service_bytes",),
}
_V1_ORDER = (*ALWAYS, "cpu", "cpuset", "blkio", "hugetlb", "net_cls", "net_prio", "rdma", "devices")
_V1_WHY = {
    "memory": "bounds and counts memory",
    "pids": "bounds the number of processes",
    "cpuacct": "counts processor time",
    "freezer": "can stop all processes at once",
    "devices": "decides which devices may be opened",
}


def _v1_base(v1: CgroupV1, facts: HostFacts) -> str:
    """Where containers' cgroups are made: root's in the root of the hierarchy, so that its place does not depend on who
    asks; an ordinary user's below the own cgroup."""
    return _join(v1.mount, "/" if _is_host_root(facts) else v1.path)


def _v1_missing(controller: str, facts: HostFacts) -> tuple[str, str, bool] | None:
    v1 = facts.cgroup.v1.get(controller)
    if v1 is None:
        fix = f"mount it: mount -t cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}"
        return f"no cgroup v1 hierarchy has the {controller} controller", fix, True
    if not v1.writable and _is_host_root(facts):
        return f"{v1.mount} is mounted read-only", f"mount -o remount,rw {v1.mount}", False
    if not v1.writable:
        why = f"this user cannot make a cgroup in {_v1_base(v1, facts)}"
        return why, "run as root, or boot with systemd.unified_cgroup_hierarchy=1: v1 has no safe delegation", False
    return None


def _v1(
    resources: Resources, parts: tuple[str, ...], facts: HostFacts, keep: int, always: Sequence[str]
) -> tuple[CgroupPlan, list[_Problem]]:
    asked = list(limits(resources, facts))
    problems: list[_Problem] = []
    devices = device_rules(resources.devices)
    if _filter_needed(devices, facts):
        why = {"devices.deny": "no device", "devices.allow": "but this one"}
        if devices.default:
            why = {"devices.allow": "every device", "devices.deny": "but this one"}
        try:
            lines = device_writes(devices)
            asked += [Limit("devices", "devices", file, line, why[file]) for file, line in lines]
        except Unsupported as e:
            problems.append(_Problem("devices", f"{e.what}: {e.why}", e.next, True))
    kept = []
    for limit in asked:
        if gone := _v1_missing(limit.controller, facts):
            problems.append(_Problem(limit.name, *gone))
        elif limit.missing:
            problems.append(_Problem(limit.name, limit.missing, limit.next, True))
        else:
            kept.append(limit)

    before: list[Entry] = []
    join: list[Entry] = []
    after: list[Entry] = []
    trees: dict[str, list[str]] = {}  # base -> its controllers that are used; cpu and cpuacct often share one
    for name in dict.fromkeys((*_V1_ORDER, *always)):
        used = name in always or any(limit.controller == name for limit in kept)
        if used and not _v1_missing(name, facts):
            trees.setdefault(_v1_base(facts.cgroup.v1[name], facts), []).append(name)
    shared = [_join(*parts[:depth]) for depth in range(1, len(parts))]
    directories = {base: base.rstrip("/") + _join(*parts) for base in trees}
    cpuset = facts.cgroup.v1.get("cpuset")
    cpuset_base = _v1_base(cpuset, facts) if cpuset else ""
    for base, names in trees.items():
        directory = directories[base]
        tree_limits = [limit for limit in kept if limit.controller in names]
        parents = [base.rstrip("/") + path for path in shared]
        before += _v1_tree(directory, parents, names, tree_limits, keep, holds_cpuset=base == cpuset_base)
        words = " and ".join(names)
        join.append(Entry(CgroupJoin(directory), INIT, "cgroup", f"its place in the {words} hierarchy"))
        after += _report(directory, [file for name in names for file in _V1_REPORT.get(name, ())], facts)
    paths = tuple(directories.values())
    freezers = [f"{directories[base]}/freezer.state" for base, names in trees.items() if "freezer" in names]
    memory = [directories[base] for base, names in trees.items() if "memory" in names]
    plan = CgroupPlan(
        tuple(before), tuple(join), tuple(after), freezer="".join(freezers), paths=paths,
        oom_counter=(f"{memory[0]}/memory.oom_control", "oom_kill") if memory else None,
    )  # fmt: skip
    return plan, problems


def _v1_tree(
    directory: str, parents: list[str], names: list[str], tree_limits: list[Limit], keep: int, *, holds_cpuset: bool
) -> list[Entry]:
    """Directories and values in one hierarchy. `holds_cpuset`: even where it is used for another controller, for a
    cpuset without cpus and mems takes no process."""
    entries = []
    given = {limit.file for limit in tree_limits}
    inherited = []
    if holds_cpuset:
        inherited = [(file, "", "a v1 cpuset starts empty") for file in ("cpuset.cpus", "cpuset.mems")]
    if "cpu.rt_runtime_us" in given:
        inherited.append(("cpu.rt_runtime_us", "0", "a child gets no more realtime than its parent"))
    for parent in parents:
        entries.append(_host(Mkdir(parent, keep=1), "shared by all containers"))
        entries += [_host(CgroupInherit(parent, file, nothing), why) for file, nothing, why in inherited]
    why = "; ".join(_V1_WHY.get(name, f"the {name} controller") for name in names)
    entries.append(_host(CgroupMake(directory, keep), why))
    fill = [entry for entry in inherited if entry[0] not in given]
    entries += [_host(CgroupInherit(directory, file, nothing), why) for file, nothing, why in fill]
    return [*entries, *(_write(directory, limit) for limit in tree_limits)]


# --- v2 -----------------------------------------------------------------------------------------------------------

_V2_REPORT = {
    "": ("cpu.stat",),
    "memory": ("memory.peak", "memory.events"),
    "pids": ("pids.peak", "pids.events"),
    "io": ("io.stat",),
}
_V2_ALWAYS = frozenset({"memory", "pids"})  # for usage, when it costs nothing but the write
_SCOPE = "systemd-run --user --scope -p Delegate=yes kist ..."
_DELEGATE = (
    "put [Service] Delegate=cpu cpuset io memory pids into /etc/systemd/system/user@.service.d/delegate.conf"
    " and log in again"
)


def _v2_missing(controllers: frozenset[str], facts: HostFacts) -> tuple[str, str, bool] | None:
    """Why a cgroup with these controllers cannot be made; none at all for an empty set: why no cgroup can."""
    v2 = facts.cgroup.v2
    if v2 is None:
        return "no cgroup file system is mounted", "mount -t cgroup2 none /sys/fs/cgroup", True
    if not v2.delegated and facts.uid == 0:
        return f"{v2.mount} is mounted read-only, or {v2.base} not ours", f"mount -o remount,rw {v2.mount}", False
    if not v2.delegated:
        fix = f"{_SCOPE}, or run as root" if facts.cgroup.systemd else "run as root"
        return f"the cgroup {v2.base} is not delegated to this user", fix, False
    if v2.type not in ("", "domain"):
        why = f"the cgroup {v2.base} is of type {v2.type!r}, which takes no containers"
        return why, "start kist in a cgroup of type domain", False
    absent = ", ".join(sorted(controllers - v2.available))
    unavailable = f"the requested cgroup controller `{absent}` is not available"  # crun's words
    if absent and not v2.base_is_root:
        return f"{unavailable}: the cgroup {v2.base} was not given it", _DELEGATE, False
    if absent:
        return f"{unavailable}: this kernel has none on cgroup v2", "look at /proc/cgroups", True
    if v2.other_processes and not v2.base_is_root and not controllers <= v2.enabled:
        # "No internal processes": a cgroup that holds processes can't hand controllers down.
        fix = _SCOPE if facts.cgroup.systemd and facts.uid else f"move them to a cgroup of their own below {v2.base}"
        return f"other processes live in the cgroup {v2.base}, so it cannot give its children limits", fix, False
    return None


def _v2(resources: Resources, parts: tuple[str, ...], facts: HostFacts, keep: int) -> tuple[CgroupPlan, list[_Problem]]:
    """When kist lives in `base` itself (an ordinary user in a scope of its own), base must be empty before it can give
    limits to children. The plan moves the supervisor to a leaf beside the containers; the calling process must have
    gone there before (`CgroupPlan.leaf`)."""
    problems: list[_Problem] = []
    kept = []
    for limit in limits(resources, facts):
        if limit.missing:
            problems.append(_Problem(limit.name, limit.missing, limit.next, True))
        elif gone := _v2_missing(frozenset({limit.controller} - {""}), facts):
            problems.append(_Problem(limit.name, *gone))
        else:
            kept.append(limit)
    program = b""
    devices = device_rules(resources.devices)
    if _filter_needed(devices, facts):
        if gone := _v2_missing(frozenset(), facts):
            problems.append(_Problem("devices", *gone))
        elif not (_is_host_root(facts) and "CAP_SYS_ADMIN" in facts.capabilities):
            why = "a device filter on cgroup v2 is a BPF program, and loading one needs CAP_SYS_ADMIN on the host"
            problems.append(_Problem("devices", why, "run as root", False))
        else:
            program = device_program(devices)
    v2 = facts.cgroup.v2
    if v2 is None or _v2_missing(frozenset(), facts):
        return CgroupPlan(), problems

    base, directory = _join(v2.mount, v2.base), _join(v2.mount, v2.base, *parts)
    wanted = {limit.controller for limit in kept} - {""}
    leaf = ""
    if not v2.base_is_root and not wanted <= v2.enabled and v2.path != _join(v2.base, CGROUP_LEAF):
        leaf = f"{base}/{CGROUP_LEAF}"
    # Usage alone is no reason to move: it is counted where the controllers are there, or are being enabled anyway.
    wanted |= _V2_ALWAYS & (v2.available if v2.base_is_root or not wanted <= v2.enabled else v2.enabled)
    before = _v2_parents(v2, parts, leaf, wanted)
    before.append(_host(CgroupMake(directory, keep), "the container's own cgroup"))
    before += [_write(directory, limit) for limit in kept]
    if program:
        before.append(_host(CgroupDevices(directory, program), "which devices it may open or make"))
    before.append(_host(Open(directory, _O_DIRECTORY, Slots.CGROUP), "clone3 starts the first process inside it"))
    files = [file for name, names in _V2_REPORT.items() if name in wanted | {""} for file in names]
    plan = CgroupPlan(
        tuple(before),
        after=tuple(_report(directory, files, facts)),
        uses_clone_into=True,
        freezer=f"{directory}/cgroup.freeze",
        paths=(directory,),
        oom_counter=(f"{directory}/memory.events", "oom_kill") if "memory" in wanted else None,
        leaf=leaf,
    )
    return plan, problems


def _v2_parents(v2: CgroupV2, parts: tuple[str, ...], leaf: str, wanted: set[str]) -> list[Entry]:
    """The way down to the container's cgroup, with the wanted controllers handed on at each level."""
    base = _join(v2.mount, v2.base)
    entries = []
    if leaf:
        entries.append(_host(Mkdir(leaf, keep=1), "a cgroup that gives limits to children holds no processes itself"))
        entries.append(_host(CgroupJoin(leaf), "so the supervisor moves out of it"))
    for depth in range(len(parts)):
        parent = _join(base, *parts[:depth])
        if depth:
            entries.append(_host(Mkdir(parent, keep=1), "shared by all containers"))
        controllers = wanted if depth else wanted - v2.enabled
        if controllers:
            data = " ".join(f"+{name}" for name in sorted(controllers))
            entries.append(_host(WriteFile(f"{parent}/cgroup.subtree_control", data), "controllers for its children"))
    return entries
