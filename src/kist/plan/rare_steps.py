"""The step table's other part: steps that few containers take.

Import them from kist.plan.steps, which reads this when it has to: a class takes 30 us to make.
"""

from __future__ import annotations

from kist.plan.flags import unshare_options
from kist.plan.steps import NO_SHELL, ROUGHLY, Slot, Slots, Step, quoted, variable, with_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

# --- files of the host


class Connect(Step):
    """Connect to a socket on the host and keep the connection for a later step."""

    op: ClassVar[int] = 6
    man: ClassVar[str] = "unix(7)"
    fidelity: ClassVar[int] = NO_SHELL
    path: str
    slot: Slot


class Listen(Step):
    """Make a datagram socket on the host that the container may write to."""

    op: ClassVar[int] = 82
    man: ClassVar[str] = "unix(7)"
    fidelity: ClassVar[int] = NO_SHELL
    directory: str
    name: str
    slot: Slot


# --- the cgroup


class CgroupOwn(Step):
    """Give a v2 cgroup, and the files in it that the kernel names for this, to another user."""

    op: ClassVar[int] = 86
    man: ClassVar[str] = "cgroups(7), Cgroups delegation"
    path: str
    uid: int

    def shell(self) -> str:
        at = quoted(self.path)
        return f"chown {self.uid} {at}\n(cd {at} && chown -f {self.uid} $(cat /sys/kernel/cgroup/delegate)) || :"


# --- processes and namespaces


class Adopt(Step):
    """Learn the number of the first process that the stage has made."""

    op: ClassVar[int] = 13
    man: ClassVar[str] = "unix(7) SCM_CREDENTIALS"
    fidelity: ClassVar[int] = NO_SHELL


class IdMapHelper(Step):
    """Run newuidmap or newgidmap, the set-uid helpers that may map more than one id. `$init_pid` is replaced."""

    op: ClassVar[int] = 14
    man: ClassVar[str] = "newuidmap(1)"
    argv: tuple[str, ...]

    def shell(self) -> str:
        return " ".join('"$init_pid"' if a == "$init_pid" else quoted(a) for a in self.argv)


class Signal(Step):
    """Tell the other side to go on."""

    op: ClassVar[int] = 15
    fidelity: ClassVar[int] = NO_SHELL


class Await(Step):
    """Wait until the other side says go on."""

    op: ClassVar[int] = 16
    fidelity: ClassVar[int] = NO_SHELL


class Hook(Step):
    """Run a program that the bundle names, the container's state on its standard input. `$init_pid` is replaced."""

    op: ClassVar[int] = 17
    man: ClassVar[str] = "OCI config.md, POSIX-platform Hooks"
    path: str
    argv: tuple[str, ...]
    env: tuple[str, ...]
    state: str
    timeout_ms: int = 0  # 0: no limit
    warning: str = ""  # it may fail, and then this is said, and its exit status
    stdout: str = ""  # files that get what it says; "": nobody does
    stderr: str = ""

    def shell(self) -> str:
        env = " ".join(quoted(e) for e in self.env)
        command = " ".join(quoted(a) for a in (self.path, *self.argv[1:]))
        return f"printf %s {with_pid(self.state)} | env -i {env} {command}"


class Setns(Step):
    """Enter namespaces that exist: one by its file, or several of the process behind a pidfd."""

    op: ClassVar[int] = 19
    man: ClassVar[str] = "setns(2)"
    fidelity: ClassVar[int] = ROUGHLY
    target: Slot
    flags: int
    attempt: int = 0  # without the right to it this is left to a later one, from within the user namespace

    def shell(self) -> str:
        if self.attempt:
            return ""
        if self.target == Slots.TARGET:
            return f'exec nsenter --target "$target_pid" {unshare_options(self.flags)} sh -euc "$rest"'
        option = unshare_options(self.flags)
        return f'exec nsenter {option}="${variable(self.target)}" sh -euc "$rest"'


