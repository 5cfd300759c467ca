"""The step table: every kernel step that kist can take, one class each.

The launcher executes a step; `shell()` says the same as a command a person could type. `tools/gen_steps.py` writes
launcher/steps.h from this table, so a field added here is known to the C side or the build fails. Field types are
int (unsigned 64 bit), str (no NUL), bytes, tuple[str, ...] and Slot.
"""

import shlex
from enum import IntEnum
from typing import ClassVar

import msgspec

from kist.plan.facts import CAPABILITIES
from kist.plan.flags import clone_words, mount_words, unshare_options


class Actor(IntEnum):
    """Who takes the step: the supervisor on the host, or the container's first process before it becomes the command."""

    HOST = 0
    INIT = 1


class Slot(IntEnum):
    """Values known only at run time: file descriptors that a step makes and a later one uses."""

    NONE = 0
    ROOT = 1  # the new root directory
    PROC = 2  # our own procfs, attached nowhere
    NULL = 3  # a verified /dev/null, 1:3
    CGROUP = 4  # the v2 cgroup that clone3 puts the child into
    DEVPTS = 5  # the container's devpts
    IN_READ = 6
    IN_WRITE = 7
    OUT_READ = 8
    OUT_WRITE = 9
    ERR_READ = 10
    ERR_WRITE = 11
    PTY = 12  # the terminal's master side
    TARGET = 13  # a pidfd of a container that is joined
    STDIN = 14  # the caller's own fd 0, 1, 2
    STDOUT = 15
    STDERR = 16


class Exact(IntEnum):
    """How faithful the shell form is."""

    YES = 0
    ROUGHLY = 1  # same purpose, different means
    NO = 2  # no shell command does this


class Group(IntEnum):
    """The chapters of `kist explain`, in the order in which they are told."""

    NAMESPACES = 0
    CGROUP = 1
    ROOTFS = 2
    DEVICES = 3
    NETWORK = 4
    PRIVILEGES = 5
    EXEC = 6


def _q(word: str) -> str:
    return shlex.quote(word)


def _inside(path: str) -> str:
    """A path inside the container, as seen from before pivot_root."""
    return f'"$root"{_q(path)}' if path != "/" else '"$root"'


class Step(msgspec.Struct, frozen=True, tag=True):
    """Base of all steps. `op` numbers are never reused."""

    op: ClassVar[int] = 0
    man: ClassVar[str] = ""
    exact: ClassVar[Exact] = Exact.YES

    def shell(self) -> str:
        """The command(s) that do the same, one per line; empty when there is none."""
        return ""


class Mkdir(Step):
    """Make a directory on the host; removed again at the end unless `keep`, which also accepts one that exists."""

    op: ClassVar[int] = 1
    man: ClassVar[str] = "mkdir(2)"
    path: str
    mode: int = 0o755
    keep: int = 0

    def shell(self) -> str:
        return f"mkdir {'-p ' if self.keep else ''}-m {self.mode:o} {_q(self.path)}"


class CgroupMake(Step):
    """Make a cgroup: a directory in the cgroup file system. At the end all inside are killed and it is removed."""

    op: ClassVar[int] = 2
    man: ClassVar[str] = "cgroups(7)"
    path: str

    def shell(self) -> str:
        return f"mkdir {_q(self.path)}"


class WriteFile(Step):
    """Write a value into a kernel file. `$init_pid` in the path is the container's first process."""

    op: ClassVar[int] = 3
    man: ClassVar[str] = "write(2)"
    path: str
    data: str

    def shell(self) -> str:
        path = _q(self.path).replace("$init_pid", "'$init_pid'") if "$init_pid" in self.path else _q(self.path)
        return f"printf '%s\\n' {_q(self.data)} > {path}"


class CgroupJoin(Step):
    """Move the calling process into a cgroup; its children will be born there."""

    op: ClassVar[int] = 4
    man: ClassVar[str] = "cgroups(7)"
    path: str

    def shell(self) -> str:
        return f"echo 0 > {_q(self.path + '/cgroup.procs')}"


class CgroupDevices(Step):
    """Attach a BPF program to a v2 cgroup that decides which devices may be opened or made (v1 has devices.allow)."""

    op: ClassVar[int] = 5
    man: ClassVar[str] = "bpf(2)"
    exact: ClassVar[Exact] = Exact.NO
    path: str
    program: bytes


class OpenDir(Step):
    """Open a host directory and keep it under a name for later steps."""

    op: ClassVar[int] = 6
    man: ClassVar[str] = "open(2)"
    path: str
    slot: Slot

    def shell(self) -> str:
        return f"{self.slot.name.lower()}={_q(self.path)}"


