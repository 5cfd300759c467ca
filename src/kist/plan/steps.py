"""The step table: every kernel step that kist can take, one class each.

The launcher takes a step; `shell()` says the same as a command a person could type. `tools/gen_steps.py` writes
launcher/steps.h from this table, so a field added here is known to the C side or the build fails. Field types are
int (unsigned 64 bit), str (no NUL), bytes, tuple[str, ...] and Slot. Steps that few containers take are in
rare_steps.py, which is read when one is asked for here. Over 600 lines on purpose: it is one table.
"""

from __future__ import annotations

from kist.plan.flags import clone_words, mount_words, unshare_options
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from kist.plan.rare_steps import *  # noqa: F403  # for type checkers: see __getattr__

    STEPS: tuple[type[Step], ...]

# Who takes a step.
HOST = 0  # the supervisor, in the host's namespaces
STAGE = 1  # a process in between, which enters namespaces that exist and makes the first process inside
INIT = 2  # the container's first process, before it becomes the command
ACTORS = ("host", "stage", "init")

# How faithful the shell form is.
EXACT = 0
ROUGHLY = 1  # same purpose, different means
NO_SHELL = 2  # no shell command does this
FIDELITY = ("exact", "approximate", "none")

# The chapters of `kist explain`, in the order in which they are told.
GROUPS = {
    "namespaces": "Namespaces: what it sees",
    "cgroup": "Cgroup: what it may use",
    "rootfs": "Root file system",
    "devices": "Devices",
    "network": "Network",
    "privileges": "Privileges: what it may do",
    "exec": "The command, its input and output",
}

Slot = int


class Slots:
    """Values known only at run time: file descriptors that a step makes and a later one uses, by number."""

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
    CONSOLE = 17  # a socket that wants the terminal's master side
    LENT = 20  # the image's tree, kept for other containers of it
    EMPTY = 19  # an empty directory that hides others
    START = 18  # a FIFO that says when to become the command
    FIRST_FREE = 32  # the compiler counts up from here: namespaces, trees, id maps
    COUNT = 1024


SLOT_NAMES = {number: name for name, number in vars(Slots).items()
              if isinstance(number, int) and name != "FIRST_FREE"}  # fmt: skip


def quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


def _inside(path: str) -> str:
    """A path inside the container, as seen from before pivot_root."""
    return f'"$root"{quoted(path)}' if path != "/" else '"$root"'


def variable(slot: Slot) -> str:
    return SLOT_NAMES.get(slot, f"fd{slot}").lower()


def with_pid(text: str) -> str:
    """Quoted, but for the process id that only the running script knows."""
    return "".join([quoted(part) if i % 2 == 0 and part else part for i, part in enumerate(_split_pid(text))]) or "''"


def _split_pid(text: str) -> list[str]:
    first, *rest = text.split("$init_pid")
    return [first, *(word for part in rest for word in ('"$init_pid"', part))]


class Step(Value):
    """Base of all steps."""

    op: ClassVar[int] = 0
    man: ClassVar[str] = ""
    fidelity: ClassVar[int] = EXACT

    def shell(self) -> str:
        """The command(s) that do the same, one per line; empty when there is none."""
        return ""


# --- files of the host


class Mkdir(Step):
    """Make a directory on the host; removed again at the end unless `keep`, which also accepts one that exists."""

    op: ClassVar[int] = 1
    man: ClassVar[str] = "mkdir(2)"
    path: str
    mode: int = 0o755
    keep: int = 0

    def shell(self) -> str:
        return f"mkdir {'-p ' if self.keep else ''}-m {self.mode:o} {quoted(self.path)}"


class Remove(Step):
    """At the end, when all else is gone, remove this file or empty directory."""

    op: ClassVar[int] = 2
    man: ClassVar[str] = "unlink(2)"
    fidelity: ClassVar[int] = NO_SHELL
    path: str


class WriteFile(Step):
    """Write a value into a file of the kernel's. `$init_pid` is the number of the container's first process."""

    op: ClassVar[int] = 3
    man: ClassVar[str] = "write(2)"
    path: str
    data: str
    optional: int = 0  # it is fine when the file is not there any more

    def shell(self) -> str:
        return f"printf '%s\\n' {with_pid(self.data)} > {with_pid(self.path)}" + (" || :" if self.optional else "")


