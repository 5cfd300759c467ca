"""What a caller may ask of `kist run` and `kist explain`, as values: pure, checked by `plan.values` on the way here.

Field names are Docker's flag names with underscores, plus the unit where a number has one. None means "not asked for":
the compiler then takes the image's value or kist's default.
"""

from __future__ import annotations

from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class MountRequest(Value):
    """One of --volume, --mount or --tmpfs. What the engine makes of a volume when the container starts is one of the
    other kinds."""

    kind: str  # "bind", "tmpfs", "volume", or "filesystem": what a volume's options name
    target: str  # absolute and normal, never "/"
    source: str = (
        ""  # bind: absolute and normal, on the host; volume: its name, "" for one of its own; filesystem: device
    )
    readonly: bool = False
    recursive: bool = True  # bind: with the mounts below source, and readonly holds for them too
    writable_submounts: bool = False  # bind: readonly does not hold for the mounts below source
    create_source: bool = False  # bind: make a missing source directory, as docker does for -v but not for --mount
    propagation: str = ""  # bind: "", "private", "rprivate", "slave", "rslave", "shared", "rshared"
    relabel: str = ""  # bind: "", "z" (shared), "Z" (private): an SELinux label for the source
    options: tuple[str, ...] = ()  # tmpfs: mount(8) words besides ro, size in bytes and mode: "exec", "uid=1000"
    size_bytes: int | None = None  # tmpfs
    mode: int | None = None  # tmpfs: permissions of its root
    filesystem: str = ""  # filesystem: its type
    subpath: str = ""  # volume: only this part of it
    nocopy: bool = False  # volume: an empty one does not begin with what the image has there
    labels: Mapping[str, str] = {}  # volume: for one that is made now
    driver_options: Mapping[str, str] = {}  # volume: the same


class SecretRequest(Value):
    """--secret: a file in memory, below /run/secrets."""

    name: str
    target: str  # absolute
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


class Ulimit(Value):
    """--ulimit. UNLIMITED is RLIM_INFINITY; otherwise in getrlimit(2)'s unit."""

    name: str  # a word of plan.steps.RLIMITS
    soft: int
    hard: int


class DeviceRequest(Value):
    """--device: a device node (or a directory of them) of the host."""

    source: str
    target: str
    access: str = "rwm"  # letters of r(ead), w(rite), m(knod), in this order


class DeviceRate(Value):
    """A limit on one block device: bytes or operations per second, or a weight."""

    path: str
    rate: int


class DeviceRule(Value):
    """--device-cgroup-rule. UNLIMITED stands for `*`."""

    kind: str  # "a", "b" or "c"
    major: int
    minor: int
    access: str


class Publish(Value):
    """--publish, --expose: ports `first` to `last` of a container; on the host, as many from `host_first` on. Of one
    port only, the host's may be any from `host_first` to `host_last`; 0 and 0: any that is free."""

    protocol: str
    first: int
    last: int
    address: bytes = b""  # of the host; b"": any
    host_first: int = 0
    host_last: int = 0


class AllowRule(Value):
    """--allow-net: what may be reached at the ports `first` to `last`. Exactly one of pattern and address is set."""

    pattern: str = ""  # "pypi.org", "*.pypi.org", "*": in lower case
    address: bytes = b""  # packed
    prefix: int = 0
    first: int = 0
    last: int = 0
    plain: bool = False  # of names: also what is neither TLS nor HTTP for that name


class NetRate(Value):
    """--net-rate, in bytes a second; 0: as fast as it goes."""

    into: int = 0
    out: int = 0


class SecurityOpt(Value):
    """--security-opt, all of them together."""

    seccomp: str = "default"  # "default", "unconfined", or the profile itself: JSON in Docker's or the OCI's form
    no_new_privileges: bool = True
    systempaths_unconfined: bool = False  # neither masked nor read-only paths
    apparmor: str = ""
    label: tuple[str, ...] = ()  # SELinux: "disable", "type:...", "level:...", ...