class Clone(Step):
    """Start the container's first process in new namespaces (and, on cgroup v2, inside its cgroup)."""

    op: ClassVar[int] = 7
    man: ClassVar[str] = "clone3(2)"
    flags: int
    cgroup: Slot = Slot.NONE

    def shell(self) -> str:
        join = 'echo $$ > "$cgroup"/cgroup.procs\n' if self.cgroup else ""
        return f"{join}unshare {unshare_options(self.flags)} --fork sh"

    def words(self) -> str:
        return clone_words(self.flags)


class IdMapHelper(Step):
    """Run newuidmap or newgidmap, the set-uid helpers that may map more than one id. `$init_pid` is replaced."""

    op: ClassVar[int] = 8
    man: ClassVar[str] = "newuidmap(1)"
    argv: tuple[str, ...]

    def shell(self) -> str:
        return " ".join('"$init_pid"' if a == "$init_pid" else _q(a) for a in self.argv)


class Signal(Step):
    """Tell the other side to go on."""

    op: ClassVar[int] = 9
    exact: ClassVar[Exact] = Exact.NO


class Await(Step):
    """Wait until the other side says go on."""

    op: ClassVar[int] = 10
    exact: ClassVar[Exact] = Exact.NO


class Pipe(Step):
    """A pipe between the supervisor and the command."""

    op: ClassVar[int] = 11
    man: ClassVar[str] = "pipe(7)"
    exact: ClassVar[Exact] = Exact.NO
    read: Slot
    write: Slot


class Relay(Step):
    """While supervising, copy what arrives at one fd to the other."""

    op: ClassVar[int] = 12
    exact: ClassVar[Exact] = Exact.NO
    source: Slot
    target: Slot


class Supervise(Step):
    """Wait for the command: forward signals, keep the deadline, reap. Zero milliseconds: no limit."""

    op: ClassVar[int] = 13
    man: ClassVar[str] = "waitid(2)"
    timeout_ms: int = 0
    freezer: str = ""  # the file that freezes the cgroup, for Ctrl-Z; "" when there is none

    def shell(self) -> str:
        return "wait" if not self.timeout_ms else f"# timeout -s KILL {self.timeout_ms / 1000:g} around it all"


class ReportFile(Step):
    """After the end, hand a kernel file's content (at most 4 KiB) to the caller: what the cgroup counted."""

    op: ClassVar[int] = 14
    label: str
    path: str

    def shell(self) -> str:
        return f"cat {_q(self.path)}"


class Unshare(Step):
    """Leave the namespaces given: what comes next no longer touches the host's."""

    op: ClassVar[int] = 15
    man: ClassVar[str] = "unshare(2)"
    flags: int

    def shell(self) -> str:
        return f"unshare {unshare_options(self.flags)}"


class Setns(Step):
    """Enter the namespaces of the process behind a pidfd."""

    op: ClassVar[int] = 16
    man: ClassVar[str] = "setns(2)"
    exact: ClassVar[Exact] = Exact.ROUGHLY
    target: Slot
    flags: int

    def shell(self) -> str:
        return f'nsenter --target "$target_pid" {unshare_options(self.flags)}'


class OpenPidfd(Step):
    """A stable handle of a running process."""

    op: ClassVar[int] = 17
    man: ClassVar[str] = "pidfd_open(2)"
    pid: int
    slot: Slot

    def shell(self) -> str:
        return f"target_pid={self.pid}"


class MountPropagation(Step):
    """Set how mount events travel between this mount namespace and the host's."""

    op: ClassVar[int] = 18
    man: ClassVar[str] = "mount_namespaces(7)"
    path: str
    flags: int

    def shell(self) -> str:
        return f"mount {mount_words(self.flags)} {_q(self.path)}"


class Mount(Step):
    """Mount at a path of the host, visible in this mount namespace only."""

    op: ClassVar[int] = 19
    man: ClassVar[str] = "mount(2)"
    fstype: str
    source: str
    target: str
    flags: int = 0
    data: str = ""

    def shell(self) -> str:
        options = ",".join(o for o in (mount_words(self.flags), self.data) if o)
        return (
            f"mount -t {self.fstype} {'-o ' + _q(options) + ' ' if options else ''}{_q(self.source)} {_q(self.target)}"
        )


class OpenRoot(Step):
    """This directory becomes the container's root. From here on, paths are resolved inside it and cannot leave."""

    op: ClassVar[int] = 20
    man: ClassVar[str] = "openat2(2)"
    path: str

    def shell(self) -> str:
        return f"root={_q(self.path)}"