class CreateFile(Step):
    """Write a small file on the host, at once and whole: a pid file, a state file."""

    op: ClassVar[int] = 4
    man: ClassVar[str] = "rename(2)"
    path: str
    data: str
    mode: int = 0o644
    keep: int = 0  # it stays when the container has ended

    def shell(self) -> str:
        return f"printf %s {with_pid(self.data)} > {quoted(self.path)}"


class Open(Step):
    """Open something on the host and keep it for a later step."""

    op: ClassVar[int] = 5
    man: ClassVar[str] = "open(2)"
    path: str
    flags: int  # O_*
    slot: Slot

    def shell(self) -> str:
        return f"{variable(self.slot)}={quoted(self.path)}"


# --- the cgroup


class CgroupMake(Step):
    """Make a cgroup: a directory in the cgroup file system. At the end all inside are killed and it is removed."""

    op: ClassVar[int] = 7
    man: ClassVar[str] = "cgroups(7)"
    path: str
    keep: int = 0  # accept one that exists, and leave it at the end unless a step fails

    def shell(self) -> str:
        return f"mkdir {'-p ' if self.keep else ''}{quoted(self.path)}"


class CgroupInherit(Step):
    """Give a v1 cgroup what its parent has, where the kernel would leave it with nothing."""

    op: ClassVar[int] = 81
    man: ClassVar[str] = "cpuset(7)"
    path: str
    file: str
    nothing: str = ""  # what the file says then

    def shell(self) -> str:
        file = quoted(f"{self.path}/{self.file}")
        return f'[ "$(cat {file})" != "{self.nothing}" ] || cat {quoted(f"{self.path}/../{self.file}")} > {file}'


class CgroupJoin(Step):
    """Move the calling process into a cgroup; its children will be born there."""

    op: ClassVar[int] = 8
    man: ClassVar[str] = "cgroups(7)"
    path: str

    def shell(self) -> str:
        return f"echo 0 > {quoted(self.path + '/cgroup.procs')}"


class CgroupDevices(Step):
    """Attach a BPF program to a v2 cgroup that decides which devices may be opened or made (v1 has devices.allow)."""

    op: ClassVar[int] = 9
    man: ClassVar[str] = "bpf(2)"
    fidelity: ClassVar[int] = NO_SHELL
    path: str
    program: bytes


class ReportFile(Step):
    """After the end, hand a kernel file's content (at most 4000 bytes) to the caller: what the cgroup counted."""

    op: ClassVar[int] = 10
    label: str
    path: str

    def shell(self) -> str:
        return f"cat {quoted(self.path)}"


class Warn(Step):
    """After the end, say something on standard error if a counter in a kernel file ("KEY NUMBER") is not zero."""

    op: ClassVar[int] = 11
    path: str
    key: str
    text: str

    def shell(self) -> str:
        return f"! grep -q '^{self.key} [^0]' {quoted(self.path)} || echo {quoted(self.text)} >&2"


# --- processes and namespaces


class Clone(Step):
    """Start the next process, in new namespaces (and, on cgroup v2, inside the container's cgroup)."""

    op: ClassVar[int] = 12
    man: ClassVar[str] = "clone3(2)"
    child: int  # STAGE or INIT; made by the stage it becomes the supervisor's child all the same
    flags: int
    cgroup: Slot = Slots.NONE

    def shell(self) -> str:
        options = f"{unshare_options(self.flags)} --fork --kill-child".strip()
        join = 'echo 0 > "$cgroup"/cgroup.procs; ' if self.cgroup else ""
        # unshare(1) makes all mounts private by itself; that is a step of its own here.
        same = " --propagation unchanged" if "--mount" in options else ""
        return f'( {join}exec unshare {options}{same} sh -euc "$init" ) & child=$!'

    def words(self) -> str:
        return clone_words(self.flags)


class Unshare(Step):
    """Leave the namespaces given: what comes next no longer touches those outside."""

    op: ClassVar[int] = 18
    man: ClassVar[str] = "unshare(2)"
    flags: int

    def shell(self) -> str:
        return f'exec unshare {unshare_options(self.flags)} sh -euc "$rest"'


# --- mounts


class MountPropagation(Step):
    """Set how mount events travel between this mount namespace and the host's."""

    op: ClassVar[int] = 22
    man: ClassVar[str] = "mount_namespaces(7)"
    path: str
    flags: int
    parent: int = 0  # of the mount that holds the path, if not a mount itself

    def shell(self) -> str:
        path = f'"$(findmnt -n -o TARGET -T {quoted(self.path)})"' if self.parent else quoted(self.path)
        return f"mount {mount_words(self.flags)} {path}"


