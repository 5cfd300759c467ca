"""What this host and this user can do, read from the kernel.

On the path of every `kist run`: few files, no subprocess, nothing slow imported. Parsing takes text and gives values;
what can't be read counts as missing. What only `kist doctor` asks is in engine/doctor.py.
"""

from __future__ import annotations

from kist.kernel.subids import find_id_mapper, parse_subids, parse_user_name
from kist.plan.facts import CAPABILITIES, CGROUP_LEAF, UNIFIED, CgroupFacts, CgroupV1, CgroupV2, HostFacts
from kist.system import os
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# The lines of /proc/self/limits are in the order of the numbers in asm-generic/resource.h. Importing `resource` instead
# costs 0.3 ms.
_RLIMITS = (
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_STACK", "Max stack size"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
)
_V1_CORE = {"memory", "cpu", "pids"}  # net_cls alone on v1 (some VPNs mount it) does not make a v1 host
_WHOLE_ID_SPACE = ["0", "0", "4294967295"]  # uid_map of the initial user namespace


class Mount(Value):
    """A line of /proc/self/mountinfo, proc_pid_mountinfo(5)."""

    point: str
    root: str  # the directory of the file system that is mounted
    kind: str
    options: tuple[str, ...]  # of the superblock


class Place(Value):
    """A cgroup tree: where it is mounted, and the own cgroup below that ("" if it lies outside)."""

    mount: str
    path: str


def _read(path: str) -> str:
    """The whole file; "" if it can't be read. open(2) and read(2): a TextIOWrapper costs more than a /proc file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
    except OSError:
        return ""
    finally:
        os.close(fd)
    # Not surrogateescape: facts are printed and encoded as JSON.
    return b"".join(chunks).decode("utf-8", "backslashreplace")


def _number(text: str, base: int = 10) -> int:
    """0 for what is no number."""
    try:
        return int(text, base)
    except ValueError:
        return 0


# --- parsing ------------------------------------------------------------------------------------------------------


def parse_kernel(release: str) -> tuple[int, int]:
    """uname -r, "6.18.44-fc-v657" -> (6, 18); (0, 0) when it does not start with a number."""
    numbers = [0, 0]
    for i, part in enumerate(release.split(".")[:2]):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers[i] = int(digits or "0")
        if digits != part:
            break
    return numbers[0], numbers[1]


def parse_status(text: str) -> dict[str, str]:
    """/proc/self/status, proc_pid_status(5)."""
    pairs = (line.partition(":") for line in text.split("\n"))
    return {key: value.strip() for key, colon, value in pairs if colon}


def parse_capabilities(mask: str) -> frozenset[str]:
    """The names of a hexadecimal set such as CapEff's."""
    bits = _number(mask, 16)
    bits = max(bits, 0) & (2**64 - 1)
    return frozenset(
        CAPABILITIES[n] if n < len(CAPABILITIES) else f"CAP_{n}" for n in range(bits.bit_length()) if bits >> n & 1
    )


def parse_rlimits(text: str) -> dict[str, tuple[int, int]]:
    """/proc/self/limits: (soft, hard) by name; -1 for unlimited."""
    names = {label: name for name, label in _RLIMITS}
    limits = {}
    for line in text.split("\n")[1:]:
        values = [-1 if word == "unlimited" else _number(word) for word in line[26:].split()[:2]]
        if len(values) == 2 and (name := names.get(line[:26].strip())):
            limits[name] = (values[0], values[1])
    return limits


def unescape(text: str) -> str:
    """mountinfo writes space, tab, newline and backslash as octal: "\\040"."""
    first, *rest = text.split("\\")
    for part in rest:
        octal = part[:3]
        plain = len(octal) == 3 and octal.isascii() and octal.isdigit() and max(octal) < "8"
        first += chr(int(octal, 8)) + part[3:] if plain else "\\" + part
    return first