class OpenProc(Step):
    """A fresh procfs that no path leads to, so that a fake /proc cannot misdirect later writes."""

    op: ClassVar[int] = 21
    man: ClassVar[str] = "fsmount(2)"
    exact: ClassVar[Exact] = Exact.NO


class MountAt(Step):
    """Mount a new file system inside the container's root. The mount point is made when missing."""

    op: ClassVar[int] = 22
    man: ClassVar[str] = "fsopen(2), move_mount(2)"
    fstype: str
    source: str
    target: str
    options: tuple[str, ...] = ()  # to the file system
    attributes: int = 0  # MOUNT_ATTR_*
    slot: Slot = Slot.NONE  # keeps the mount's root open

    def shell(self) -> str:
        words = [w for w in (mount_words(self.attributes), *self.options) if w]
        option = f"-o {_q(','.join(words))} " if words else ""
        at = _inside(self.target)
        return f"mkdir -p {at}\nmount -t {self.fstype} {option}{_q(self.source)} {at}"


class BindAt(Step):
    """Show a file or directory of the host inside the container's root. The mount point is made when missing."""

    op: ClassVar[int] = 23
    man: ClassVar[str] = "open_tree(2), mount_setattr(2)"
    source: str
    target: str
    recursive: int = 1
    attributes: int = 0  # MOUNT_ATTR_* to set
    clear: int = 0  # MOUNT_ATTR_* to clear
    propagation: int = 0  # MS_PRIVATE, MS_SLAVE, ... ; 0 leaves what open_tree gives
    directory: int = 1  # what to make when the mount point is missing

    def shell(self) -> str:
        at = _inside(self.target)
        make = f"mkdir -p {at}" if self.directory else f"[ -e {at} ] || : > {at}"
        lines = [make, f"mount --{'r' if self.recursive else ''}bind {_q(self.source)} {at}"]
        if self.attributes or self.clear:
            words = mount_words(self.attributes, self.clear)
            lines.append(f"mount -o remount,bind,{words} {at}")
        if self.propagation:
            lines.append(f"mount {mount_words(self.propagation)} {at}")
        return "\n".join(lines)


class MkdirAt(Step):
    """Make a directory, and its parents, inside the container's root; one that exists is left as it is."""

    op: ClassVar[int] = 24
    man: ClassVar[str] = "mkdirat(2)"
    target: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0

    def shell(self) -> str:
        at = _inside(self.target)
        owner = f" && chown {self.uid}:{self.gid} {at}" if self.uid or self.gid else ""
        return f"[ -d {at} ] || {{ mkdir -p {at} && chmod {self.mode:o} {at}{owner}; }}"


class MknodAt(Step):
    """Make a device node inside the container's root."""

    op: ClassVar[int] = 25
    man: ClassVar[str] = "mknodat(2)"
    target: str
    mode: int  # type bits and permissions
    major: int
    minor: int
    uid: int = 0
    gid: int = 0

    def shell(self) -> str:
        at = _inside(self.target)
        kind = {0o020000: "c", 0o060000: "b"}.get(self.mode & 0o170000, "p")
        numbers = "" if kind == "p" else f" {self.major} {self.minor}"
        owner = f"\nchown {self.uid}:{self.gid} {at}" if self.uid or self.gid else ""
        return f"mknod -m {self.mode & 0o7777:o} {at} {kind}{numbers}{owner}"


class SymlinkAt(Step):
    """Make a symbolic link inside the container's root; one that exists already is replaced."""

    op: ClassVar[int] = 26
    man: ClassVar[str] = "symlinkat(2)"
    content: str
    target: str

    def shell(self) -> str:
        return f"ln -sfn {_q(self.content)} {_inside(self.target)}"


class WriteAt(Step):
    """Write a small file inside the container's root, in place of what was there."""

    op: ClassVar[int] = 27
    man: ClassVar[str] = "openat2(2)"
    target: str
    data: bytes
    mode: int = 0o644

    def shell(self) -> str:
        at = _inside(self.target)
        text = self.data.decode("utf-8", "backslashreplace").removesuffix("\n")
        if "\0" in text or len(self.data) > 4096:
            return f"# {len(self.data)} bytes > {at}"
        return f"rm -f {at}\nprintf '%s\\n' {_q(text)} > {at}\nchmod {self.mode:o} {at}"