class Mount(Step):
    """Mount at a path of the host, visible in this mount namespace only."""

    op: ClassVar[int] = 23
    man: ClassVar[str] = "mount(2)"
    fstype: str
    source: str
    target: str
    flags: int = 0
    data: str = ""

    def shell(self) -> str:
        if not self.fstype:
            return f"mount --{'r' if self.flags & 0x4000 else ''}bind {quoted(self.source)} {quoted(self.target)}"
        options = ",".join(o for o in (mount_words(self.flags), self.data) if o)
        words = f"-o {quoted(options)} " if options else ""
        return f"mount -t {self.fstype} {words}{quoted(self.source)} {quoted(self.target)}"


class OpenRoot(Step):
    """This directory becomes the container's root. From here on, paths are resolved inside it and cannot leave."""

    op: ClassVar[int] = 24
    man: ClassVar[str] = "openat2(2)"
    path: str

    def shell(self) -> str:
        return f"root={quoted(self.path)}"


class MountAt(Step):
    """Mount a new file system inside the container's root. The mount point is made when missing."""

    op: ClassVar[int] = 26
    man: ClassVar[str] = "fsopen(2), move_mount(2)"
    fstype: str
    source: str
    target: str
    options: tuple[str, ...] = ()  # to the file system
    attributes: int = 0  # MOUNT_ATTR_*
    propagation: int = 0  # MS_PRIVATE, MS_SLAVE, ..., with MS_REC; 0: none asked for
    slot: Slot = Slots.NONE  # keeps the mount's root open
    copy_up: int = 0  # begin with a copy of what lies under the mount point
    keep_mode: int = 0  # take the permissions of the mount point, if it was there
    strict: int = 0  # the mount point is a directory as it stands, reached by no symbolic link (procfs, sysfs)

    def shell(self) -> str:
        words = [w for w in (mount_words(self.attributes), *self.options) if w]
        option = f"-o {quoted(','.join(words))} " if words else ""
        at = _inside(self.target)
        lines = [f"mkdir -p {at}", f"mount -t {self.fstype} {option}{quoted(self.source)} {at}"]
        if self.propagation:
            lines.append(f"mount {mount_words(self.propagation)} {at}")
        return "\n".join(lines)


class OpenTree(Step):
    """Take a directory or file of the host as a mount that hangs nowhere yet, if asked for with other ids."""

    op: ClassVar[int] = 27
    man: ClassVar[str] = "open_tree(2), mount_setattr(2)"
    fidelity: ClassVar[int] = ROUGHLY
    source: str
    recursive: int
    slot: Slot
    id_map: Slot = Slots.NONE  # a user namespace
    id_map_recursive: int = 0
    nofollow: int = 0  # a symbolic link itself, not what it points to
    inside: int = 0  # `source` is a path of the container's root
    below: str = ""  # only this part of it, resolved as in a root of its own

    def shell(self) -> str:
        source = f"{self.source.rstrip('/')}/{self.below}" if self.below else self.source
        return f"{variable(self.slot)}={_inside(source) if self.inside else quoted(source)}" + (
            "  # with -o X-mount.idmap=..." if self.id_map else ""
        )


class NewTree(Step):
    """Mount a file system that hangs nowhere yet, if asked for with other ids. EROFS takes files for its devices. Where
    another container's supervisor has the same, it is taken from there: then its pages are in memory once."""

    op: ClassVar[int] = 90
    man: ClassVar[str] = "fsopen(2), fsmount(2), mount_setattr(2), pidfd_getfd(2)"
    fidelity: ClassVar[int] = ROUGHLY
    fstype: str
    source: str
    options: tuple[str, ...]  # "key" or "key=value"
    attributes: int  # MOUNT_ATTR_*
    slot: Slot
    id_map: Slot = Slots.NONE  # a user namespace
    lender: int = 0  # that supervisor, and the inode of its pidfd
    lender_inode: int = 0

    def shell(self) -> str:
        """mount(8) wants block devices where the kernel takes files; they go by themselves when the mount does."""
        files = " ".join(quoted(option.partition("=")[2]) for option in self.options)
        at = variable(self.slot)
        return (
            f"export {at}=$(mktemp -d); options=ro,loop; loops=\n"
            f"for file in {files}; do\n"
            '  loop=$(losetup --read-only --find --show "$file"); options=$options,device=$loop; loops="$loops $loop"\n'
            "done\n"
            f'mount -t {self.fstype} -o "$options" {quoted(self.source)} "${at}"\n'
            '[ -z "$loops" ] || losetup --detach $loops'
        )