class OpenPidfd(Step):
    """A stable handle of a running process."""

    op: ClassVar[int] = 20
    man: ClassVar[str] = "pidfd_open(2)"
    pid: int
    slot: Slot

    def shell(self) -> str:
        return f"target_pid={self.pid}"


class UserNamespace(Step):
    """A user namespace that exists only for its id map: what an id-mapped mount translates by."""

    op: ClassVar[int] = 21
    man: ClassVar[str] = "user_namespaces(7)"
    fidelity: ClassVar[int] = NO_SHELL
    uid_map: str
    gid_map: str
    slot: Slot


# --- mounts


class OpenProc(Step):
    """A fresh procfs that no path leads to, so that a fake /proc cannot misdirect later writes."""

    op: ClassVar[int] = 25
    man: ClassVar[str] = "fsmount(2)"
    fidelity: ClassVar[int] = NO_SHELL


class HostNode(Step):
    """Make a device node as the host's root, in a file system that nobody sees: a user namespace may not make any."""

    op: ClassVar[int] = 78
    man: ClassVar[str] = "mknodat(2), fsmount(2)"
    fidelity: ClassVar[int] = NO_SHELL
    slot: Slot  # the file system, made with the first node
    name: str
    mode: int
    major: int
    minor: int
    uid: int = 0  # the host's
    gid: int = 0


class NodeAt(Step):
    """Show such a node inside the container's root."""

    op: ClassVar[int] = 79
    man: ClassVar[str] = "open_tree(2)"
    fidelity: ClassVar[int] = NO_SHELL
    slot: Slot
    name: str
    target: str
    attributes: int = 0


class DropNodes(Step):
    """The file system with the nodes is out of reach from here on."""

    op: ClassVar[int] = 80
    man: ClassVar[str] = "umount2(2)"
    fidelity: ClassVar[int] = NO_SHELL
    slot: Slot


class MoveRoot(Step):
    """Where pivot_root cannot be (the old root is the initial ramfs): move our root mount over it, and chroot there."""

    op: ClassVar[int] = 37
    man: ClassVar[str] = "mount(2) MS_MOVE"
    fidelity: ClassVar[int] = ROUGHLY

    def shell(self) -> str:
        return 'cd "$root"\nmount --move . /\nexec chroot . sh -euc "$rest"'


class Chroot(Step):
    """Only change where `/` points: for a lesson (root inside can climb out), or without a mount namespace."""

    op: ClassVar[int] = 38
    man: ClassVar[str] = "chroot(2)"
    fidelity: ClassVar[int] = ROUGHLY

    def shell(self) -> str:
        return 'exec chroot "$root" sh -euc "$rest"'


# --- names, kernel parameters, network


class Setdomainname(Step):
    """The container's own NIS domain name."""

    op: ClassVar[int] = 40
    man: ClassVar[str] = "setdomainname(2)"
    name: str

    def shell(self) -> str:
        return f"echo {quoted(self.name)} > /proc/sys/kernel/domainname"


class OpenNamespace(Step):
    """A handle of a namespace that the container's first process has been born into."""

    op: ClassVar[int] = 84
    man: ClassVar[str] = "namespaces(7)"
    kind: str  # its name in /proc/PID/ns
    slot: Slot

    def shell(self) -> str:
        return f'{variable(self.slot)}=/proc/"$init_pid"/ns/{self.kind}'


class Netlink(Step):
    """Configure the network: messages to the kernel, each acknowledged by it before the next is sent."""

    op: ClassVar[int] = 85
    man: ClassVar[str] = "netlink(7), rtnetlink(7)"
    protocol: int  # 0 rtnetlink; 12 nfnetlink, where they are one transaction
    messages: bytes
    commands: tuple[str, ...]  # the same for a shell; a message's sequence number is the number of its command
    namespace: Slot = Slots.NONE  # take effect in this network namespace; none: in that of the process itself
    link: str = ""  # the link whose number goes into messages that have UNKNOWN (plan.rtnetlink) in its place
    target: Slot = Slots.NONE  # a network namespace
    target_at: int = 0  # whose fd goes here, counted from the start of the messages
    at_end: int = 0  # not now, but when all is over, whether it failed or not; then a refusal is nobody's loss

    def typed(self) -> list[str]:
        """The commands, whenever they are due."""
        enter = f'nsenter --net="${variable(self.namespace)}" ' if self.namespace else ""
        target = f'"${variable(self.target)}"' if self.target else ""
        return [enter + command.replace("$target", target) for command in self.commands if command]

    def shell(self) -> str:
        words = "\n".join(self.typed())
        return f"trap {quoted(words)} EXIT" if words and self.at_end else words