class TimeOffset(Value):
    """What the container's clocks show beyond the host's. Source: time_namespaces(7)."""

    monotonic_s: int = 0
    boottime_s: int = 0


# What --without may leave out, for a lesson, and what it protects.
PROTECTIONS: Mapping[str, str] = {
    "userns": "ids inside mean nothing on the host",
    "pidns": "processes of the host cannot be seen or signalled",
    "netns": "network interfaces, ports and firewall of its own",
    "mntns": "mounts made inside stay inside: refused, since nothing would take them away",
    "ipcns": "System V IPC and POSIX message queues of its own",
    "utsns": "host name of its own",
    "cgroupns": "its cgroup looks like the root",
    "timens": "clocks since boot of its own",
    "seccomp": "dangerous system calls are denied",
    "caps": "root inside has few of root's powers",
    "nnp": "set-uid programs give no privileges",
    "masked": "files of /proc and /sys that tell about the host are hidden",
    "readonly-paths": "files of /proc that change the host are read-only",
    "cgroup": "limits and accounting",
    "pivot": "the host's root is gone, not just out of sight (chroot instead)",
    "overlay": "the image is never written",
    "devices": "only harmless device nodes, and no others can be opened",
    "keyring": "the caller's keys stay outside",
}


class Restart(Value):
    """--restart: what happens when the command has ended. Source: docker run, "Restart policies"."""

    policy: str = "no"  # "no", "on-failure", "always", "unless-stopped"
    most: int = 0  # on-failure: as often as this; 0: as often as it takes


