"""From what `kist run` was asked for to an OCI config: Docker's defaults, ours where they are safer. Pure.

The config says what the container is; how its root file system is made and who watches it is in plan.setting.
"""

from __future__ import annotations

from kist.errors import InvalidInput, Refused
from kist.plan.compile_process import DEFAULT_PATH
from kist.plan.compile_root import DEVICES
from kist.plan.facts import CAPABILITIES
from kist.plan.mount_options import SUBPATH
from kist.plan.words import UNLIMITED
from kist.spec import runtime as oci
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kist.plan.facts import HostFacts, IdRange
    from kist.plan.request import DeviceRate, MountRequest, RunRequest

OCI_VERSION = "1.3.0"
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
# What `--without NAMEns` leaves out -> the OCI namespace.
_WITHOUT = {"userns": "user", "pidns": "pid", "netns": "network", "mntns": "mount", "ipcns": "ipc", "utsns": "uts",
            "cgroupns": "cgroup", "timens": "time"}  # fmt: skip


class Identity(Value):
    """Who the command is, inside: resolved from the root file system's own passwd and group."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/root"


class HostDevice(Value):
    """A device node of the host that was asked for."""

    target: str
    kind: str  # "c" or "b"
    major: int
    minor: int
    mode: int
    access: str
    uid: int = 0
    gid: int = 0


class Found(Value):
    """What the engine looked up on the host for a request."""

    identity: Identity = Identity()
    path: str = DEFAULT_PATH
    devices: tuple[HostDevice, ...] = ()
    block_devices: Mapping[str, tuple[int, int]] = {}  # path -> number, of those in limits
    joined: Mapping[str, str] = {}  # OCI namespace -> path of one that exists; "user" is of another container of ours


def needs_userns(request: RunRequest, facts: HostFacts) -> bool:
    """Whether the container gets a user namespace. Raises Refused if it must have one and was told not to."""
    root = facts.uid == 0 and "CAP_SYS_ADMIN" in facts.capabilities
    if request.userns == "host" and not root:
        raise Refused("--userns host needs root", why="without root, a user namespace gives the other ones")
    if request.userns == "private":
        return True
    return not root and "userns" not in request.without


def id_mappings(facts: HostFacts, kind: str) -> tuple[oci.IdMapping, ...]:
    """What a user namespace of ours maps, `kind` is "uid" or "gid": root inside is this user (or, for root itself, the
    first of its subordinate ids); the rest follows."""
    own = facts.uid if kind == "uid" else facts.gid
    ranges: tuple[IdRange, ...] = facts.subuids if kind == "uid" else facts.subgids
    if {"CAP_SETUID", "CAP_SETGID"} <= facts.capabilities:
        start, size = (ranges[0].start, ranges[0].size) if ranges else (_ROOT_IDS, 65536)
        return (oci.IdMapping(0, start, size),)
    helpers = facts.newuidmap and facts.newgidmap and not facts.no_new_privs
    if not (helpers and facts.subuids and facts.subgids):
        return (oci.IdMapping(0, own, 1),)
    mappings, first = [oci.IdMapping(0, own, 1)], 1
    for ids in ranges:
        mappings.append(oci.IdMapping(first, ids.start, ids.size))
        first += ids.size
    return tuple(mappings)


def container_config(request: RunRequest, facts: HostFacts, found: Found, id: str) -> oci.Spec:
    """Raises InvalidInput (naming the flag), Refused."""
    return _Config(request, facts, found, id).spec()


def exec_config(request: RunRequest, facts: HostFacts, found: Found, id: str) -> oci.Spec:
    """What one more process of such a container has: the process itself and its filter. Raises InvalidInput."""
    return _Config(request, facts, found, id).exec_spec()


def resources_of(request: RunRequest, facts: HostFacts) -> oci.Resources:
    """Its limits alone, without devices'. Raises what `container_config` raises."""
    from kist.value import replace

    plain = replace(request, device_cgroup_rule=(), blkio_weight_device=(), device_read_bps=(), device_write_bps=(),
                    device_read_iops=(), device_write_iops=())  # fmt: skip
    return _Config(plain, facts, Found(), "").resources()


