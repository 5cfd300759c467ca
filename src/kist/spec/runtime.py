# ruff: noqa: F405
"""config.json of the OCI runtime specification 1.3, for Linux, as frozen values.

Class names are those of the specification's Go bindings without the prefix Linux; field names are the properties in
snake case. A property that may be missing has a default; None means "not given" where that differs from any value.
`kist run` builds these without JSON, and kist.codec reads and checks JSON by the annotations.
The classes that few configs have are in rare_runtime.py, which is read when one is asked for here.
Source: opencontainers/runtime-spec config.md, config-linux.md; the section is named where it says more than the type.
"""

from __future__ import annotations

from kist.codec import I64, U32, U64
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from kist.spec.rare_runtime import *  # noqa: F403  # for type checkers: see __getattr__

# Strings of which only some are right; kist.codec checks them.
NamespaceType = str
DeviceType = str
RlimitType = str
RootfsPropagation = str
# The order in which kist lists them. Source: namespaces(7).
NAMESPACE_ORDER = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time")
CHOICES = {
    "NamespaceType": (
        "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time",
    ),
    "DeviceType": (
        "c", "b", "u", "p",
    ),
    "RlimitType": (
        "RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_LOCKS", "RLIMIT_MEMLOCK",
        "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_RSS", "RLIMIT_RTPRIO",
        "RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_STACK",
    ),
    "RootfsPropagation": (
        "", "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable",
    ),
}  # fmt: skip
# The specification lists the four plain propagations; runc, crun and their callers use the recursive ones too.


class Camel(Value):
    case: ClassVar[str] = "camel"


class IdMapping(Camel):
    """Ids `container_id`.. inside are `host_id`.. outside, `size` of them. Source: user_namespaces(7)."""

    json_names: ClassVar[dict[str, str]] = {"container_id": "containerID", "host_id": "hostID"}
    container_id: U32
    host_id: U32
    size: U32


class Root(Camel):
    """`path` is absolute or relative to the bundle."""

    path: str
    readonly: bool = False


class Mount(Camel):
    """`options` are strings as in mount(8): see spec.mount_options. A relative `destination` starts at /."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class User(Camel):
    """Ids inside the container. `umask` None: the caller's stays."""

    always: ClassVar[tuple[str, ...]] = ("uid", "gid")
    uid: U32 = 0
    gid: U32 = 0
    umask: U32 | None = None
    additional_gids: tuple[U32, ...] = ()


class Capabilities(Camel):
    """Names like "CAP_CHOWN". Those that the kernel doesn't know are for a warning, not an error."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(Camel):
    """2**64-1 is RLIM_INFINITY. Units as in getrlimit(2). Go: POSIXRlimit."""

    type: RlimitType
    hard: U64
    soft: U64


class Process(Camel):
    """`apparmor_profile` and `selinux_label` "" mean none asked for; `oom_score_adj` None: leave it as it is."""

    json_names: ClassVar[dict[str, str]] = {"exec_cpu_affinity": "execCPUAffinity"}
    always: ClassVar[tuple[str, ...]] = ("user",)
    args: tuple[str, ...]
    cwd: str
    user: User = User()
    env: tuple[str, ...] = ()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    oom_score_adj: I64 | None = None
    selinux_label: str = ""
    scheduler: Scheduler | None = None
    io_priority: IoPriority | None = None
    exec_cpu_affinity: CpuAffinity | None = None


class Namespace(Camel):
    """With a `path`, join that one; without, make a new one."""

    type: NamespaceType
    path: str = ""


class Device(Camel):
    """A device node to supply. `major` and `minor` are None only for a FIFO ("p").

    `file_mode` may carry file type bits: Docker writes 8630 for a character device with mode 0666.
    """

    path: str
    type: DeviceType
    major: U32 | None = None
    minor: U32 | None = None
    file_mode: U32 | None = None
    uid: U32 | None = None
    gid: U32 | None = None


class DeviceCgroup(Camel):
    """A rule of the device controller; rules apply in order. `major` and `minor`: None or -1 is any."""

    allow: bool
    type: str = "a"  # "a" or "": all, "c", "b"
    major: I64 | None = None
    minor: I64 | None = None
    access: str = ""  # letters of "rwm"


class Memory(Camel):
    """Bytes; -1 is unlimited."""

    json_names: ClassVar[dict[str, str]] = {"kernel_tcp": "kernelTCP", "disable_oom_killer": "disableOOMKiller"}
    limit: I64 | None = None
    reservation: I64 | None = None
    swap: I64 | None = None  # memory and swap together
    kernel: I64 | None = None
    kernel_tcp: I64 | None = None
    swappiness: U64 | None = None  # 0 to 100
    disable_oom_killer: bool = False
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(Camel):
    """Times in microseconds; `cpus` and `mems` are lists like "0-3,7"."""

    shares: U64 | None = None
    quota: I64 | None = None
    burst: U64 | None = None
    period: U64 | None = None
    realtime_runtime: I64 | None = None
    realtime_period: U64 | None = None
    cpus: str = ""
    mems: str = ""
    idle: I64 | None = None  # 1: SCHED_IDLE


class Pids(Camel):
    """-1 is unlimited."""

    limit: I64 | None = None


class Resources(Camel):
    """Limits of the container's cgroup. `rdma` by device name; `unified` by cgroup v2 file name."""

    json_names: ClassVar[dict[str, str]] = {"block_io": "blockIO"}
    devices: tuple[DeviceCgroup, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: dict[str, Rdma] = {}
    unified: dict[str, str] = {}


class SeccompArg(Camel):
    """Argument `index` (0 to 5) compared with `value`; SCMP_CMP_MASKED_EQ: masked with `value`, equals `value_two`."""

    index: U32
    value: U64
    op: str  # SCMP_CMP_EQ and so on
    value_two: U64 = 0


class Syscall(Camel):
    """A rule: `action` for these system calls when all `args` hold."""

    names: tuple[str, ...]
    action: str  # SCMP_ACT_ERRNO and so on
    errno_ret: U32 | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(Camel):
    """`listener_path` is a unix socket that gets the notification descriptor."""

    default_action: str
    default_errno_ret: U32 | None = None
    architectures: tuple[str, ...] = ()  # besides the native one: SCMP_ARCH_X86 and so on
    flags: tuple[str, ...] | None = None  # None: the runtime chooses
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()


class Linux(Camel):
    """`net_devices` by name on the host, `time_offsets` by clock: "monotonic", "boottime"."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    time_offsets: dict[str, TimeOffset] = {}
    devices: tuple[Device, ...] = ()
    net_devices: dict[str, NetDevice] = {}
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: RootfsPropagation = ""
    seccomp: Seccomp | None = None
    sysctl: dict[str, str] = {}
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    personality: Personality | None = None


class Spec(Camel):
    """A whole config.json. `process` may be missing until the container is started."""

    oci_version: str
    root: Root
    process: Process | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] = {}
    linux: Linux = Linux()


def __getattr__(name: str) -> object:
    """The classes that few configs have."""
    if name[:1].isupper():
        from kist.spec import rare_runtime

        if hasattr(rare_runtime, name):
            return getattr(rare_runtime, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