class MoveTree(Step):
    """Put what was taken or mounted nowhere at a path of the host, visible in this mount namespace only."""

    op: ClassVar[int] = 74
    man: ClassVar[str] = "move_mount(2)"
    fidelity: ClassVar[int] = ROUGHLY
    tree: Slot
    target: str

    def shell(self) -> str:
        return f'mount --bind "${variable(self.tree)}" {quoted(self.target)}'


NOFOLLOW_SOURCE, NOFOLLOW_TARGET, COPY_LINK = 1, 2, 4


class BindAt(Step):
    """Show a file or directory of the host inside the container's root. The mount point is made when missing."""

    op: ClassVar[int] = 28
    man: ClassVar[str] = "open_tree(2), mount_setattr(2)"
    source: str
    target: str
    tree: Slot = Slots.NONE  # what OpenTree has taken, instead of `source`
    recursive: int = 1
    attributes: int = 0  # MOUNT_ATTR_* to set and to clear, on the uppermost mount
    clear: int = 0
    all_attributes: int = 0  # the same, on all mounts below, too
    all_clear: int = 0
    propagation: int = 0  # MS_PRIVATE, MS_SLAVE, ..., with MS_REC; 0: none asked for
    links: int = 0  # NOFOLLOW_SOURCE, NOFOLLOW_TARGET, COPY_LINK: what symbolic links mean

    def shell(self) -> str:
        at, source = _inside(self.target), quoted(self.source)
        lines = [f"if [ -d {source} ]; then mkdir -p {at}; else mkdir -p $(dirname {at}); : >> {at}; fi"]
        lines.append(f"mount --{'r' if self.recursive else ''}bind {source} {at}")
        if self.attributes or self.clear:
            lines.append(f"mount -o remount,bind,{mount_words(self.attributes, self.clear)} {at}")
        if self.all_attributes or self.all_clear:
            words = mount_words(self.all_attributes, self.all_clear).split(",")
            lines.append(f"mount -o remount,bind,{','.join(f'{w}=recursive' for w in words)} {at}")
        if self.propagation:
            lines.append(f"mount {mount_words(self.propagation)} {at}")
        return "\n".join(lines)


class MkdirAt(Step):
    """Make a directory, and its parents, inside the container's root; one that exists is left as it is."""

    op: ClassVar[int] = 29
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

    op: ClassVar[int] = 30
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
    """Make a symbolic link inside the container's root; `keep` leaves what is there already, else it is replaced."""

    op: ClassVar[int] = 31
    man: ClassVar[str] = "symlinkat(2)"
    content: str
    target: str
    keep: int = 0

    def shell(self) -> str:
        at = _inside(self.target)
        test = f"[ -e {at} ] || " if self.keep else ""
        return f"{test}ln -sfn {quoted(self.content)} {at}"


class WriteAt(Step):
    """Write a small file inside the container's root, in place of what was there."""

    op: ClassVar[int] = 32
    man: ClassVar[str] = "openat2(2)"
    target: str
    data: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0

    def shell(self) -> str:
        at = _inside(self.target)
        text = self.data.decode("utf-8", "backslashreplace").removesuffix("\n")
        if "\0" in text or len(self.data) > 4096:
            return f"# {len(self.data)} bytes > {at}"
        owner = f"chown {self.uid}:{self.gid} {at}\n" if self.uid or self.gid else ""
        made = f"mkdir -p $(dirname {at})\nrm -f {at}\nprintf '%s\\n' {quoted(text)} > {at}"
        return f"{made}\n{owner}chmod {self.mode:o} {at}"


class MaskAt(Step):
    """Hide a path: a file behind /dev/null, a directory behind an empty read-only tmpfs. A missing one needs none."""

    op: ClassVar[int] = 33
    man: ClassVar[str] = "mount(2)"
    target: str
    options: tuple[str, ...] = ()  # to the tmpfs: an SELinux context

    def shell(self) -> str:
        at = _inside(self.target)
        return (
            f"[ ! -d {at} ] || mount -t tmpfs -o ro,size=0k,nr_inodes=1 tmpfs {at}\n"
            f"[ -d {at} ] || [ ! -e {at} ] || mount --bind /dev/null {at}"
        )