class _Config:
    def __init__(self, request: RunRequest, facts: HostFacts, found: Found, id: str) -> None:
        self.r, self.facts, self.found, self.id = request, facts, found, id
        self.userns = needs_userns(request, facts)
        self.namespaces = frozenset(self._namespaces())
        self.capabilities = self._capabilities()
        self.hostname = request.hostname or (id[:12] if "uts" in self.namespaces else "")

    def spec(self) -> oci.Spec:
        r = self.r
        open_paths = r.privileged or r.security_opt.systempaths_unconfined
        linux = oci.Linux(
            namespaces=tuple(
                oci.Namespace(name, self.found.joined.get(name, ""))
                for name in oci.NAMESPACE_ORDER
                if name in self.namespaces
            ),
            uid_mappings=id_mappings(self.facts, "uid") if self.userns else (),
            gid_mappings=id_mappings(self.facts, "gid") if self.userns else (),
            time_offsets=self._time_offsets(),
            devices=tuple(
                oci.Device(d.target, d.kind, d.major, d.minor, d.mode, d.uid, d.gid) for d in self.found.devices
            ),
            cgroups_path=f"{r.cgroup_parent.rstrip('/') or '/kist'}/{self.id}",
            resources=self.resources(),
            seccomp=self._seccomp(),
            sysctl={**self._network_sysctls(), **r.sysctls},
            masked_paths=() if open_paths or "masked" in r.without else MASKED,
            readonly_paths=() if open_paths or "readonly-paths" in r.without else READONLY,
        )
        if r.time_offset and "time" not in self.namespaces:
            raise InvalidInput("this kernel has no time namespaces (Linux 5.6)", path="--time-offset")
        return oci.Spec(
            oci_version=OCI_VERSION,
            root=oci.Root(path=r.rootfs or "rootfs", readonly=r.read_only),
            process=self._process(),
            hostname=self.hostname if "uts" in self.namespaces else "",
            domainname=r.domainname,
            mounts=tuple(self._mounts()),
            annotations=dict(r.annotations),
            linux=linux,
        )

    def exec_spec(self) -> oci.Spec:
        process = self._process()
        return oci.Spec(OCI_VERSION, oci.Root("/"), process=process, linux=oci.Linux(seccomp=self._seccomp()))

    # --- namespaces

    def _namespaces(self) -> Iterator[str]:
        r = self.r
        wanted = {
            "user": self.userns,
            "mount": True,
            "pid": r.pid != "host",
            "network": r.network != "host",
            "ipc": r.ipc != "host",
            "uts": r.uts != "host",
            "cgroup": r.cgroupns != "host",
            "time": self.facts.time_namespace,
        }
        if "mntns" in r.without:
            raise InvalidInput(
                "nothing runs without a mount namespace",
                path="--without",
                why="all that a container mounts would stay on the host",
                next="kist explain shows which steps mount",
            )
        left_out = {_WITHOUT[word] for word in r.without if word in _WITHOUT}
        yield from (name for name, on in wanted.items() if on and name not in left_out)

    def _network_sysctls(self) -> dict[str, str]:
        """Docker's: ping needs no capability there, nor do low ports."""
        if not (self.r.in_networks or self.r.pasta):
            return {}
        last = 2**31 - 1
        if self.userns:
            mapping = id_mappings(self.facts, "gid")[-1]
            last = mapping.container_id + mapping.size - 1
        return {"net.ipv4.ping_group_range": f"0 {last}", "net.ipv4.ip_unprivileged_port_start": "0"}

    def _time_offsets(self) -> dict[str, oci.TimeOffset]:
        offset = self.r.time_offset
        if not offset:
            return {}
        return {"monotonic": oci.TimeOffset(offset.monotonic_s), "boottime": oci.TimeOffset(offset.boottime_s)}

    # --- limits

    def resources(self) -> oci.Resources:
        r = self.r
        pids = DEFAULT_PIDS if r.pids_limit is None else r.pids_limit
        if r.pids_limit is None and not self._may_limit_pids():
            pids = UNLIMITED  # not asked for: an ordinary user without delegation is not refused for our default
        if self.facts.cpus and r.cpus and r.cpus > self.facts.cpus:
            raise InvalidInput(f"{r.cpus:g} is more than the {self.facts.cpus} CPUs of this host", path="--cpus")
        return oci.Resources(
            devices=self._device_rules(),
            memory=self._memory(),
            cpu=self._cpu(),
            pids=oci.Pids(pids) if pids != UNLIMITED else None,
            block_io=self._block_io(),
        )

    def _may_limit_pids(self) -> bool:
        cgroup = self.facts.cgroup
        if cgroup.version == 1:
            return "pids" in cgroup.v1 and cgroup.v1["pids"].writable
        v2 = cgroup.v2
        return bool(v2 and v2.delegated and "pids" in v2.available and (v2.base_is_root or not v2.other_processes))

    def _memory(self) -> oci.Memory | None:
        r = self.r
        asked = (r.memory_bytes, r.memory_swap_bytes, r.memory_reservation_bytes, r.memory_swappiness)
        if asked == (None,) * 4 and not r.oom_kill_disable:
            return None
        swap = r.memory_swap_bytes
        if swap is None and r.memory_bytes and self.facts.cgroup.swap_accounting:
            swap = 2 * r.memory_bytes  # docker's default
        return oci.Memory(r.memory_bytes, r.memory_reservation_bytes, swap, swappiness=r.memory_swappiness,
                          disable_oom_killer=r.oom_kill_disable)  # fmt: skip

    def _cpu(self) -> oci.Cpu | None:
        r = self.r
        if not (r.cpus or r.cpu_shares or r.cpu_quota_us or r.cpu_period_us or r.cpuset_cpus or r.cpuset_mems):
            return None
        period = r.cpu_period_us or (100_000 if r.cpus else None)
        quota = int(r.cpus * (period or 0)) if r.cpus else r.cpu_quota_us
        return oci.Cpu(shares=r.cpu_shares, quota=quota, period=period, cpus=",".join(map(str, r.cpuset_cpus)),
                       mems=",".join(map(str, r.cpuset_mems)))  # fmt: skip

    def _block_io(self) -> oci.BlockIO | None:
        r, numbers = self.r, self.found.block_devices
        rates = (r.device_read_bps, r.device_write_bps, r.device_read_iops, r.device_write_iops)
        if r.blkio_weight is None and not any((r.blkio_weight_device, *rates)):
            return None

        def throttles(rates: tuple[DeviceRate, ...]) -> tuple[oci.ThrottleDevice, ...]:
            return tuple(oci.ThrottleDevice(*numbers[d.path], d.rate) for d in rates)

        weights = tuple(oci.WeightDevice(*numbers[d.path], d.rate) for d in r.blkio_weight_device)
        return oci.BlockIO(r.blkio_weight, None, weights, *map(throttles, rates))

    def _device_rules(self) -> tuple[oci.DeviceCgroup, ...]:
        """In a user namespace no node can be made, and those bound in are the ones that may be opened anyway."""
        r = self.r
        if r.privileged or "devices" in r.without or (self.userns and not r.device_cgroup_rule):
            return ()
        rules = [oci.DeviceCgroup(False, "a", None, None, "rwm")]
        rules += [oci.DeviceCgroup(True, "c", device.major, device.minor, "rwm") for device in DEVICES]
        rules += [oci.DeviceCgroup(True, "c", 5, 2, "rwm"), oci.DeviceCgroup(True, "c", 136, None, "rwm")]
        for d in self.found.devices:  # "m", too: the node is made inside the cgroup
            rules.append(oci.DeviceCgroup(True, d.kind, d.major, d.minor, d.access.replace("m", "") + "m"))
        for rule in r.device_cgroup_rule:
            major, minor = (None if n == UNLIMITED else n for n in (rule.major, rule.minor))
            rules.append(oci.DeviceCgroup(True, rule.kind, major, minor, rule.access))
        return tuple(rules)

    # --- mounts

    def _mounts(self) -> Iterator[oci.Mount]:
        r, safe = self.r, ("nosuid", "noexec", "nodev")
        if "pid" in self.namespaces:
            yield oci.Mount("/proc", "proc", "proc", safe)
        else:  # the host's: a user namespace may only mount a procfs of its own PID namespace
            yield oci.Mount("/proc", "bind", "/proc", ("rbind", *safe))
        yield oci.Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "noexec", "strictatime", "mode=755", "size=65536k"))
        yield oci.Mount(
            "/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
        )
        if r.ipc != "none":
            shm = r.shm_size_bytes or 64 << 20
            yield oci.Mount("/dev/shm", "tmpfs", "shm", (*safe, "mode=1777", f"size={shm}"))
        if "ipc" in self.namespaces:
            yield oci.Mount("/dev/mqueue", "mqueue", "mqueue", safe)
        access = "rw" if r.privileged else "ro"
        if "network" in self.namespaces:
            yield oci.Mount("/sys", "sysfs", "sysfs", (*safe, access))
        else:
            yield oci.Mount("/sys", "bind", "/sys", ("rbind", *safe, f"r{access}"))
        if "network" in self.namespaces and self._shows_cgroup():
            yield oci.Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*safe, access))
        if r.read_only:
            asked = {mount.target for mount in (*r.volumes, *r.mounts, *r.tmpfs)}
            for path in r.image_volumes:
                if path not in asked:
                    yield oci.Mount(path, "tmpfs", "tmpfs", ("nosuid", "nodev", "tmpcopyup"))
        for mount in sorted((*r.volumes, *r.mounts, *r.tmpfs), key=lambda m: m.target.count("/")):
            yield _asked_mount(mount)

    def _shows_cgroup(self) -> bool:
        """In a user namespace the container may see a cgroup of its own only, and only where it has one."""
        cgroup = self.facts.cgroup
        if not self.userns:
            return cgroup.version > 0
        return "cgroup" in self.namespaces and cgroup.version == 2

    # --- the process

    def _process(self) -> oci.Process:
        r, who = self.r, self.found.identity
        argv = (*(r.entrypoint or ()), *r.command)
        if not argv:
            raise InvalidInput("no command given", next="kist run IMAGE COMMAND...", code="no-command")
        held = tuple(sorted(self.capabilities, key=CAPABILITIES.index))
        used = held if who.uid == 0 else ()
        infinity = 2**64 - 1
        rlimits = [
            oci.Rlimit(
                f"RLIMIT_{limit.name.upper()}", *(infinity if v == UNLIMITED else v for v in (limit.hard, limit.soft))
            )
            for limit in r.ulimits
        ]
        return oci.Process(
            args=argv,
            cwd=r.workdir or "/",
            user=oci.User(who.uid, who.gid, r.umask, who.groups),
            env=self._env(),
            terminal=r.tty,
            capabilities=oci.Capabilities(bounding=held, effective=used, permitted=used),
            rlimits=tuple(rlimits),
            no_new_privileges=r.security_opt.no_new_privileges and not r.privileged and "nnp" not in r.without,
            apparmor_profile=r.security_opt.apparmor,
            oom_score_adj=r.oom_score_adj,
            selinux_label=_selinux_label(r.security_opt.label),
        )

    def _env(self) -> tuple[str, ...]:
        r = self.r
        base = {"PATH": self.found.path, "HOME": self.found.identity.home, "HOSTNAME": self.hostname or self.id[:12]}
        if r.tty:
            base["TERM"] = "xterm"
        for pair in r.env:
            key, equals, value = pair.partition("=")
            if equals:
                base[key] = value
            else:
                base.pop(key, None)
        return tuple(f"{k}={v}" for k, v in base.items())

    def _capabilities(self) -> frozenset[str]:
        known = frozenset(CAPABILITIES[: self.facts.cap_last + 1])
        r = self.r
        if r.privileged or "caps" in r.without:
            have = known
        else:
            have = known if "ALL" in r.cap_add else DEFAULT_CAPABILITIES
            have = frozenset() if "ALL" in r.cap_drop else have
            have = (have | (frozenset(r.cap_add) - {"ALL"})) - frozenset(r.cap_drop)
        return have if self.userns else have & self.facts.capabilities

    def _seccomp(self) -> oci.Seccomp | None:
        r, choice = self.r, self.r.security_opt.seccomp
        if choice == "unconfined" or r.privileged or "seccomp" in r.without:
            return None
        if choice == "default":
            from kist.plan.seccomp_default import default_seccomp

            return default_seccomp(self.capabilities, native_arch=self.facts.arch, kernel=self.facts.kernel)
        from kist.plan.seccomp_profile import decode_profile

        return decode_profile(choice.encode(), self.capabilities, self.facts.arch, self.facts.kernel)


