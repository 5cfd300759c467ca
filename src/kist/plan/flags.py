"""Kernel flag numbers that plans use, and the words people know them by. Source: linux/sched.h, linux/mount.h."""

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# Name in /proc/PID/ns -> (clone flag, option of unshare(1) and nsenter(1)).
NAMESPACES = {
    "user": (CLONE_NEWUSER, "--user"),
    "mnt": (CLONE_NEWNS, "--mount"),
    "pid": (CLONE_NEWPID, "--pid"),
    "net": (CLONE_NEWNET, "--net"),
    "ipc": (CLONE_NEWIPC, "--ipc"),
    "uts": (CLONE_NEWUTS, "--uts"),
    "cgroup": (CLONE_NEWCGROUP, "--cgroup"),
    "time": (CLONE_NEWTIME, "--time"),
}

# mount(2) flags; propagation and remount flags only where a plan needs them.
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

# mount_setattr(2) flags: the low four bits are mount(2)'s.
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

_SET = {
    MS_RDONLY: "ro",
    MS_NOSUID: "nosuid",
    MS_NODEV: "nodev",
    MS_NOEXEC: "noexec",
    MOUNT_ATTR_NOATIME: "noatime",
    MOUNT_ATTR_STRICTATIME: "strictatime",
    MOUNT_ATTR_NODIRATIME: "nodiratime",
    MOUNT_ATTR_NOSYMFOLLOW: "nosymfollow",
}
_CLEAR = {MS_RDONLY: "rw", MS_NOSUID: "suid", MS_NODEV: "dev", MS_NOEXEC: "exec"}
_PROPAGATION = {MS_UNBINDABLE: "unbindable", MS_PRIVATE: "private", MS_SLAVE: "slave", MS_SHARED: "shared"}


def unshare_options(flags: int) -> str:
    """`--mount --pid ...`, as unshare(1) and nsenter(1) take them."""
    return " ".join(option for flag, option in NAMESPACES.values() if flags & flag)


def clone_words(flags: int) -> str:
    return " ".join(name for name, (flag, _) in NAMESPACES.items() if flags & flag)


def mount_words(flags: int, clear: int = 0) -> str:
    """mount(8)'s words for flags: `ro,nosuid`, or `--make-rprivate` for a propagation."""
    for flag, word in _PROPAGATION.items():
        if flags & flag:
            return f"--make-{'r' if flags & MS_REC else ''}{word}"
    words = [word for flag, word in _SET.items() if flags & flag]
    return ",".join(words + [word for flag, word in _CLEAR.items() if clear & flag and not flags & flag])
