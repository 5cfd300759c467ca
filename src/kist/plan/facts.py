"""What this host and this user can do, as data. `kernel.probe` fills it, the plan compiler decides by it.

Pure: no I/O here. What follows from the kernel version alone is a property, so that it can't contradict it.
"""

from __future__ import annotations

from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


# The index is the number (linux/capability.h). A kernel may know fewer or more: see HostFacts.cap_last.
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)


class IdRange(Value):
    """`size` consecutive ids from `start`. Source: subuid(5)."""

    start: int
    size: int


# The v2 cgroup below `base` that kist moves itself to when base is its own: one that gives limits to children is empty.
CGROUP_LEAF = "kist-supervisor"


UNIFIED = "unified"  # the v2 hierarchy, as one more beside those of v1, without controllers: systemd's hybrid layout


class CgroupV1(Value):
    """One v1 hierarchy, as seen by one of its controllers."""

    mount: str  # absolute mount point
    path: str  # own cgroup below the mount, "/..."; "/" also when the own cgroup lies outside of what the mount shows
    writable: bool  # this user can make containers' cgroups: below `path`, root of the host at the top of the mount


class CgroupV2(Value):
    """The v2 tree. `base` is the directory in which containers' cgroups would be made: the root of the tree when it is
    the kernel's own root and writable, else the own cgroup (its parent when that is CGROUP_LEAF). Source: kernel
    cgroup-v2.rst."""

    mount: str  # absolute mount point
    path: str  # own cgroup below the mount, "/..."
    base: str  # below the mount, "/..."
    base_is_root: bool  # the top of the tree, where the "no internal processes" rule does not hold or is met
    available: frozenset[str]  # base/cgroup.controllers
    enabled: frozenset[str]  # base/cgroup.subtree_control
    delegated: bool  # this user can make children of base, enable controllers for them and move its processes there
    other_processes: bool  # base holds processes besides us, so controllers can't be enabled; False when base_is_root
    type: str = ""  # base/cgroup.type: "domain", "threaded", ...; "" for the root, which has none


class CgroupFacts(Value):
    """`version` 0: nothing mounted; 1: controllers are on v1, whether or not a v2 tree is beside them; 2: on v2."""

    version: int
    v1: Mapping[str, CgroupV1] = {}  # by controller: "memory", "cpu", ...; named hierarchies as "name=systemd"
    v2: CgroupV2 | None = None  # None unless version is 2
    systemd: bool = False  # systemd is the init of this host (sd_booted(3))
    swap_accounting: bool = False  # v1 memory.memsw.*, v2 memory.swap.max
    # The file whose weights some disk heeds: v1 "blkio.bfq.weight" (or, once, "blkio.weight"), v2 "io.bfq.weight" or
    # "io.weight" (io.cost); "" if none. The files may be there without effect.
    io_weight: str = ""
    # cpuset.effective_cpus (v2: cpuset.cpus.effective) and mems where containers' cgroups are made; "" if not there.
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    realtime: bool = False  # v1 cpu.rt_runtime_us


# File systems that may be id-mapped, and since when.
_ID_MAPPABLE = {
    "ext4": (5, 12), "vfat": (5, 12), "xfs": (5, 12), "btrfs": (5, 15), "f2fs": (5, 18), "erofs": (5, 19),
    "squashfs": (6, 2), "tmpfs": (6, 3), "bcachefs": (6, 10), "fuse": (6, 12),
}  # fmt: skip


class HostFacts(Value):
    """What the compiler may rely on. Says nothing of run directories or of what stdio is."""

    kernel: tuple[int, int]
    arch: str  # uname -m: "x86_64", "aarch64"
    uid: int  # effective
    gid: int
    groups: tuple[int, ...]
    user_name: str  # "" when nobody knows it
    capabilities: frozenset[str]  # effective, "CAP_CHOWN"; bits without a name here are "CAP_41" and so on
    cap_last: int  # the highest capability number of this kernel
    no_new_privs: bool  # inherited: then no setuid program works, newuidmap neither
    user_namespaces: bool  # this user can make one and gets capabilities in it
    user_namespaces_reason: str  # why not; "" if it can
    in_user_namespace: bool
    subuids: tuple[IdRange, ...]  # of this user, in the file's order
    subgids: tuple[IdRange, ...]
    newuidmap: str  # absolute path of a usable one, or ""
    newgidmap: str
    time_namespace: bool
    seccomp: bool  # SECCOMP_MODE_FILTER
    lsm: tuple[str, ...]  # the active ones of "apparmor", "selinux"
    cgroup: CgroupFacts
    rlimits: Mapping[str, tuple[int, int]]  # "RLIMIT_NOFILE" -> (soft, hard); -1 is RLIM_INFINITY
    nofile_max: int  # what RLIMIT_NOFILE may be raised to by who may raise limits: fs.nr_open
    memory_total_bytes: int
    cpus: int  # online
    ipv6: bool = True  # the kernel has it

    @property
    def ordinary(self) -> bool:
        """The user may plug no cable into a bridge of the host."""
        return "CAP_NET_ADMIN" not in self.capabilities or self.in_user_namespace

    @property
    def overlay_in_userns(self) -> bool:
        """overlayfs may be mounted in a user namespace (with userxattr)."""
        return self.kernel >= (5, 11)

    @property
    def tmpfs_user_xattr(self) -> bool:
        """tmpfs keeps user.* attributes, so an overlay upper directory with userxattr may lie on it."""
        return self.kernel >= (6, 6)

    @property
    def mount_setattr(self) -> bool:
        """mount_setattr(2): recursive read-only, id-mapped mounts."""
        return self.kernel >= (5, 12)

    def overlay_id_mapped(self, filesystem: str) -> bool:
        """The layers of an overlay may be id-mapped mounts of this file system type. Source: fs.h, FS_ALLOW_IDMAP."""
        since = _ID_MAPPABLE.get(filesystem)
        return since is not None and self.kernel >= max(since, (5, 19))

    @property
    def pidfd(self) -> bool:
        """pidfd_open(2) and waitid(P_PIDFD)."""
        return self.kernel >= (5, 4)

    @property
    def clone_into_cgroup(self) -> bool:
        """clone3(2) with CLONE_INTO_CGROUP; v2 only."""
        return self.kernel >= (5, 7) and self.cgroup.version == 2

    @property
    def exec_switches_timens(self) -> bool:
        """execve(2) enters the time namespace made by unshare(CLONE_NEWTIME); before, only children did."""
        return self.kernel >= (6, 3)