# Where ids of root's user namespaces begin if /etc/subuid says nothing: in the range that systemd leaves to containers.
_ROOT_IDS = 0x70000000


def _asked_mount(mount: MountRequest) -> oci.Mount:
    if mount.kind == "tmpfs":
        defaults = {"suid": "nosuid", "dev": "nodev", "exec": "noexec"}
        words = [no for word, no in defaults.items() if word not in mount.options and no not in mount.options]
        words += mount.options
        words += [f"size={mount.size_bytes}"] if mount.size_bytes else []
        words.append(f"mode={mount.mode if mount.mode is not None else 0o1777:o}")
        return oci.Mount(mount.target, "tmpfs", "tmpfs", (*words, *(["ro"] if mount.readonly else [])))
    if mount.kind == "filesystem":
        words = [*mount.options, *(["ro"] if mount.readonly else [])]
        return oci.Mount(mount.target, mount.filesystem, mount.source, tuple(words))
    words = ["rbind" if mount.recursive else "bind", mount.propagation or "rprivate"]
    if mount.readonly:
        words += ["ro"] if mount.writable_submounts or not mount.recursive else ["ro", "rro"]
    words += [f"{SUBPATH}{mount.subpath}"] if mount.subpath else []
    return oci.Mount(mount.target, "bind", mount.source, tuple(words))


def _selinux_label(words: tuple[str, ...]) -> str:
    """--security-opt label=user:... etc. in one label; "" when none or `disable`."""
    parts = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
    chosen = dict(word.partition(":")[::2] for word in words if ":" in word)
    return ":".join((parts | chosen)[key] for key in parts) if chosen else ""