def parse_mountinfo(text: str, kinds: Iterable[str]) -> list[Mount]:
    """The mounts of these file system types, in the kernel's order."""
    wanted = frozenset(kinds)
    mounts = []
    for line in text.split("\n"):
        left, _, right = line.partition(" - ")
        kind = right.split(" ", 1)[0]
        if kind not in wanted:
            continue
        before, after = left.split(" "), right.split(" ")
        if len(before) >= 6 and len(after) >= 3:
            mounts.append(Mount(unescape(before[4]), unescape(before[3]), kind, tuple(after[2].split(","))))
    return mounts


def filesystem_of(path: str) -> str:
    """The type of the file system that `path` lies on, "" if it cannot be told. Raises OSError."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in _read("/proc/self/mountinfo").split("\n"):
        left, _, right = line.partition(" - ")
        if left.split(" ")[2:3] == [number]:
            return right.partition(" ")[0]
    return ""


def parse_own_cgroups(text: str) -> dict[str, str]:
    """/proc/self/cgroup, cgroups(7): the path by controller ("name=..." for named hierarchies); v2's under ""."""
    own = {}
    for line in text.split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3:
            own.update(dict.fromkeys(fields[1].split(","), fields[2]))
    return own


def _below(root: str, path: str) -> str:
    """The cgroup `path` as seen below a mount of `root`; "" if it lies outside. Either may start with "/.." where the
    cgroup namespace has its root further down, cgroup_namespaces(7)."""
    if ".." in path.split("/") or ".." in root.split("/"):
        return ""
    if root == "/":
        return path
    if path == root or path.startswith(root + "/"):
        return path[len(root) :] or "/"
    return ""


def place_cgroups(mounts: Sequence[Mount], own: Mapping[str, str]) -> dict[str, Place]:
    """Where each controller's tree is mounted; v2's under "". Of several mounts, the first to show the own cgroup, or
    else the first."""
    places: dict[str, Place] = {}
    for mount in {mount.point: mount for mount in mounts}.values():  # a later one hides what is under it
        names = ("",) if mount.kind == "cgroup2" else mount.options if mount.kind == "cgroup" else ()
        for name in names:
            if name in own and not (name in places and places[name].path):
                below = _below(mount.root, own[name])
                if below or name not in places:
                    places[name] = Place(mount.point, below)
    return places


def why_no_user_namespace(
    *, uid_map: str, maximum: str, unprivileged_clone: str, apparmor: str, label: str, privileged: bool
) -> str:
    """Why a user namespace can't be made or gives no capabilities; "" if it can. Texts are those of uid_map, the
    sysctls (user.max_user_namespaces, Debian's kernel.unprivileged_userns_clone, Ubuntu's
    kernel.apparmor_restrict_unprivileged_userns) and the AppArmor label; "" for what is not there."""
    if not uid_map.strip():
        return "this kernel has no user namespaces (CONFIG_USER_NS), or /proc is not mounted"
    if maximum.strip() == "0":
        return "the sysctl user.max_user_namespaces is 0"
    if privileged:
        return ""
    if unprivileged_clone.strip() == "0":
        return "the sysctl kernel.unprivileged_userns_clone is 0"
    # A profile of our own may allow it; then the label is its name.
    restricted = label.split(" ", maxsplit=1)[0].strip("\n\0") in ("", "unconfined", "unprivileged_userns")
    if apparmor.strip() not in ("", "0") and restricted:
        return "AppArmor takes their capabilities: the sysctl kernel.apparmor_restrict_unprivileged_userns is 1"
    return ""


# --- cgroup -------------------------------------------------------------------------------------------------------


def _bfq() -> bool:
    """Some disk is scheduled by BFQ, the one scheduler that weighs cgroups. Source: kernel block/bfq-iosched.rst."""
    try:
        disks = os.listdir("/sys/block")
    except OSError:
        return False
    return any("[bfq]" in _read(f"/sys/block/{disk}/queue/scheduler") for disk in disks)


def _writable(directory: str, *files: str) -> bool:
    """False on a read-only mount, also for root."""
    return os.access(directory, os.W_OK | os.X_OK) and all(os.access(f"{directory}/{f}", os.W_OK) for f in files)