class RunRequest(Value):
    """Exactly one of image and rootfs is set. Values are checked in themselves, not against the host: the compiler
    does that with HostFacts."""

    image: str = ""
    rootfs: str = ""  # an absolute, normal directory of the host
    command: tuple[str, ...] = ()  # empty: the image's

    # the container
    name: str = ""
    rm: bool = False
    labels: Mapping[str, str] = {}  # with those of --label-file
    annotations: Mapping[str, str] = {}
    cidfile: str = ""  # absolute
    detach: bool = False
    restart: Restart = Restart()
    log_driver: str = "local"  # "local": kept for `kist logs`; "none"
    log_opt: Mapping[str, int] = {}  # "max-size" of one file in bytes (20 MiB), "max-file": how many (5)
    health_cmd: tuple[str, ...] = ()  # a command line; empty: no health check
    no_healthcheck: bool = False  # not even the image's
    health_interval_s: float | None = None
    health_timeout_s: float | None = None
    health_start_period_s: float | None = None  # until then failures do not count
    health_start_interval_s: float | None = None  # within the start period
    health_retries: int | None = None  # so many failures in a row make it unhealthy
    pull: str = "missing"  # "always", "missing", "never"
    platform: str = ""  # of the image, linux/arm/v7; "": what there is, or this machine's
    quiet: bool = False  # while the image is pulled

    # the process
    entrypoint: tuple[str, ...] | None = None  # (): none, not even the image's
    env: tuple[str, ...] = ()  # "KEY=VALUE", keys unique, with those of --env-file; a bare "KEY" removes the image's
    workdir: str = ""
    user: str = ""  # as given: name, uid, name:group, uid:gid; resolved inside the root file system
    group_add: tuple[str, ...] = ()
    umask: int | None = None
    init: bool = False
    stop_signal: int | None = None
    stop_timeout_s: int | None = None  # UNLIMITED: wait for ever before SIGKILL
    timeout_s: float | None = None
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int | None = None

    # the terminal
    interactive: bool = False
    tty: bool = False
    attach: tuple[str, ...] = ()  # of "stdin", "stdout", "stderr"; empty: stdout and stderr, stdin if interactive
    sig_proxy: bool = True
    detach_keys: bytes = b"\x10\x11"  # ctrl-p ctrl-q

    # files
    volumes: tuple[MountRequest, ...] = ()
    mounts: tuple[MountRequest, ...] = ()
    tmpfs: tuple[MountRequest, ...] = ()
    image_volumes: tuple[str, ...] = ()  # the image's own: directories that stay writable when the rest is read-only
    volumes_from: tuple[tuple[str, bool], ...] = ()  # (container, read-only): with the same volumes as this one
    secrets: tuple[SecretRequest, ...] = ()
    read_only: bool = False
    shm_size_bytes: int | None = None
    storage_opt_size_bytes: int | None = None  # of what the container writes over its image
    devices: tuple[DeviceRequest, ...] = ()
    device_cgroup_rule: tuple[DeviceRule, ...] = ()

    # limits
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None  # memory and swap together; UNLIMITED
    memory_reservation_bytes: int | None = None
    memory_swappiness: int | None = None  # 0 to 100
    oom_kill_disable: bool = False
    cpus: float | None = None
    cpu_shares: int | None = None  # 2 to 262144
    cpu_period_us: int | None = None
    cpu_quota_us: int | None = None  # UNLIMITED
    cpuset_cpus: tuple[int, ...] = ()  # ascending
    cpuset_mems: tuple[int, ...] = ()
    pids_limit: int | None = None  # UNLIMITED
    blkio_weight: int | None = None  # 10 to 1000
    blkio_weight_device: tuple[DeviceRate, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()
    cgroup_parent: str = ""

    # privileges
    cap_add: tuple[str, ...] = ()  # "CAP_CHOWN" or "ALL"
    cap_drop: tuple[str, ...] = ()
    security_opt: SecurityOpt = SecurityOpt()
    privileged: bool = False
    sysctls: Mapping[str, str] = {}  # keys with dots, no slash and no empty part: "net.ipv4.ip_forward"

    # namespaces; "" is kist's default
    userns: str = ""  # "", "private", "host"
    pid: str = ""  # "", "private", "host", "container:NAME", "ns:PATH"
    ipc: str = ""  # "", "none" (no /dev/shm), "private", "shareable", "host"
    uts: str = ""  # "", "private", "host"
    cgroupns: str = ""  # "", "private", "host"
    time_offset: TimeOffset | None = None

    # the network
    network: str = "none"  # "none", "host", "container:NAME", "ns:PATH", or the name of a network
    more_networks: tuple[str, ...] = ()  # that it is in besides
    ip: bytes = b""  # packed
    ip6: bytes = b""
    mac_address: bytes = b""
    network_alias: tuple[str, ...] = ()
    net_rate: NetRate = NetRate()
    publish: tuple[Publish, ...] = ()
    publish_all: bool = False  # what `expose` names, at ports of the host's that are free
    expose: tuple[Publish, ...] = ()
    allow_net: tuple[AllowRule, ...] = ()  # not empty: no cable; a relay lets through what a rule has
    hostname: str = ""
    domainname: str = ""
    add_host: tuple[tuple[str, str], ...] = ()  # (host name, address)
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()

    @property
    def in_networks(self) -> tuple[str, ...]:
        """Names of networks with cables; (): none, the host's, or another container's namespace."""
        alone = self.network in ("none", "host") or self.network.startswith(("container:", "ns:")) or self.pasta
        return () if alone else (self.network, *self.more_networks)

    @property
    def pasta(self) -> bool:
        """The program pasta is its way out; what follows on the word are options of its."""
        return self.network == "pasta" or self.network.startswith("pasta:")

    @property
    def needs_cable(self) -> bool:
        """It asks for what only a network with a cable has."""
        return bool(self.publish or self.publish_all or self.net_rate.into or self.net_rate.out)

    # kist's own
    allow_unenforced: bool = False  # run although a protection that was asked for can't be enforced, and say so
    without: tuple[str, ...] = ()  # keys of PROTECTIONS
