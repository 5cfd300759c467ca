"""config.json of the OCI runtime specification 1.3, for Linux, as values. Field names are the specification's in snake case."""

from collections.abc import Mapping

import msgspec


class _Struct(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    pass


class DeviceCgroup(_Struct, frozen=True):
    allow: bool
    type: str = ""  # "a", "b", "c"
    major: int | None = None
    minor: int | None = None
    access: str = ""


class Memory(_Struct, frozen=True):
    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None  # memory and swap together
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(name="kernelTCP", default=None)
    swappiness: int | None = None
    disable_oom_killer: bool = msgspec.field(name="disableOOMKiller", default=False)
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(_Struct, frozen=True):
    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class Pids(_Struct, frozen=True):
    limit: int | None = None


class WeightDevice(_Struct, frozen=True):
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(_Struct, frozen=True):
    major: int
    minor: int
    rate: int = 0


class BlockIO(_Struct, frozen=True):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(name="throttleReadIOPSDevice", default=())
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(name="throttleWriteIOPSDevice", default=())


class HugepageLimit(_Struct, frozen=True):
    page_size: str
    limit: int


class InterfacePriority(_Struct, frozen=True):
    name: str
    priority: int


class Network(_Struct, frozen=True):
    class_id: int | None = msgspec.field(name="classID", default=None)
    priorities: tuple[InterfacePriority, ...] = ()


class Rdma(_Struct, frozen=True):
    hca_handles: int | None = None
    hca_objects: int | None = None


class Resources(_Struct, frozen=True):
    devices: tuple[DeviceCgroup, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = msgspec.field(name="blockIO", default=None)
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network | None = None
    rdma: Mapping[str, Rdma] = {}
    unified: Mapping[str, str] = {}


class SeccompArg(_Struct, frozen=True):
    index: int
    value: int
    op: str
    value_two: int = 0


class Syscall(_Struct, frozen=True):
    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(_Struct, frozen=True):
    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[Syscall, ...] = ()