class ReadonlyAt(Step):
    """Make what lies at a path read-only. A missing path needs nothing."""

    op: ClassVar[int] = 34
    man: ClassVar[str] = "mount_setattr(2)"
    target: str

    def shell(self) -> str:
        at = _inside(self.target)
        return f"[ ! -e {at} ] || {{ mount --rbind {at} {at} && mount -o remount,bind,ro {at}; }}"


class RemountAt(Step):
    """Change the attributes of a mount that is in place: read-only, after everything was mounted into it."""

    op: ClassVar[int] = 35
    man: ClassVar[str] = "mount_setattr(2)"
    target: str
    attributes: int

    def shell(self) -> str:
        return f"mount -o remount,bind,{mount_words(self.attributes)} {_inside(self.target)}"


class PivotRoot(Step):
    """Swap the root mount for ours and let go of the old one: chroot can be climbed out of, this cannot."""

    op: ClassVar[int] = 36
    man: ClassVar[str] = "pivot_root(2)"

    def shell(self) -> str:
        return 'cd "$root"\npivot_root . .\numount -l .\ncd /'


# --- names, kernel parameters, network


class Sethostname(Step):
    """The container's own host name."""

    op: ClassVar[int] = 39
    man: ClassVar[str] = "sethostname(2)"
    name: str

    def shell(self) -> str:
        return f"echo {quoted(self.name)} > /proc/sys/kernel/hostname"


class WriteProc(Step):
    """Write a value below our own procfs: a kernel parameter of this container's namespaces, a security label."""

    op: ClassVar[int] = 41
    man: ClassVar[str] = "proc(5)"
    path: str  # below /proc
    data: str

    def shell(self) -> str:
        return f"printf '%s\\n' {quoted(self.data)} > /proc/{quoted(self.path)}"


class LinkUp(Step):
    """Bring a network interface up."""

    op: ClassVar[int] = 42
    man: ClassVar[str] = "netdevice(7)"
    name: str

    def shell(self) -> str:
        return f"ip link set {quoted(self.name)} up"


# --- standard input and output


class Pipe(Step):
    """A pipe between the supervisor and the command."""

    op: ClassVar[int] = 43
    man: ClassVar[str] = "pipe(7)"
    fidelity: ClassVar[int] = NO_SHELL
    read: Slot
    write: Slot


class Dup(Step):
    """Put a kept file descriptor at a number the command knows: 0, 1 or 2."""

    op: ClassVar[int] = 46
    man: ClassVar[str] = "dup2(2)"
    fidelity: ClassVar[int] = ROUGHLY
    slot: Slot
    fd: int

    def shell(self) -> str:
        return "exec < /dev/null" if self.slot == Slots.NULL else ""


class OwnStdio(Step):
    """Make the command's user the owner of the pipes that are its fds 0, 1, 2, so that /dev/stdout can be opened."""

    op: ClassVar[int] = 47
    man: ClassVar[str] = "fchown(2)"
    fidelity: ClassVar[int] = NO_SHELL
    uid: int
    gid: int
    pipes: int = 1  # only pipes; 0: files and sockets, too


class OwnNull(Step):
    """Where fds 0, 1, 2 are the host's /dev/null, take the container's: what saves it finds no other (criu)."""

    op: ClassVar[int] = 73
    man: ClassVar[str] = "dup(2)"
    fidelity: ClassVar[int] = NO_SHELL


# --- the process itself


class NewKeyring(Step):
    """A session keyring of its own: the caller's keys stay outside."""

    op: ClassVar[int] = 48
    man: ClassVar[str] = "session-keyring(7)"
    fidelity: ClassVar[int] = ROUGHLY
    name: str

    def shell(self) -> str:
        return f"# keyctl new_session {quoted(self.name)}  (package keyutils)"


class Setsid(Step):
    """A session of its own: no controlling terminal, so nothing can be typed into the caller's (TIOCSTI)."""

    op: ClassVar[int] = 49
    man: ClassVar[str] = "setsid(2)"
    fidelity: ClassVar[int] = ROUGHLY

    def shell(self) -> str:
        return "# setsid, in the exec below"


class Seal(Step):
    """Not dumpable: nothing inside may trace this process or read its memory and files before it is the command."""

    op: ClassVar[int] = 50
    man: ClassVar[str] = "prctl(2) PR_SET_DUMPABLE"
    fidelity: ClassVar[int] = NO_SHELL