class MaskAt(Step):
    """Hide a path: a file behind /dev/null, a directory behind an empty read-only tmpfs. A missing one needs no mask."""

    op: ClassVar[int] = 28
    man: ClassVar[str] = "mount(2)"
    target: str

    def shell(self) -> str:
        at = _inside(self.target)
        return (
            f"[ ! -d {at} ] || mount -t tmpfs -o ro,size=0k,nr_inodes=1 tmpfs {at}\n"
            f'[ ! -f {at} ] || mount --bind "$root"/dev/null {at}'
        )


class ReadonlyAt(Step):
    """Make what lies at a path read-only. A missing path needs nothing."""

    op: ClassVar[int] = 29
    man: ClassVar[str] = "mount_setattr(2)"
    target: str

    def shell(self) -> str:
        at = _inside(self.target)
        return f"[ ! -e {at} ] || {{ mount --rbind {at} {at} && mount -o remount,bind,ro {at}; }}"


class ReadonlyRoot(Step):
    """The root file system itself becomes read-only, after everything was mounted into it."""

    op: ClassVar[int] = 30
    man: ClassVar[str] = "mount_setattr(2)"

    def shell(self) -> str:
        return 'mount -o remount,bind,ro "$root"'


class PivotRoot(Step):
    """Swap the root mount for ours and let go of the old one: chroot can be climbed out of, this cannot."""

    op: ClassVar[int] = 31
    man: ClassVar[str] = "pivot_root(2)"

    def shell(self) -> str:
        return 'cd "$root"\npivot_root . .\numount -l .\ncd /'


class Chroot(Step):
    """Only change where `/` points, for a lesson: root inside can climb out."""

    op: ClassVar[int] = 32
    man: ClassVar[str] = "chroot(2)"

    def shell(self) -> str:
        return 'chroot "$root"'


class Sethostname(Step):
    """The container's own host name."""

    op: ClassVar[int] = 33
    man: ClassVar[str] = "sethostname(2)"
    name: str

    def shell(self) -> str:
        return f"hostname {_q(self.name)}"


class Setdomainname(Step):
    """The container's own NIS domain name."""

    op: ClassVar[int] = 34
    man: ClassVar[str] = "setdomainname(2)"
    name: str

    def shell(self) -> str:
        return f"domainname {_q(self.name)}"


class Sysctl(Step):
    """Set a kernel parameter of this container's namespaces."""

    op: ClassVar[int] = 35
    man: ClassVar[str] = "sysctl(8)"
    key: str  # path below /proc/sys, with slashes
    value: str

    def shell(self) -> str:
        return f"printf '%s\\n' {_q(self.value)} > /proc/sys/{_q(self.key)}"


class LinkUp(Step):
    """Bring a network interface up."""

    op: ClassVar[int] = 36
    man: ClassVar[str] = "netdevice(7)"
    name: str

    def shell(self) -> str:
        return f"ip link set {_q(self.name)} up"


class NewKeyring(Step):
    """A session keyring of its own: the caller's keys stay outside."""

    op: ClassVar[int] = 37
    man: ClassVar[str] = "session-keyring(7)"
    name: str

    def shell(self) -> str:
        return f"keyctl new_session {_q(self.name)} > /dev/null  # package keyutils"

    exact: ClassVar[Exact] = Exact.ROUGHLY


class Setsid(Step):
    """A session of its own: no controlling terminal, so nothing can be typed into the caller's (TIOCSTI)."""

    op: ClassVar[int] = 38
    man: ClassVar[str] = "setsid(2)"
    exact: ClassVar[Exact] = Exact.ROUGHLY

    def shell(self) -> str:
        return "# setsid, in the exec below"


class OpenPty(Step):
    """Open a terminal in the container's own devpts, make it fds 0, 1, 2 and /dev/console, hand the master side out."""

    op: ClassVar[int] = 39
    man: ClassVar[str] = "pty(7)"
    exact: ClassVar[Exact] = Exact.NO
    uid: int = 0
    gid: int = 0


class Dup(Step):
    """Put a kept file descriptor at a number the command knows: 0, 1 or 2."""

    op: ClassVar[int] = 40
    man: ClassVar[str] = "dup2(2)"
    exact: ClassVar[Exact] = Exact.ROUGHLY
    slot: Slot
    fd: int
    uid: int = 0
    gid: int = 0

    def shell(self) -> str:
        return "exec < /dev/null" if self.slot == Slot.NULL else ""


class Rlimit(Step):
    """A resource limit of the command and its children."""

    op: ClassVar[int] = 41
    man: ClassVar[str] = "setrlimit(2)"
    resource: int
    soft: int
    hard: int

    def shell(self) -> str:
        def value(limit: int) -> str:
            return "unlimited" if limit == 2**64 - 1 else str(limit)

        return f"prlimit --pid $$ --{RLIMITS[self.resource]}={value(self.soft)}:{value(self.hard)}"


