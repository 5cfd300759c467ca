"""From what was asked for and what the host can do to the list of kernel steps. Pure: all decisions are taken here."""

from collections.abc import Iterator
from struct import pack

import msgspec

from kist.errors import InvalidInput, Refused
from kist.plan import flags as f
from kist.plan.cgroup import CgroupPlan, plan_cgroup
from kist.plan.facts import CAPABILITIES, HostFacts
from kist.plan.request import UNLIMITED, MountRequest, RunRequest
from kist.plan.seccomp import assemble
from kist.plan.steps import (
    RLIMITS, Actor, Await, BindAt, BoundingSet, Capabilities, Chdir, Chroot, Clone, DieWithParent, Dup, Entry, Exec,
    Group, IdMapHelper, LinkUp, MaskAt, Mkdir, MkdirAt, MknodAt, Mount, MountAt, MountPropagation, NewKeyring,
    NoNewPrivs, OpenProc, OpenPty, OpenRoot, Pipe, PivotRoot, Plan, ReadonlyAt, ReadonlyRoot, Relay, Rlimit, Seal,
    Seccomp, SetGroups, Sethostname, Setdomainname, SetIds, Setsid, Signal, Slot, Step, Supervise, SymlinkAt, Sysctl,
    Umask, Unshare, WriteAt, WriteFile,
)  # fmt: skip
from kist.spec.runtime import Cpu, DeviceCgroup, Memory, Pids, Resources

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_PIDS = 2048
# podman's eleven: what programs that start as root commonly need, nothing that reaches the host.
DEFAULT_CAPABILITIES = frozenset(
    "CAP_" + name
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP",
        "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
         ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"))  # fmt: skip
SYSCTL_OWNERS = {"net": "net/", "ipc": "kernel/msg kernel/sem kernel/shm fs/mqueue/", "uts": "kernel/domainname"}


class Tree(msgspec.Struct, frozen=True):
    """A directory of the host shown, with a throw-away layer on top, at the same path inside."""

    path: str


class Surroundings(msgspec.Struct, frozen=True):
    """What the engine found out for the compiler."""

    id: str
    scratch: str  # an empty host directory, for a tmpfs that only the container's mount namespace sees
    lower: str = ""  # the root file system's directory; "" for the image `host`
    trees: tuple[Tree, ...] = ()  # image `host`
    symlinks: tuple[tuple[str, str], ...] = ()  # image `host`: (path, content)
    files: tuple[tuple[str, bytes], ...] = ()  # image `host`: a fresh /etc
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    path: str = DEFAULT_PATH
    home: str = "/root"
    stdin: str = "pass"  # "pass", "null"
    relays: tuple[int, ...] = ()  # the caller's fds that are terminals and so are copied, not handed over
    files_bound: frozenset[str] = frozenset()  # bind sources that are not directories


class Compiled(msgspec.Struct, frozen=True):
    plan: Plan
    cgroup_paths: tuple[str, ...]
    not_enforced: tuple[str, ...]
    uses_tty: bool = False


class _Compiler:
    def __init__(self, request: RunRequest, facts: HostFacts, around: Surroundings) -> None:
        self.r, self.facts, self.around = request, facts, around
        self.plan: list[Entry] = []
        self.without = set(request.without)
        root = facts.uid == 0 and not facts.in_user_namespace
        self.userns = request.userns == "private" or (not root and "userns" not in self.without)
        if self.userns and request.userns == "host":
            raise Refused("--userns host needs root", why="without root, a user namespace gives the other ones")
        if self.userns and not facts.user_namespaces:
            raise Refused("no user namespace can be made", why=facts.user_namespaces_reason, next="kist doctor")
        self.namespaces = self._namespaces()
        self.capabilities = self._capabilities()

    def host(self, group: Group, step: Step, why: str) -> None:
        self.plan.append(Entry(step, Actor.HOST, group, why))

    def init(self, group: Group, step: Step, why: str) -> None:
        self.plan.append(Entry(step, Actor.INIT, group, why))

    def _namespaces(self) -> int:
        r, flags = self.r, 0
        wanted = {
            "user": self.userns,
            "mnt": True,
            "pid": r.pid != "host",
            "net": r.network != "host",
            "ipc": r.ipc != "host",
            "uts": r.uts != "host",
            "cgroup": r.cgroupns != "host",
            "time": self.facts.time_namespace,
        }
        short = {"mnt": "mntns", "cgroup": "cgroupns", "time": "timens"}
        for name, on in wanted.items():
            if on and short.get(name, f"{name}ns") not in self.without:
                flags |= f.NAMESPACES[name][0]
        return flags

    def _capabilities(self) -> frozenset[str]:
        known = frozenset(CAPABILITIES[: self.facts.cap_last + 1])
        r = self.r
        if r.privileged or "caps" in self.without:
            have = known
        else:
            have = known if "ALL" in r.cap_add else DEFAULT_CAPABILITIES
            have = frozenset() if "ALL" in r.cap_drop else have
            have = (have | (frozenset(r.cap_add) - {"ALL"})) - frozenset(r.cap_drop)
        return have if self.userns else have & self.facts.capabilities

    # --- in the order of the plan ---

    def compile(self) -> Compiled:
        cgroup = self._cgroup()
        self.plan += cgroup.before
        self._stdio_pipes()
        late = f.CLONE_NEWCGROUP | (f.CLONE_NEWTIME if self.r.time_offset else 0)
        if cgroup.uses_clone_into and self.namespaces & f.CLONE_NEWCGROUP:
            late &= ~f.CLONE_NEWCGROUP
        slot = Slot.CGROUP if cgroup.uses_clone_into else Slot.NONE
        self.host(Group.NAMESPACES, Clone(self.namespaces & ~late, slot), "the container's first process")
        self._id_maps()
        self.plan += cgroup.join
        if late := self.namespaces & late:
            self.init(Group.NAMESPACES, Unshare(late), "these take effect from where the process is now")
        if self.r.time_offset and self.namespaces & f.CLONE_NEWTIME:
            self._time_offset()
        self.init(Group.NAMESPACES, MountPropagation("/", f.MS_PRIVATE | f.MS_REC), "else our mounts reach the host")
        self.init(Group.PRIVILEGES, Seal(), "nothing inside may look into the launcher")
        self.init(Group.PRIVILEGES, Setsid(), "no way to type into the caller's terminal")
        if "keyring" not in self.without:
            self.init(Group.PRIVILEGES, NewKeyring(f"kist-{self.around.id}"), "the caller's keys stay outside")
        if self.r.oom_score_adj is not None:
            self.init(Group.PRIVILEGES, WriteFile("/proc/self/oom_score_adj", str(self.r.oom_score_adj)), "asked for")
        self._rootfs()
        self._mounts()
        self._devices()
        self._names()
        self._terminal()
        self._hide()
        self._enter()
        self._privileges()
        self._exec()
        self._supervise(cgroup)
        unenforced = (*cgroup.not_enforced, *self.r.without)
        return Compiled(tuple(self.plan), cgroup.paths, unenforced, self.r.tty)

    def _cgroup(self) -> CgroupPlan:
        r = self.r
        if "cgroup" in self.without:
            return CgroupPlan()
        pids = DEFAULT_PIDS if r.pids_limit is None else r.pids_limit
        if r.pids_limit is None and self.facts.uid:
            pids = UNLIMITED  # not asked for: an ordinary user without delegation is not refused for our default
        if self.facts.cpus and r.cpus and r.cpus > self.facts.cpus:
            raise InvalidInput(f"{r.cpus:g} is more than the {self.facts.cpus} CPUs of this host", path="--cpus")
        memory = cpu = None
        if (r.memory_bytes, r.memory_swap_bytes, r.memory_reservation_bytes, r.memory_swappiness) != (None,) * 4:
            swap = r.memory_swap_bytes
            if swap is None and r.memory_bytes and self.facts.cgroup.swap_accounting:
                swap = 2 * r.memory_bytes  # docker's default
            memory = Memory(r.memory_bytes, r.memory_reservation_bytes, swap, swappiness=r.memory_swappiness,
                            disable_oom_killer=r.oom_kill_disable)  # fmt: skip
        if r.cpus or r.cpu_shares or r.cpu_quota_us or r.cpuset_cpus or r.cpuset_mems:
            period = r.cpu_period_us or (100_000 if r.cpus else None)
            quota = int(r.cpus * (period or 0)) if r.cpus else r.cpu_quota_us
            cpu = Cpu(shares=r.cpu_shares, quota=quota, period=period, cpus=",".join(map(str, r.cpuset_cpus)),
                      mems=",".join(map(str, r.cpuset_mems)))  # fmt: skip
        resources = Resources(
            devices=self._device_rules(), memory=memory, cpu=cpu, pids=Pids(pids) if pids != UNLIMITED else None
        )
        path = f"{r.cgroup_parent.rstrip('/') or '/kist'}/{self.around.id}"
        return plan_cgroup(resources, path, self.facts, allow_unenforced=r.allow_unenforced)

    def _device_rules(self) -> tuple[DeviceCgroup, ...]:
        if self.r.privileged or "devices" in self.without or self.userns:
            return ()
        allowed = [DeviceCgroup(True, "c", major, minor, "rwm") for _, major, minor in DEVICES]
        terminals = [DeviceCgroup(True, "c", 5, 2, "rwm"), DeviceCgroup(True, "c", 136, None, "rwm")]
        return (DeviceCgroup(False, "a", None, None, "rwm"), *allowed, *terminals)

    def _stdio_pipes(self) -> None:
        if self.r.tty:
            return
        pipes = {0: (Slot.IN_READ, Slot.IN_WRITE), 1: (Slot.OUT_READ, Slot.OUT_WRITE), 2: (Slot.ERR_READ, Slot.ERR_WRITE)}
        for fd in self.around.relays:
            self.host(Group.EXEC, Pipe(*pipes[fd]), f"fd {fd} is the caller's terminal: it is copied, not handed over")

    def _id_maps(self) -> None:
        if not self.userns:
            return
        facts, pid = self.facts, "/proc/$init_pid"
        why = "ids inside are other ids outside"
        if facts.uid == 0:
            maps = {"uid": facts.subuids, "gid": facts.subgids}
            for kind, ranges in maps.items():
                first = ranges[0] if ranges else None
                text = f"0 {first.start} {first.size}" if first else "0 0 1"
                self.host(Group.NAMESPACES, WriteFile(f"{pid}/{kind}_map", text), why)
        elif facts.subuids and facts.subgids and facts.newuidmap and facts.newgidmap and not facts.no_new_privs:
            helpers = (
                (facts.newuidmap, facts.uid, facts.subuids[0]),
                (facts.newgidmap, facts.gid, facts.subgids[0]),
            )
            for helper, own, ids in helpers:
                words = ("0", own, "1", "1", ids.start, ids.size)
                self.host(Group.NAMESPACES, IdMapHelper((helper, "$init_pid", *map(str, words))), why)
        else:
            self.host(Group.NAMESPACES, WriteFile(f"{pid}/setgroups", "deny"), "user_namespaces(7) asks for it")
            self.host(Group.NAMESPACES, WriteFile(f"{pid}/uid_map", f"0 {facts.uid} 1"), "root inside is this user")
            self.host(Group.NAMESPACES, WriteFile(f"{pid}/gid_map", f"0 {facts.gid} 1"), "root inside is this user")
        self.host(Group.NAMESPACES, Signal(), "the maps are written")
        self.init(Group.NAMESPACES, Await(), "for the maps")
        self.init(Group.NAMESPACES, SetIds(0, 0), "become root inside")

    @property
    def single_id(self) -> bool:
        facts = self.facts
        helpers = facts.subuids and facts.subgids and facts.newuidmap and facts.newgidmap and not facts.no_new_privs
        return self.userns and (not facts.subuids if facts.uid == 0 else not helpers)

    def _time_offset(self) -> None:
        offset = self.r.time_offset
        assert offset is not None
        text = f"monotonic {offset.monotonic_s} 0\nboottime {offset.boottime_s} 0"
        self.init(Group.NAMESPACES, WriteFile("/proc/self/timens_offsets", text), "--time-offset")

    # --- root file system ---

    def _rootfs(self) -> None:
        g, around, scratch = Group.ROOTFS, self.around, self.around.scratch
        size = self.r.storage_opt_size_bytes
        if size is None and self.r.memory_bytes:
            size = self.r.memory_bytes // 2  # "no space left" before the memory limit kills
        data = "mode=0755" + (f",size={size}" if size else "")
        self.init(g, Mount("tmpfs", "tmpfs", scratch, f.MS_NODEV | f.MS_NOSUID if not around.lower else 0, data),
                  "what the container writes: gone with it")  # fmt: skip
        self._overlay(around.lower or f"{scratch}/empty", "root", f"{scratch}/root")
        self.init(g, OpenRoot(f"{scratch}/root"), "the new root")
        for index, tree in enumerate(around.trees):
            self.init(g, MkdirAt(tree.path), "where it shows")
            self._overlay(tree.path, f"tree{index}", f"{scratch}/root{tree.path}", f.MS_NOSUID | f.MS_NODEV)
        for path, content in around.symlinks:
            self.init(g, SymlinkAt(content, path), "as on this machine")
        for path, data_bytes in around.files:
            self.init(g, WriteAt(path, data_bytes), "a fresh /etc with only what programs need")
        if not around.lower:
            for path, mode in (("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/root", 0o700), ("/home", 0o755), ("/run", 0o755)):
                self.init(g, MkdirAt(path, mode), "empty")

    def _overlay(self, lower: str, name: str, target: str, attributes: int = 0) -> None:
        g, scratch = Group.ROOTFS, self.around.scratch
        upper, work = f"{scratch}/{name}.upper", f"{scratch}/{name}.work"
        own = [f"{scratch}/root", f"{scratch}/empty"] if name == "root" else []
        for directory in (*own, upper, work):
            self.init(g, Mkdir(directory, 0o755, 1), "for the overlay")
        escaped = lower.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")
        data = f"lowerdir={escaped},upperdir={upper},workdir={work}" + (",userxattr" if self.userns else "")
        if "overlay" in self.without and self.around.lower:
            self.init(g, Mount("", lower, target, 0x1000), "--without overlay: the image itself")
            return
        self.init(g, Mount("overlay", "overlay", target, attributes, data), "reads come from the image, writes go to the layer on top")

    def _mounts(self) -> None:
        g, safe = Group.ROOTFS, f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NOEXEC | f.MOUNT_ATTR_NODEV
        if self.namespaces & f.CLONE_NEWPID:
            self.init(g, MountAt("proc", "proc", "/proc", (), safe), "shows this PID namespace")
        else:
            self.init(g, BindAt("/proc", "/proc", 1, safe), "the host's: no PID namespace of its own")
        if self.namespaces & f.CLONE_NEWNET:
            readonly = 0 if self.r.privileged else f.MOUNT_ATTR_RDONLY
            self.init(g, MountAt("sysfs", "sysfs", "/sys", (), safe | readonly), "shows this network namespace")
        else:
            self.init(g, BindAt("/sys", "/sys", 1, safe | f.MOUNT_ATTR_RDONLY), "the host's: no network namespace of its own")
        for mount in (*self.r.volumes, *self.r.mounts, *self.r.tmpfs):
            self._asked_mount(mount)

    def _asked_mount(self, mount: MountRequest) -> None:
        if mount.kind == "tmpfs":
            words = set(mount.options)
            attributes = 0
            for bit, word in ((2, "suid"), (4, "dev"), (8, "exec")):
                attributes |= 0 if word in words else bit
            options = [o for o in mount.options if "=" in o]
            options += [f"size={mount.size_bytes}"] if mount.size_bytes else []
            options.append(f"mode={mount.mode if mount.mode is not None else 0o1777:o}")
            attributes |= f.MOUNT_ATTR_RDONLY if mount.readonly else 0
            self.init(Group.ROOTFS, MountAt("tmpfs", "tmpfs", mount.target, tuple(options), attributes), "--tmpfs")
            return
        attributes = f.MOUNT_ATTR_RDONLY if mount.readonly else 0
        directory = int(mount.source not in self.around.files_bound)
        step = BindAt(mount.source, mount.target, int(mount.recursive), attributes, 0, f.MS_PRIVATE, directory)
        self.init(Group.ROOTFS, step, "--volume")

    def _devices(self) -> None:
        g = Group.DEVICES
        self.init(g, MountAt("tmpfs", "tmpfs", "/dev", ("mode=755", "size=64k"), f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NOEXEC),
                  "built from nothing: no device of the host")  # fmt: skip
        for name, major, minor in DEVICES:
            if self.userns:
                self.init(g, BindAt(f"/dev/{name}", f"/dev/{name}", 0, 0, 0, 0, 0), "mknod is not for user namespaces")
            else:
                self.init(g, MknodAt(f"/dev/{name}", 0o020666, major, minor), "harmless")
        for name, content in LINKS:
            self.init(g, SymlinkAt(content, f"/dev/{name}"), "programs expect it")
        options = ("newinstance", "ptmxmode=0666", "mode=0620") + (() if self.single_id else ("gid=5",))
        self.init(g, MountAt("devpts", "devpts", "/dev/pts", options, f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NOEXEC, Slot.DEVPTS),
                  "terminals of its own")  # fmt: skip
        shm = self.r.shm_size_bytes or 64 << 20
        safe = f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NOEXEC | f.MOUNT_ATTR_NODEV
        self.init(g, MountAt("tmpfs", "shm", "/dev/shm", ("mode=1777", f"size={shm}"), safe), "POSIX shared memory")
        if self.namespaces & f.CLONE_NEWIPC:
            self.init(g, MountAt("mqueue", "mqueue", "/dev/mqueue", (), safe), "POSIX message queues")

    def _names(self) -> None:
        r = self.r
        if self.namespaces & f.CLONE_NEWUTS:
            name = r.hostname or self.around.id[:12]
            self.init(Group.NAMESPACES, Sethostname(name), "a name of its own")
            if r.domainname:
                self.init(Group.NAMESPACES, Setdomainname(r.domainname), "--domainname")
            self.init(Group.NETWORK, WriteAt("/etc/hostname", f"{name}\n".encode()), "programs read it here")
            hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"127.0.1.1 {name}"]
            hosts += [f"{address} {host}" for host, address in r.add_host]
            self.init(Group.NETWORK, WriteAt("/etc/hosts", ("\n".join(hosts) + "\n").encode()), "names it knows")
        if r.dns:
            lines = [f"nameserver {a}" for a in r.dns] + ([f"search {' '.join(r.dns_search)}"] if r.dns_search else [])
            self.init(Group.NETWORK, WriteAt("/etc/resolv.conf", ("\n".join(lines) + "\n").encode()), "--dns")
        if self.namespaces & f.CLONE_NEWNET:
            self.init(Group.NETWORK, LinkUp("lo"), "programs talk to themselves over it")

    def _terminal(self) -> None:
        a = self.around
        if self.r.tty:
            self.init(Group.EXEC, OpenPty(a.uid, a.gid), "-t")
            return
        slots = {0: Slot.IN_READ, 1: Slot.OUT_WRITE, 2: Slot.ERR_WRITE}
        if a.stdin == "null":
            self.init(Group.EXEC, Dup(Slot.NULL, 0), "no -i: nothing to read")
        for fd in a.relays:
            self.init(Group.EXEC, Dup(slots[fd], fd, a.uid, a.gid), "our pipe in place of the caller's terminal")

    def _hide(self) -> None:
        r = self.r
        if r.sysctls:
            self.init(Group.PRIVILEGES, OpenProc(), "for --sysctl")
            for key, value in r.sysctls.items():
                self.init(Group.PRIVILEGES, Sysctl(self._sysctl(key), value), "--sysctl")
        if not (r.privileged or r.security_opt.systempaths_unconfined):
            for path in () if "masked" in self.without else MASKED:
                self.init(Group.ROOTFS, MaskAt(path), "tells about the host")
            for path in () if "readonly-paths" in self.without else READONLY:
                self.init(Group.ROOTFS, ReadonlyAt(path), "writing here changes the host")
        if r.read_only:
            self.init(Group.ROOTFS, ReadonlyRoot(), "--read-only")

    def _sysctl(self, key: str) -> str:
        path = key.replace(".", "/")
        for namespace, prefixes in SYSCTL_OWNERS.items():
            if any(path.startswith(p) for p in prefixes.split()):
                if self.namespaces & f.NAMESPACES[namespace][0]:
                    return path
                raise InvalidInput(f"{key} would change the host: the container shares its {namespace} namespace", path="--sysctl")
        raise InvalidInput(f"{key} belongs to no namespace: it would change the host", path="--sysctl",
                           next="use net.*, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.*")  # fmt: skip

    def _enter(self) -> None:
        if "pivot" in self.without:
            self.init(Group.ROOTFS, Chroot(), "--without pivot")
        else:
            self.init(Group.ROOTFS, PivotRoot(), "the host's files are out of reach, not just out of sight")
        self.init(Group.ROOTFS, Chdir(self.r.workdir or "/"), "the working directory")

    # --- privileges ---

    def _privileges(self) -> None:
        g, r, a = Group.PRIVILEGES, self.r, self.around
        for limit in r.ulimits:
            soft, hard = (2**64 - 1 if v == UNLIMITED else v for v in (limit.soft, limit.hard))
            self.init(g, Rlimit(RLIMITS.index(limit.name), soft, hard), "--ulimit")
        self.init(g, Umask(0o022 if r.umask is None else r.umask), "known, whatever the caller's is")
        mask = sum(1 << CAPABILITIES.index(name) for name in self.capabilities)
        seccomp = self._seccomp()
        nnp = r.security_opt.no_new_privileges and not r.privileged and "nnp" not in self.without
        if seccomp and not nnp:
            self.init(g, seccomp, "while we still may: later steps are allowed by it")
        self.init(g, BoundingSet(mask), "no program inside can regain the others")
        if not self.single_id:
            self.init(g, SetGroups(pack(f"<{len(a.groups)}I", *a.groups)), "none of the caller's groups")
        self.init(g, SetIds(a.uid, a.gid), "the user")
        effective = mask if a.uid == 0 else 0
        self.init(g, Capabilities(effective, effective), "what root inside may do" if a.uid == 0 else "none")
        if nnp:
            self.init(g, NoNewPrivs(), "set-uid programs give nothing")
            if seccomp:
                self.init(g, seccomp, "dangerous system calls are denied")
        self.init(g, DieWithParent(), "no container without its supervisor")

    def _seccomp(self) -> Seccomp | None:
        choice = self.r.security_opt.seccomp
        if choice == "unconfined" or self.r.privileged or "seccomp" in self.without:
            return None
        if not self.facts.seccomp:
            raise Refused("this kernel has no seccomp filters", next="--security-opt seccomp=unconfined")
        if choice == "default":
            from kist.plan.seccomp_default import default_seccomp

            policy = default_seccomp(self.capabilities, native_arch=self.facts.arch, kernel=self.facts.kernel)
        else:
            from kist.plan.seccomp_profile import decode_profile

            policy = decode_profile(choice.encode(), self.capabilities, self.facts.arch, self.facts.kernel)
        made = assemble(policy, native_arch=self.facts.arch)
        return Seccomp(made.program, made.flags)

    def _exec(self) -> None:
        r, a = self.r, self.around
        argv = (*(r.entrypoint or ()), *r.command)
        if not argv:
            raise InvalidInput("no command given", next="kist run IMAGE COMMAND...", code="no-command")
        base = {"PATH": a.path, "HOME": a.home, "HOSTNAME": r.hostname or a.id[:12]}
        if r.tty:
            base["TERM"] = "xterm"
        for pair in r.env:
            key, equals, value = pair.partition("=")
            if equals:
                base[key] = value
            else:
                base.pop(key, None)
        env = tuple(f"{k}={v}" for k, v in base.items())
        self.init(Group.EXEC, Exec(argv, env, base.get("PATH", DEFAULT_PATH), int(r.init)), "the command")

    def _supervise(self, cgroup: CgroupPlan) -> None:
        pairs = {0: (Slot.STDIN, Slot.IN_WRITE), 1: (Slot.OUT_READ, Slot.STDOUT), 2: (Slot.ERR_READ, Slot.STDERR)}
        if self.r.tty:
            self.host(Group.EXEC, Relay(Slot.PTY, Slot.STDOUT), "what it prints")
            if self.r.interactive:
                self.host(Group.EXEC, Relay(Slot.STDIN, Slot.PTY), "what is typed")
        else:
            for fd in self.around.relays:
                self.host(Group.EXEC, Relay(*pairs[fd]), f"copies fd {fd}")
        timeout = int((self.r.timeout_s or 0) * 1000)
        self.host(Group.EXEC, Supervise(timeout, cgroup.freezer), "until the command ends")
        self.plan += cgroup.after


def compile_run(request: RunRequest, facts: HostFacts, around: Surroundings) -> Compiled:
    """The plan of `kist run`. Raises InvalidInput, Refused and Unsupported before anything was done."""
    return _Compiler(request, facts, around).compile()


def steps(plan: Plan) -> Iterator[Step]:
    return (entry.step for entry in plan)