def _v1(places: Mapping[str, Place], host_root: bool, systemd: bool) -> CgroupFacts:
    # Where containers' cgroups are made: see CgroupV1.
    bases = {name: p.mount + ("" if host_root else p.path.rstrip("/")) for name, p in places.items()}
    writable = {base: _writable(base) for base in set(bases.values())}
    cpuset, memory, cpu, blkio = (bases.get(name, "") for name in ("cpuset", "memory", "cpu", "blkio"))
    weight = "blkio.weight" if blkio and os.path.exists(f"{blkio}/blkio.weight") else ""
    # The root has BFQ's counters, but not its weights: CFTYPE_NOT_ON_ROOT. Source: block/bfq-cgroup.c.
    bfq = bool(blkio) and os.path.exists(f"{blkio}/blkio.bfq.io_serviced") and _bfq()
    return CgroupFacts(
        version=1,
        v1={name: CgroupV1(p.mount, p.path or "/", writable[bases[name]]) for name, p in places.items()},
        systemd=systemd,
        swap_accounting=bool(memory) and os.path.exists(f"{memory}/memory.memsw.limit_in_bytes"),
        io_weight="blkio.bfq.weight" if bfq else weight,
        cpuset_cpus=_read(f"{cpuset}/cpuset.effective_cpus").strip() if cpuset else "",
        cpuset_mems=_read(f"{cpuset}/cpuset.effective_mems").strip() if cpuset else "",
        realtime=bool(cpu) and os.path.exists(f"{cpu}/cpu.rt_runtime_us"),
    )


def _v2(place: Place, kernel: tuple[int, int], systemd: bool) -> CgroupFacts:
    top = place.mount.rstrip("/")
    path = place.path or "/"
    needed = ("cgroup.procs", "cgroup.subtree_control")
    # Only the kernel's own root has no cgroup.type; the root of a cgroup namespace or of a bind mount has.
    root = os.path.exists(f"{top}/cgroup.procs") and not os.path.exists(f"{top}/cgroup.type")
    # Another root, as a container or a namespace has it, will do if all processes live in cgroups below.
    free = root or (place.path and not _read(f"{top}/cgroup.procs").strip())
    base_is_root = bool(free) and _writable(top, *needed)
    base_path = "/" if base_is_root else path.removesuffix(f"/{CGROUP_LEAF}") or "/"
    own, base = top + path.rstrip("/"), top + base_path.rstrip("/")
    if os.path.exists(f"{own}/memory.max"):
        swap = os.path.exists(f"{own}/memory.swap.max")
    else:  # not shown here; since 6.1 it can't be switched off. /proc/swaps: CONFIG_SWAP
        swap = kernel >= (6, 1) and os.path.exists("/proc/swaps")
    cost = os.path.exists(f"{top}/io.cost.qos") or os.path.exists(f"{own}/io.weight")
    v2 = CgroupV2(
        mount=place.mount,
        path=path,
        base=base_path,
        base_is_root=base_is_root,
        available=frozenset(_read(f"{base}/cgroup.controllers").split()),
        enabled=frozenset(_read(f"{base}/cgroup.subtree_control").split()),
        delegated=base_is_root or _writable(base, *needed),
        other_processes=not base_is_root and not {str(os.getpid())}.issuperset(_read(f"{base}/cgroup.procs").split()),
        type=_read(f"{base}/cgroup.type").strip(),
    )
    return CgroupFacts(
        version=2,
        v2=v2,
        systemd=systemd,
        swap_accounting=swap,
        io_weight="io.bfq.weight" if _bfq() else "io.weight" if cost else "",
        cpuset_cpus=_read(f"{base}/cpuset.cpus.effective").strip(),
        cpuset_mems=_read(f"{base}/cpuset.mems.effective").strip(),
    )