# Index = RLIMIT_* number of asm-generic (x86, arm, riscv); the word is prlimit(1)'s and docker's --ulimit's.
RLIMITS = (
    "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile",
    "memlock", "as", "locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
)  # fmt: skip


class Umask(Step):
    """Permission bits that new files do not get."""

    op: ClassVar[int] = 42
    man: ClassVar[str] = "umask(2)"
    mask: int

    def shell(self) -> str:
        return f"umask {self.mask:04o}"


class Chdir(Step):
    """Go to the working directory (made when missing) and check that it lies inside the root."""

    op: ClassVar[int] = 43
    man: ClassVar[str] = "chdir(2)"
    path: str

    def shell(self) -> str:
        return f"cd {_q(self.path)}"


class BoundingSet(Step):
    """Capabilities that nothing inside can ever regain, not even through a set-uid program."""

    op: ClassVar[int] = 44
    man: ClassVar[str] = "capabilities(7)"
    keep: int

    def shell(self) -> str:
        return f"# setpriv --bounding-set={cap_words(self.keep)}, in the exec below"


class SetGroups(Step):
    """Supplementary groups: 32-bit ids, packed."""

    op: ClassVar[int] = 45
    man: ClassVar[str] = "setgroups(2)"
    groups: bytes

    def shell(self) -> str:
        return "# setpriv --groups/--clear-groups, in the exec below"


class SetIds(Step):
    """Become this user; permitted capabilities survive until the next step decides about them."""

    op: ClassVar[int] = 46
    man: ClassVar[str] = "setresuid(2)"
    uid: int
    gid: int

    def shell(self) -> str:
        return f"# setpriv --reuid={self.uid} --regid={self.gid}, in the exec below"


class Capabilities(Step):
    """The capability sets that the command starts with, as bit masks."""

    op: ClassVar[int] = 47
    man: ClassVar[str] = "capabilities(7)"
    effective: int
    permitted: int
    inheritable: int = 0
    ambient: int = 0

    def shell(self) -> str:
        return f"# capabilities: {cap_words(self.permitted)}"


class NoNewPrivs(Step):
    """From here on execve gives no privileges: set-uid bits and file capabilities are ignored."""

    op: ClassVar[int] = 48
    man: ClassVar[str] = "prctl(2) PR_SET_NO_NEW_PRIVS"

    def shell(self) -> str:
        return "# setpriv --no-new-privs, in the exec below"


class Seccomp(Step):
    """A filter, as a BPF program, that every system call of the container passes through."""

    op: ClassVar[int] = 49
    man: ClassVar[str] = "seccomp(2)"
    exact: ClassVar[Exact] = Exact.NO
    program: bytes
    flags: int = 0


class Seal(Step):
    """Not dumpable: nothing inside may trace this process or read its memory and files before it is the command."""

    op: ClassVar[int] = 50
    man: ClassVar[str] = "prctl(2) PR_SET_DUMPABLE"
    exact: ClassVar[Exact] = Exact.NO


class DieWithParent(Step):
    """SIGKILL when the supervisor dies."""

    op: ClassVar[int] = 51
    man: ClassVar[str] = "prctl(2) PR_SET_PDEATHSIG"

    def shell(self) -> str:
        return "# setpriv --pdeathsig KILL, in the exec below"


class Exec(Step):
    """Become the command. With `reaper`, a small PID 1 of ours stays, passes signals on and reaps orphans."""

    op: ClassVar[int] = 52
    man: ClassVar[str] = "execve(2)"
    argv: tuple[str, ...]
    env: tuple[str, ...]
    search: str  # the PATH in which a bare name is looked up
    reaper: int = 0
    close_from: int = 3  # file descriptors from here on are closed

    def shell(self) -> str:
        env = " ".join(_q(e) for e in self.env)
        return f"exec env -i {env} {' '.join(_q(a) for a in self.argv)}"


def cap_words(mask: int) -> str:
    """setpriv(1)'s list for a capability mask: `-all,+chown,+kill`."""
    names = [name.removeprefix("CAP_").lower() for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1]
    return ",".join(["-all", *(f"+{name}" for name in names)])


class Entry(msgspec.Struct, frozen=True):
    """One line of a plan: the step, who takes it, its chapter in `kist explain`, and why it is there."""

    step: Step
    actor: Actor
    group: Group
    why: str


Plan = tuple[Entry, ...]

STEPS: tuple[type[Step], ...] = tuple(sorted(Step.__subclasses__(), key=lambda cls: cls.op))
