"""What this host and this user can do, read from the kernel: the path of every `kist run`, so few files and no subprocess."""

import os
import resource

from kist.plan.facts import CAPABILITIES, CgroupFacts, CgroupV1, CgroupV2, HostFacts, IdRange

_HELPERS = ("/usr/bin", "/bin", "/usr/local/bin")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _id_ranges(path: str, name: str, uid: int) -> tuple[IdRange, ...]:
    ranges = []
    for line in _read(path).splitlines():
        owner, _, rest = line.partition(":")
        start, _, size = rest.partition(":")
        if owner in (name, str(uid)) and owner and start.isdigit() and size.strip().isdigit() and int(size):
            ranges.append(IdRange(int(start), int(size)))
    return tuple(ranges)


def _user_name(uid: int) -> str:
    for line in _read("/etc/passwd").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            return fields[0]
    return ""


def _helper(name: str) -> str:
    for directory in _HELPERS:
        try:
            status = os.stat(f"{directory}/{name}")
        except OSError:
            continue
        if status.st_mode & 0o4000 and os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    return ""


def _cgroup() -> CgroupFacts:
    own = {}
    for line in _read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            own[name] = path
    v1: dict[str, CgroupV1] = {}
    v2_mount = ""
    for line in _read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        mount = fields[4].replace("\\040", " ")
        if kind[0] == "cgroup2":
            v2_mount = v2_mount or mount
        elif kind[0] == "cgroup":
            for name in kind[2].split(","):
                if name in own and fields[3] == "/":
                    v1[name] = CgroupV1(mount, own[name], os.access(mount + own[name], os.W_OK))
    controllers = {name for name in v1 if not name.startswith("name=")}
    systemd = os.path.isdir("/run/systemd/system")
    if controllers:
        cpuset = v1["cpuset"].mount if "cpuset" in v1 else ""
        weight = next((n for n in ("blkio.bfq.weight", "blkio.weight")
                       if "blkio" in v1 and os.path.exists(f"{v1['blkio'].mount}/{n}")), "")  # fmt: skip
        memory = v1["memory"].mount if "memory" in v1 else ""
        return CgroupFacts(
            version=1, v1=v1, systemd=systemd,
            swap_accounting=os.path.exists(f"{memory}/memory.memsw.limit_in_bytes"), io_weight=weight,
            cpuset_cpus=_read(f"{cpuset}/cpuset.effective_cpus").strip(),
            cpuset_mems=_read(f"{cpuset}/cpuset.effective_mems").strip(),
            realtime="cpu" in v1 and os.path.exists(f"{v1['cpu'].mount}/cpu.rt_runtime_us"),
        )  # fmt: skip
    if not v2_mount:
        return CgroupFacts(version=0, systemd=systemd)
    return _unified(v2_mount, own.get("", "/"), systemd)


def _unified(mount: str, path: str, systemd: bool) -> CgroupFacts:
    root = mount.rstrip("/")
    is_root = not os.path.exists(f"{root}/cgroup.type")  # only the kernel's own root lacks it
    base_is_root = is_root and os.access(root, os.W_OK) and os.access(f"{root}/cgroup.subtree_control", os.W_OK)
    base = "/" if base_is_root else path
    directory = root + base.rstrip("/")
    pids = set(_read(f"{directory}/cgroup.procs").split())
    available = frozenset(_read(f"{directory}/cgroup.controllers").split())
    delegated = os.access(directory, os.W_OK) and os.access(f"{directory}/cgroup.procs", os.W_OK)
    v2 = CgroupV2(
        mount, path, base, base_is_root, available, frozenset(_read(f"{directory}/cgroup.subtree_control").split()),
        delegated, not base_is_root and bool(pids - {str(os.getpid())}), _read(f"{directory}/cgroup.type").strip(),
    )  # fmt: skip
    below = directory if os.path.exists(f"{directory}/memory.swap.max") else _child(directory)
    return CgroupFacts(
        version=2, v2=v2, systemd=systemd, swap_accounting=bool(below) and os.path.exists(f"{below}/memory.swap.max"),
        io_weight="io.weight" if os.path.exists(f"{root}/io.cost.qos") else "",
        cpuset_cpus=_read(f"{directory}/cpuset.cpus.effective").strip(),
        cpuset_mems=_read(f"{directory}/cpuset.mems.effective").strip(),
    )  # fmt: skip


def _child(directory: str) -> str:
    """Some child: its files show what a container's cgroup would have."""
    try:
        with os.scandir(directory) as entries:
            return next((e.path for e in entries if e.is_dir(follow_symlinks=False)), "")
    except OSError:
        return ""


def probe() -> HostFacts:
    """Never raises for an odd host: what can't be read counts as missing."""
    uname = os.uname()
    major, minor = (uname.release.split("-")[0].split(".") + ["0", "0"])[:2]
    status = dict(line.split(":\t", 1) for line in _read("/proc/self/status").splitlines() if ":\t" in line)
    effective = int(status.get("CapEff", "0"), 16)
    cap_last = int(_read("/proc/sys/kernel/cap_last_cap") or 40)
    caps = frozenset(
        CAPABILITIES[i] if i < len(CAPABILITIES) else f"CAP_{i}" for i in range(cap_last + 1) if effective >> i & 1
    )
    uid, gid = os.geteuid(), os.getegid()
    name = _user_name(uid)
    inside = _read("/proc/self/uid_map").split() != ["0", "0", "4294967295"]
    reason = ""
    if _read("/proc/sys/user/max_user_namespaces").strip() == "0":
        reason = "the sysctl user.max_user_namespaces is 0"
    elif uid and _read("/proc/sys/kernel/unprivileged_userns_clone").strip() == "0":
        reason = "the sysctl kernel.unprivileged_userns_clone is 0"
    elif uid and _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1":
        reason = "AppArmor restricts them: the sysctl kernel.apparmor_restrict_unprivileged_userns is 1"
    lsm = tuple(w for w in _read("/sys/kernel/security/lsm").strip().split(",") if w in ("apparmor", "selinux"))
    names = [n for n in dir(resource) if n.startswith("RLIMIT_") and n != "RLIMIT_OFILE"]
    return HostFacts(
        kernel=(int(major), int(minor)), arch=uname.machine, uid=uid, gid=gid, groups=tuple(os.getgroups()),
        user_name=name, capabilities=caps, cap_last=cap_last, no_new_privs=status.get("NoNewPrivs", "0").strip() == "1",
        user_namespaces=not reason, user_namespaces_reason=reason, in_user_namespace=inside,
        subuids=_id_ranges("/etc/subuid", name, uid), subgids=_id_ranges("/etc/subgid", name, uid),
        newuidmap=_helper("newuidmap"), newgidmap=_helper("newgidmap"),
        time_namespace=os.path.exists("/proc/self/ns/time"), seccomp="Seccomp" in status, lsm=lsm, cgroup=_cgroup(),
        rlimits={n: resource.getrlimit(getattr(resource, n)) for n in names},
        memory_total_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cpus=os.sysconf("SC_NPROCESSORS_ONLN"),
    )  # fmt: skip
