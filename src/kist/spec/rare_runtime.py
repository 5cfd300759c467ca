"""The classes of config.json that few configs have.

Import them from kist.spec.runtime, which reads this when it has to: a class takes 30 us to make.
"""

from __future__ import annotations

from kist.codec import I32, I64, U16, U32, U64
from kist.spec.runtime import Camel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

# Strings of which only some are right.
SchedulerPolicy = str
SchedulerFlag = str
IoPriorityClass = str
PersonalityDomain = str
MemoryPolicyMode = str
MemoryPolicyFlag = str
CHOICES = {
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
}  # fmt: skip


class ConsoleSize(Camel):
    """In characters; counts only with a terminal. Go: Box. The kernel's winsize holds 16 bits of each."""

    height: U64
    width: U64


class Scheduler(Camel):
    """sched_setattr(2); `runtime`, `deadline` and `period` in nanoseconds, for SCHED_DEADLINE."""

    policy: SchedulerPolicy
    nice: I32 = 0
    priority: I32 = 0
    flags: tuple[SchedulerFlag, ...] = ()
    runtime: U64 | None = None
    deadline: U64 | None = None
    period: U64 | None = None


class IoPriority(Camel):
    """ioprio_set(2); `priority` 0 is the highest."""

    json_names: ClassVar[dict[str, str]] = {"class_": "class"}
    class_: IoPriorityClass
    priority: I64 = 0


class CpuAffinity(Camel):
    """For exec only: CPU lists like "0-3,7", before and after the process enters the container's cgroup."""

    initial: str = ""
    final: str = ""


class Hook(Camel):
    """A program of the host (start_container: of the container). `args` begins with argv[0]; `timeout` in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: U32 | None = None


class Hooks(Camel):
    """Run in the listed order; `prestart` is the old name of `create_runtime` and runs before it."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class TimeOffset(Camel):
    """What the container's clock is ahead of the host's. Source: time_namespaces(7)."""

    secs: I64 = 0
    nanosecs: I64 = 0


class NetDevice(Camel):
    """A network device of the host to move in; `name` is its new name, "" keeps the old one."""

    name: str = ""


class WeightDevice(Camel):
    """A share of a block device, 10 to 1000."""

    major: I64
    minor: I64
    weight: U16 | None = None
    leaf_weight: U16 | None = None


class ThrottleDevice(Camel):
    """Bytes or operations per second on a block device."""

    major: I64
    minor: I64
    rate: U64 = 0


class BlockIO(Camel):
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


class HugepageLimit(Camel):
    """`page_size` like "2MB"; `limit` in bytes."""

    page_size: str
    limit: U64


class InterfacePriority(Camel):
    name: str
    priority: U32


class Network(Camel):
    """The net_cls and net_prio controllers, cgroup v1."""

    json_names: ClassVar[dict[str, str]] = {"class_id": "classID"}
    class_id: U32 | None = None
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(Camel):
    hca_handles: U32 | None = None
    hca_objects: U32 | None = None


class IntelRdt(Camel):
    """resctrl: `clos_id` names the group, the schemata are lines for its schemata file."""

    json_names: ClassVar[dict[str, str]] = {"clos_id": "closID"}
    clos_id: str = ""
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_monitoring: bool = False


class MemoryPolicy(Camel):
    """set_mempolicy(2); `nodes` is a list like "0-3,7"."""

    mode: MemoryPolicyMode
    nodes: str = ""
    flags: tuple[MemoryPolicyFlag, ...] = ()


class Personality(Camel):
    """personality(2). No flags are defined yet."""

    domain: PersonalityDomain
    flags: tuple[str, ...] = ()
