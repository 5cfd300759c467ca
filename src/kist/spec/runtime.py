"""config.json of the OCI runtime specification 1.3, for Linux, as frozen values.

Class names are those of the specification's Go bindings without the prefix Linux; field names are the properties in
snake case. A property that may be missing has a default; None means "not given" where that differs from any value.
`kist run` builds these without JSON, and kist.codec reads and checks JSON by the annotations.
Source: opencontainers/runtime-spec config.md, config-linux.md; the section is named where it says more than the type.
"""

from __future__ import annotations

from kist.codec import I32, I64, U16, U32, U64
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

# Strings of which only some are right; kist.codec checks them.
NamespaceType = str
DeviceType = str
RlimitType = str
SchedulerPolicy = str
SchedulerFlag = str
IoPriorityClass = str
PersonalityDomain = str
MemoryPolicyMode = str
MemoryPolicyFlag = str
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
    "SchedulerPolicy": (
        "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE",
    ),
    "SchedulerFlag": (
        "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
    ),
    "IoPriorityClass": (
        "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE",
    ),
    "PersonalityDomain": (
        "LINUX", "LINUX32",
    ),
    "MemoryPolicyMode": (
        "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED",
        "MPOL_PREFERRED_MANY", "MPOL_LOCAL",
    ),
    "MemoryPolicyFlag": (
        "MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES",
    ),
    "RootfsPropagation": (
        "", "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable",
    ),
}  # fmt: skip
# The specification lists the four plain propagations; runc, crun and their callers use the recursive ones too.


class _Value(Value):
    case: ClassVar[str] = "camel"


class IdMapping(_Value):
    """Ids `container_id`.. inside are `host_id`.. outside, `size` of them. Source: user_namespaces(7)."""

    json_names: ClassVar[dict[str, str]] = {"container_id": "containerID", "host_id": "hostID"}
    container_id: U32
    host_id: U32
    size: U32


class Root(_Value):
    """`path` is absolute or relative to the bundle."""

    path: str
    readonly: bool = False


class Mount(_Value):
    """`options` are strings as in mount(8): see spec.mount_options. A relative `destination` starts at /."""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


class ConsoleSize(_Value):
    """In characters; counts only with a terminal. Go: Box. The kernel's winsize holds 16 bits of each."""

    height: U64
    width: U64


class User(_Value):
    """Ids inside the container. `umask` None: the caller's stays."""

    always: ClassVar[tuple[str, ...]] = ("uid", "gid")
    uid: U32 = 0
    gid: U32 = 0
    umask: U32 | None = None
    additional_gids: tuple[U32, ...] = ()


class Capabilities(_Value):
    """Names like "CAP_CHOWN". Those that the kernel doesn't know are for a warning, not an error."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(_Value):
    """2**64-1 is RLIM_INFINITY. Units as in getrlimit(2). Go: POSIXRlimit."""

    type: RlimitType
    hard: U64
    soft: U64


class Scheduler(_Value):
    """sched_setattr(2); `runtime`, `deadline` and `period` in nanoseconds, for SCHED_DEADLINE."""

    policy: SchedulerPolicy
    nice: I32 = 0
    priority: I32 = 0
    flags: tuple[SchedulerFlag, ...] = ()
    runtime: U64 | None = None
    deadline: U64 | None = None
    period: U64 | None = None


class IoPriority(_Value):
    """ioprio_set(2); `priority` 0 is the highest."""

    json_names: ClassVar[dict[str, str]] = {"class_": "class"}
    class_: IoPriorityClass
    priority: I64 = 0


class CpuAffinity(_Value):
    """For exec only: CPU lists like "0-3,7", before and after the process enters the container's cgroup."""

    initial: str = ""
    final: str = ""


class Process(_Value):
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


class Hook(_Value):
    """A program of the host (start_container: of the container). `args` begins with argv[0]; `timeout` in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: U32 | None = None


class Hooks(_Value):
    """Run in the listed order; `prestart` is the old name of `create_runtime` and runs before it."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Namespace(_Value):
    """With a `path`, join that one; without, make a new one."""

    type: NamespaceType
    path: str = ""


class TimeOffset(_Value):
    """What the container's clock is ahead of the host's. Source: time_namespaces(7)."""

    secs: I64 = 0
    nanosecs: I64 = 0


class Device(_Value):
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


class NetDevice(_Value):
    """A network device of the host to move in; `name` is its new name, "" keeps the old one."""

    name: str = ""


class DeviceCgroup(_Value):
    """A rule of the device controller; rules apply in order. `major` and `minor`: None or -1 is any."""

    allow: bool
    type: str = "a"  # "a" or "": all, "c", "b"
    major: I64 | None = None
    minor: I64 | None = None
    access: str = ""  # letters of "rwm"


class Memory(_Value):
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


class Cpu(_Value):
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


class Pids(_Value):
    """-1 is unlimited."""

    limit: I64 | None = None


class WeightDevice(_Value):
    """A share of a block device, 10 to 1000."""

    major: I64
    minor: I64
    weight: U16 | None = None
    leaf_weight: U16 | None = None


class ThrottleDevice(_Value):
    """Bytes or operations per second on a block device."""

    major: I64
    minor: I64
    rate: U64 = 0


class BlockIO(_Value):
    json_names: ClassVar[dict[str, str]] = {
        "throttle_read_iops_device": "throttleReadIOPSDevice",
        "throttle_write_iops_device": "throttleWriteIOPSDevice",
    }
    weight: U16 | None = None
    leaf_weight: U16 | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


class HugepageLimit(_Value):
    """`page_size` like "2MB"; `limit` in bytes."""

    page_size: str
    limit: U64


class InterfacePriority(_Value):
    name: str
    priority: U32


class Network(_Value):
    """The net_cls and net_prio controllers, cgroup v1."""

    json_names: ClassVar[dict[str, str]] = {"class_id": "classID"}
    class_id: U32 | None = None
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(_Value):
    hca_handles: U32 | None = None
    hca_objects: U32 | None = None


class Resources(_Value):
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


class SeccompArg(_Value):
    """Argument `index` (0 to 5) compared with `value`; SCMP_CMP_MASKED_EQ: masked with `value`, equals `value_two`."""

    index: U32
    value: U64
    op: str  # SCMP_CMP_EQ and so on
    value_two: U64 = 0


class Syscall(_Value):
    """A rule: `action` for these system calls when all `args` hold."""

    names: tuple[str, ...]
    action: str  # SCMP_ACT_ERRNO and so on
    errno_ret: U32 | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(_Value):
    """`listener_path` is a unix socket that gets the notification descriptor."""

    default_action: str
    default_errno_ret: U32 | None = None
    architectures: tuple[str, ...] = ()  # besides the native one: SCMP_ARCH_X86 and so on
    flags: tuple[str, ...] | None = None  # None: the runtime chooses
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()


class IntelRdt(_Value):
    """resctrl: `clos_id` names the group, the schemata are lines for its schemata file."""

    json_names: ClassVar[dict[str, str]] = {"clos_id": "closID"}
    clos_id: str = ""
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_monitoring: bool = False


class MemoryPolicy(_Value):
    """set_mempolicy(2); `nodes` is a list like "0-3,7"."""

    mode: MemoryPolicyMode
    nodes: str = ""
    flags: tuple[MemoryPolicyFlag, ...] = ()


class Personality(_Value):
    """personality(2). No flags are defined yet."""

    domain: PersonalityDomain
    flags: tuple[str, ...] = ()


class Linux(_Value):
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


class Spec(_Value):
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