class DieWithParent(Step):
    """SIGKILL when the supervisor dies."""

    op: ClassVar[int] = 51
    man: ClassVar[str] = "prctl(2) PR_SET_PDEATHSIG"

    def shell(self) -> str:
        return "# setpriv --pdeathsig KILL, in the exec below"


class Rlimit(Step):
    """A resource limit of the command and its children."""

    op: ClassVar[int] = 52
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

    op: ClassVar[int] = 53
    man: ClassVar[str] = "umask(2)"
    mask: int

    def shell(self) -> str:
        return f"umask {self.mask:04o}"


class Chdir(Step):
    """Go to the working directory and check that it lies inside the root."""

    op: ClassVar[int] = 54
    man: ClassVar[str] = "chdir(2)"
    path: str

    def shell(self) -> str:
        return f"cd {quoted(self.path)}"


class CpuAffinity(Step):
    """On which processors the process may run. `cpus` is a bit mask."""

    op: ClassVar[int] = 59
    man: ClassVar[str] = "sched_setaffinity(2)"
    cpus: bytes

    def shell(self) -> str:
        return f"taskset -p {int.from_bytes(self.cpus, 'little'):#x} $$"


class BoundingSet(Step):
    """Capabilities that nothing inside can ever regain, not even through a set-uid program."""

    op: ClassVar[int] = 60
    man: ClassVar[str] = "capabilities(7)"
    keep: int

    def shell(self) -> str:
        return f"# setpriv --bounding-set={cap_words(self.keep)}, in the exec below"


class SetGroups(Step):
    """Supplementary groups: 32-bit ids, packed."""

    op: ClassVar[int] = 61
    man: ClassVar[str] = "setgroups(2)"
    groups: bytes

    def shell(self) -> str:
        return "# setpriv --groups/--clear-groups, in the exec below"


class SetIds(Step):
    """Become this user; permitted capabilities survive until the next step decides about them."""

    op: ClassVar[int] = 62
    man: ClassVar[str] = "setresuid(2)"
    uid: int
    gid: int

    def shell(self) -> str:
        return f"# setpriv --reuid={self.uid} --regid={self.gid}, in the exec below"


class Capabilities(Step):
    """The capability sets that the command starts with, as bit masks."""

    op: ClassVar[int] = 63
    man: ClassVar[str] = "capabilities(7)"
    effective: int
    permitted: int
    inheritable: int = 0
    ambient: int = 0

    def shell(self) -> str:
        return f"# capabilities: {cap_words(self.permitted)}"


class NoNewPrivs(Step):
    """From here on execve gives no privileges: set-uid bits and file capabilities are ignored."""

    op: ClassVar[int] = 64
    man: ClassVar[str] = "prctl(2) PR_SET_NO_NEW_PRIVS"

    def shell(self) -> str:
        return "# setpriv --no-new-privs, in the exec below"


class Seccomp(Step):
    """A filter, as a BPF program, that every system call of the container passes through."""

    op: ClassVar[int] = 65
    man: ClassVar[str] = "seccomp(2)"
    fidelity: ClassVar[int] = NO_SHELL
    program: bytes
    flags: int = 0
    notify: int = 0  # tell the supervisor the number of the listener's fd


class FindCommand(Step):
    """See whether the command exists and may be executed, while there is still somebody to be told."""

    op: ClassVar[int] = 67
    man: ClassVar[str] = "access(2)"
    fidelity: ClassVar[int] = NO_SHELL
    name: str
    search: str


class AwaitStart(Step):
    """Wait for `start`."""

    op: ClassVar[int] = 68
    man: ClassVar[str] = "fifo(7)"
    fidelity: ClassVar[int] = NO_SHELL
    slot: Slot


class FindHome(Step):
    """Look up the user's home directory in the container's own /etc/passwd: HOME, else "/"."""

    op: ClassVar[int] = 76
    man: ClassVar[str] = "passwd(5)"
    fidelity: ClassVar[int] = NO_SHELL
    uid: int


class PrepareExec(Step):
    """All that the command's filter might deny later: descriptors are closed and signals let through; with `reaper` a
    small PID 1 of ours stays behind, passes signals on and reaps orphans."""

    op: ClassVar[int] = 77
    man: ClassVar[str] = "close_range(2)"
    reaper: int = 0
    close_from: int = 3  # file descriptors from here on are closed

    def shell(self) -> str:
        return (
            "# sh holds no other descriptors" if not self.reaper else "# tini(1) before the command, in the exec below"
        )