class Lend(Step):
    """Hand a netlink socket of the network namespace that the process is in, and the namespace itself, to whoever
    holds the other end of an inherited socket."""

    op: ClassVar[int] = 97
    man: ClassVar[str] = "unix(7)"
    fidelity: ClassVar[int] = NO_SHELL
    socket: int  # its fd


class Resolve(Step):
    """A name server at 127.0.0.11 in the container's network namespace: the supervisor answers with the names of its
    networks (see network/names.py) and passes on what else is asked."""

    op: ClassVar[int] = 92
    man: ClassVar[str] = "resolv.conf(5)"
    fidelity: ClassVar[int] = NO_SHELL
    namespace: Slot  # none: its sockets come from RelayListen
    port: int
    names: str  # a directory: for each network one, with a file for each name
    networks: str  # a file: the networks that it is in
    run: str  # where a container that lives has a directory
    servers: tuple[str, ...]  # who knows the other names: addresses in hexadecimal digits


class RelayListen(Step):
    """Open the sockets that are the container's only way out: a listener for all its TCP connections, a name server's
    at 127.0.0.11, and word of packets that were dropped. They go to the supervisor."""

    op: ClassVar[int] = 94
    man: ClassVar[str] = "ip(7)"
    fidelity: ClassVar[int] = NO_SHELL
    port: int
    name_port: int
    tells: int  # of packets that were dropped; else it takes datagrams, too
    namespaces: int  # those that it is in go to the supervisor, too


class RelayStart(Step):
    """A process beside the supervisor, outside of the container, that connects what arrives there with the world, as
    far as the rules have it: with rules TCP only. It has no privileges and opens no files. What it denies is logged.
    Without rules, all is let through."""

    op: ClassVar[int] = 95
    man: ClassVar[str] = "splice(2)"
    fidelity: ClassVar[int] = NO_SHELL
    log: str  # a file of the host
    log_bytes: int  # at most so many; the newest are kept
    rules: tuple[str, ...]  # see plan.egress
    servers: tuple[str, ...]  # who knows names: addresses in hexadecimal digits
    ports: tuple[str, ...]  # published: the fd of a listener, and the container's port


class Proxy(Step):
    """Connections to ports of a family of addresses that the container does not have are taken to those that it has, by
    an unprivileged process beside the supervisor, which begins when the first one comes."""

    op: ClassVar[int] = 101
    man: ClassVar[str] = "splice(2)"
    fidelity: ClassVar[int] = NO_SHELL
    ports: tuple[str, ...]  # the fd of a listener, the container's port, and the bytes of its address


class SendNamespaces(Step):
    """The namespaces that a program beside the supervisor is to serve go there."""

    op: ClassVar[int] = 98
    man: ClassVar[str] = "unix(7)"
    fidelity: ClassVar[int] = NO_SHELL


class Beside(Step):
    """Start a program of the host's that serves the container's network, and wait until it does. It ends with the
    supervisor: it is in a PID namespace that the supervisor holds, and in the container's user namespace."""

    op: ClassVar[int] = 99
    man: ClassVar[str] = "pasta(1)"
    fidelity: ClassVar[int] = ROUGHLY
    argv: tuple[str, ...]  # and then --netns and a path

    def shell(self) -> str:
        words = " ".join([quoted(word) for word in self.argv if word != "--netns-only"])
        return f'{words} --userns "/proc/$init_pid/ns/user" --netns "/proc/$init_pid/ns/net"'