def _cgroup(mounts: Sequence[Mount], kernel: tuple[int, int], host_root: bool) -> CgroupFacts:
    places = place_cgroups(mounts, parse_own_cgroups(_read("/proc/self/cgroup")))
    systemd = os.path.isdir("/run/systemd/system")
    unified = places.pop("", None)
    if _V1_CORE & places.keys() or (places and not unified):
        if unified:
            places[UNIFIED] = unified
        return _v1(places, host_root, systemd)
    return _v2(unified, kernel, systemd) if unified else CgroupFacts(version=0, systemd=systemd)


# --- all of it ----------------------------------------------------------------------------------------------------


def _user_name(uid: int) -> str:
    """/etc/passwd first: the name services behind getpwuid(3) may ask the network."""
    if name := parse_user_name(_read("/etc/passwd"), uid):
        return name
    import pwd

    try:
        return os.fsencode(pwd.getpwuid(uid).pw_name).decode("utf-8", "backslashreplace")
    except KeyError:
        return ""


def _count(name: str) -> int:
    """sysconf(3), at least 0."""
    try:
        return max(os.sysconf(name), 0)
    except (OSError, ValueError):
        return 0


def probe() -> HostFacts:
    """The facts as they are now; about 0.3 ms. Never raises for an odd host."""
    uname = os.uname()
    kernel = parse_kernel(uname.release)
    uid = os.geteuid()
    status = parse_status(_read("/proc/self/status"))
    capabilities = parse_capabilities(status.get("CapEff", ""))
    uid_map = _read("/proc/self/uid_map")
    inside = bool(uid_map.strip()) and uid_map.split() != _WHOLE_ID_SPACE
    apparmor = _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    reason = why_no_user_namespace(
        uid_map=uid_map,
        maximum=_read("/proc/sys/user/max_user_namespaces"),
        unprivileged_clone=_read("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor=apparmor,
        label=_read("/proc/self/attr/current") if apparmor else "",
        privileged="CAP_SYS_ADMIN" in capabilities and not inside,
    )
    mounts = parse_mountinfo(_read("/proc/self/mountinfo"), ("cgroup", "cgroup2", "selinuxfs"))
    name = _user_name(uid)
    # As libapparmor and libselinux decide it.
    active = {
        "apparmor": _read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        "selinux": any(mount.kind == "selinuxfs" for mount in mounts),
    }
    return HostFacts(
        kernel=kernel,
        arch=uname.machine,
        uid=uid,
        gid=os.getegid(),
        groups=tuple(os.getgroups()),
        user_name=name,
        capabilities=capabilities,
        cap_last=_number(_read("/proc/sys/kernel/cap_last_cap")) or len(CAPABILITIES) - 1,
        no_new_privs=status.get("NoNewPrivs") == "1",
        user_namespaces=not reason,
        user_namespaces_reason=reason,
        in_user_namespace=inside,
        subuids=parse_subids(_read("/etc/subuid"), name, uid),
        subgids=parse_subids(_read("/etc/subgid"), name, uid),
        newuidmap=find_id_mapper("newuidmap"),
        newgidmap=find_id_mapper("newgidmap"),
        time_namespace=os.path.exists("/proc/self/ns/time"),
        seccomp="Seccomp_filters" in status,  # since Linux 5.9, with CONFIG_SECCOMP_FILTER
        lsm=tuple(name for name, is_active in active.items() if is_active),
        cgroup=_cgroup(mounts, kernel, host_root=uid == 0 and not inside),
        rlimits=parse_rlimits(_read("/proc/self/limits")),
        nofile_max=_number(_read("/proc/sys/fs/nr_open")) or 1 << 20,
        memory_total_bytes=_count("SC_PHYS_PAGES") * _count("SC_PAGE_SIZE"),
        cpus=_count("SC_NPROCESSORS_ONLN"),
        ipv6=os.path.exists("/proc/net/if_inet6")
        and _read("/sys/module/ipv6/parameters/disable_ipv6").strip() in ("", "0"),
    )


def groups_denied(process: str) -> bool:
    """Whether the user namespace of a process (its directory in /proc) forbids setgroups(2). See user_namespaces(7)."""
    try:
        with open(f"{process}/setgroups", "rb", buffering=0) as file:
            return file.read(5) == b"deny\n"
    except OSError:
        return False