class Exec(Step):
    """Become the command."""

    op: ClassVar[int] = 69
    man: ClassVar[str] = "execve(2)"
    argv: tuple[str, ...]
    env: tuple[str, ...]
    search: str  # the PATH in which a bare name is looked up

    def shell(self) -> str:
        env = " ".join(quoted(e) for e in self.env)
        return f"exec env -i {env} {' '.join(quoted(a) for a in self.argv)}"


# --- the supervisor


class Supervise(Step):
    """Wait for the command: pass signals on, copy its output, keep the deadline, reap. Zero milliseconds: no limit."""

    op: ClassVar[int] = 70
    man: ClassVar[str] = "waitid(2)"
    timeout_ms: int = 0
    timeout_text: str = ""  # what to say when it was over
    freezer: str = ""  # the file that freezes the cgroup, for Ctrl-Z; "" when there is none
    reaper: int = 0  # the first process is ours and passes all signals on

    def shell(self) -> str:
        limit = f"# timeout -s KILL {self.timeout_ms / 1000:g} around it all\n" if self.timeout_ms else ""
        return f'{limit}status=0; wait "$child" || status=$?'


class AwaitReady(Step):
    """Wait until the first process has done all its steps but the last, or (`running`) until it is the command."""

    op: ClassVar[int] = 71
    fidelity: ClassVar[int] = NO_SHELL
    running: int = 0


class Leave(Step):
    """Let go: the container lives on without us, and what was made stays."""

    op: ClassVar[int] = 72
    fidelity: ClassVar[int] = NO_SHELL


class Relay(Step):
    """While supervising, copy what arrives at one fd to the other and, of the command's output, into the log.

    Without a target it goes to the log alone.
    """

    op: ClassVar[int] = 44
    fidelity: ClassVar[int] = NO_SHELL
    source: Slot
    target: Slot


class Attend(Step):
    """Look after a container that is kept, as docker's containerd-shim and podman's conmon do: write its log, let
    others attach to it, check its health, and record how it ended.

    It writes what the command prints to `logs` + ".1", ".2", ...: a record a line, as Kubernetes has it (CRI). At
    `socket` up to 16 others may send what the command reads. `detached`: first it leaves its caller and the caller's
    session, and then it goes on alone. When all is over and undone it becomes `after`.
    """

    op: ClassVar[int] = 91
    man: ClassVar[str] = "daemon(7)"
    fidelity: ClassVar[int] = NO_SHELL
    logs: str
    log_bytes: int  # of one file
    log_count: int  # how many are kept
    socket: str  # packets: "d" data, "e" end of input, "w" rows columns; unix(7) SOCK_SEQPACKET
    ended: str
    after: tuple[str, ...] = ()
    health: tuple[str, ...] = ()  # a command, started again so long after it has ended:
    health_ms: int = 0
    name: str = ""  # in ps(1)
    detached: int = 0


class RecordEnd(Step):
    """Write down how the command ended and what was reported since; also done when a step before this one fails."""

    op: ClassVar[int] = 93
    man: ClassVar[str] = "rename(2)"
    fidelity: ClassVar[int] = NO_SHELL


def cap_words(mask: int) -> str:
    """setpriv(1)'s list for a capability mask: `-all,+chown,+kill`."""
    from kist.plan.facts import CAPABILITIES

    names = [name.removeprefix("CAP_").lower() for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1]
    return ",".join(["-all", *(f"+{name}" for name in names)])


class Entry(Value):
    """One line of a plan: the step, who takes it, its chapter in `kist explain`, and why it is there."""

    step: Step
    actor: int
    group: str
    why: str


if TYPE_CHECKING:
    Plan = tuple[Entry, ...]


def __getattr__(name: str) -> object:
    """The rare ones, and STEPS: all of them, by number."""
    if name[:1].isupper():
        from kist.plan import rare_steps

        if name == "STEPS":
            import sys

            modules = sys.modules[__name__], rare_steps
            found = [getattr(module, each) for module in modules for each in dir(module)]
            kinds = {each for each in found if isinstance(each, type) and issubclass(each, Step) and each is not Step}
            return tuple(sorted(kinds, key=lambda kind: kind.op))
        if hasattr(rare_steps, name):
            return getattr(rare_steps, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