# --- standard input and output


class Discard(Step):
    """Leave somebody behind who reads what comes from a terminal, and drops it, until nobody has that open any more."""

    op: ClassVar[int] = 96
    man: ClassVar[str] = "pty(7)"
    fidelity: ClassVar[int] = NO_SHELL


class ShowLog(Step):
    """Print what a container's log has, as it was printed: from a place in one of its files on, and within a time; with
    `follow` also what comes, until standard input ends."""

    op: ClassVar[int] = 100
    man: ClassVar[str] = "inotify(7)"
    fidelity: ClassVar[int] = ROUGHLY
    prefix: str
    lock: int  # an fd of PREFIX.followed
    number: int  # of the file; 0: the first that there is
    offset: int
    timestamps: int
    since: str  # as in the log; "": from the first record
    until: str
    follow: int

    def shell(self) -> str:
        return f"cut -c41- {quoted(self.prefix)}.*"


class AwaitNotification(Step):
    """Pass on what the container says of itself until it says that it is ready."""

    op: ClassVar[int] = 83
    man: ClassVar[str] = "sd_notify(3)"
    fidelity: ClassVar[int] = NO_SHELL
    source: Slot
    target: Slot


class OpenPty(Step):
    """Open a terminal in the container's own devpts, make it fds 0, 1, 2 and /dev/console, hand the master side out.

    Where its output goes to no terminal, lines end with a plain newline; not when it is for those who attach.
    """

    op: ClassVar[int] = 45
    man: ClassVar[str] = "pty(7)"
    fidelity: ClassVar[int] = NO_SHELL
    uid: int = 0  # its group is the file system's choice
    rows: int = 0  # 0: leave the size as it is
    columns: int = 0
    console: int = 1  # show it as /dev/console, too
    socket: Slot = Slots.NONE  # who gets the master side; none: the supervisor


# --- the process itself


class Scheduler(Step):
    """Scheduling policy and priority."""

    op: ClassVar[int] = 55
    man: ClassVar[str] = "sched_setattr(2)"
    fidelity: ClassVar[int] = ROUGHLY
    policy: int
    flags: int = 0
    nice: int = 0  # as an unsigned number of 32 bits
    priority: int = 0
    runtime_ns: int = 0
    deadline_ns: int = 0
    period_ns: int = 0

    def shell(self) -> str:
        return f"chrt --pid --policy-{self.policy} {self.priority} $$"


class IoPriority(Step):
    """Class and priority in the disk's queue."""

    op: ClassVar[int] = 56
    man: ClassVar[str] = "ioprio_set(2)"
    value: int

    def shell(self) -> str:
        return f"ionice -c {self.value >> 13} -n {self.value & 7} -p $$"


class Personality(Step):
    """The execution domain: what uname(2) says of the machine."""

    op: ClassVar[int] = 57
    man: ClassVar[str] = "personality(2)"
    fidelity: ClassVar[int] = ROUGHLY
    domain: int

    def shell(self) -> str:
        return "# setarch linux32, in the exec below"


class MemoryPolicy(Step):
    """From which NUMA nodes memory comes. `nodes` is a bit mask."""

    op: ClassVar[int] = 58
    man: ClassVar[str] = "set_mempolicy(2)"
    fidelity: ClassVar[int] = ROUGHLY
    mode: int
    nodes: bytes

    def shell(self) -> str:
        return "# numactl, in the exec below"


class SendPidfd(Step):
    """Hand a stable handle of the container's process to whoever listens on a socket."""

    op: ClassVar[int] = 75
    man: ClassVar[str] = "pidfd_open(2)"
    fidelity: ClassVar[int] = NO_SHELL
    path: str


class SendListener(Step):
    """Hand the filter's listener to the program that answers for the container's system calls."""

    op: ClassVar[int] = 66
    man: ClassVar[str] = "seccomp_unotify(2)"
    fidelity: ClassVar[int] = NO_SHELL
    path: str
    state: str  # OCI ContainerProcessState; `$init_pid` is replaced
