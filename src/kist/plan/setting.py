"""What the compiler is told besides the OCI config and the host's facts: where, for whom and how a container runs."""

from __future__ import annotations

from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.compile_cable import Cable, Names
    from kist.plan.compile_egress import Egress
    from kist.plan.compile_network import HostLink

SECRETS = "/run/secrets"


class Secret(Value):
    """A file that is only ever in memory."""

    path: str
    data: bytes
    mode: int
    uid: int
    gid: int


class Files(Value):
    """How the root file system comes to be. With `path` it is that directory itself; else an overlay is mounted with a
    throw-away layer on top, so that what lies below is never written."""

    path: str = ""
    lowers: tuple[str, ...] = ()  # host directories, the uppermost first; none: begin with nothing
    erofs: str = ""  # instead: an EROFS image on the host
    devices: tuple[str, ...] = ()  # and its devices, files too
    lender: tuple[int, int] = (0, 0)  # a process that may have it mounted, and the inode of its pidfd
    filesystem: str = ""  # its type, of the image or where the lowers lie; asked only for root's user namespaces
    scratch: str = ""  # an empty host directory, for a tmpfs that only the container's mount namespace sees
    upper_filesystem: str = ""  # its type; asked only for root's user namespaces
    upper: str = ""  # a host directory that keeps what the container writes: upper and work in it; "": the tmpfs
    size_bytes: int | None = None  # of what the container writes
    trees: tuple[tuple[str, str], ...] = ()  # (host directory, where it shows), each with a throw-away layer of its own
    symlinks: tuple[tuple[str, str], ...] = ()  # (path, content)
    directories: tuple[tuple[str, int], ...] = ()  # (path, mode)
    files: tuple[tuple[str, bytes], ...] = ()  # (path, content), written in place of what is there
    secrets: tuple[Secret, ...] = ()  # below SECRETS


class Stdio(Value):
    """Without a terminal the command gets the caller's fds 0, 1, 2; those in `relays` are copied through a pipe, so
    that a terminal of the caller's is never in the container's hands."""

    stdin: str = "pass"  # "pass", "null"
    relays: tuple[int, ...] = ()
    console_socket: str = ""  # with a terminal: who gets its master side; "" is the supervisor
    detached: bool = False  # no fd of the caller's: pipes (or a terminal) that the supervisor holds; needs Attend
    own_files: bool = False  # not only pipes but also files and sockets become the user's (runc does that)
    inherited_fds: int = 0  # fds 3, 4, ... that the command gets


class Attend(Value):
    """What the supervisor does for a container that is kept, besides supervising: with mode RUN. See steps.Attend.

    With Stdio.detached nobody else looks after it; else what it prints goes to the caller's fds 1 and 2 as well."""

    logs: str  # path prefix of the log's files: logs + ".1", ".2", ...; the highest is written to
    log_bytes: int  # of one file
    log_count: int  # how many are kept
    socket: str  # where `attach` connects
    ended: str  # a file: how the command ended
    after: tuple[str, ...] = ()  # what the supervisor becomes when everything is undone
    health: tuple[str, ...] = ()  # started again health_ms after it has ended
    health_ms: int = 0


# How long the launcher stays.
RUN = "run"  # until the command has ended
CREATE = "create"  # until it is ready and waits for `start`
DETACH = "detach"  # until it runs


class Setting(Value):
    """All paths are absolute paths of the host."""

    id: str
    files: Files
    mode: str = RUN
    bundle: str = ""  # relative sources and the root path begin here
    stdio: Stdio = Stdio()
    attend: Attend | None = None
    removals: tuple[str, ...] = ()  # what else is to be removed at the end, last one first
    state_file: str = ""  # gets `state` when the process is there
    state: str = ""  # a JSON object; "$init_pid" in it is replaced
    hook_state: str = ""  # the same for hooks: OCI runtime.md, "State"
    pid_file: str = ""
    pidfd_socket: str = ""  # gets a handle of the process
    notify_directory: str = ""  # shown at NOTIFY_PATH: gets a socket for sd_notify(3), unless with CREATE
    notify_socket: str = ""  # the host's, to which it is passed on
    links: tuple[HostLink, ...] = ()  # the host's that linux.netDevices names, as far as they exist
    cables: tuple[Cable, ...] = ()
    shared: str = ""  # the cables' other ends are in this network namespace, in which the container's user is root
    pasta: tuple[str, ...] = ()  # the program that is its way out, and arguments
    egress: Egress | None = None  # a relay is the only way out, besides to where cables lead
    own_sockets: bool = False  # none that reaches past the network namespace, whatever the container's filter says
    names: Names | None = None  # with cables: a name server of the container's own
    listen_fds: int = 0  # of the inherited fds, those that the command is told about
    start_fifo: str = ""  # with CREATE
    oom_text: str = ""  # said at the end when the kernel killed for want of memory
    timeout_ms: int = 0
    timeout_text: str = ""
    reaper: bool = False  # a small PID 1 of ours
    keep_groups: bool = False  # the caller's supplementary groups stay
    groups_denied: bool = False  # the user namespace that is entered allows no setgroups(2): they stay, too
    known_calls: bool = False  # a filter that names a system call nobody knows is an error
    hook_output: tuple[str, str] = ("", "")  # files for hooks' standard output and error
    optional_limits: tuple[
        str, ...
    ] = ()  # those below linux.resources that give way to a note where the kernel has none
    find_home: bool = False  # HOME, where the environment has none, is what the container's /etc/passwd says
    path: str = ""  # where the command is looked up if its environment has no PATH
    cgroup: bool = True
    exclusive_cgroup: bool = True  # the cgroup must not exist yet
    release: str = ""  # a file: what is written there says that the container's process is in its cgroup
    keep_cgroup: bool = False  # it stays when the container has ended
    reset_affinity: bool = False  # the command may run on all CPUs of its cgroup, whatever the caller's own affinity
    pivot: bool = True
    visible_mounts: tuple[str, ...] = ()  # without pivot: where the host has procfs and sysfs; all are covered
    keyring: bool = True
    overlay: bool = True
    device_filter: bool = True
    default_devices: bool = False  # device rules end with those that every container needs, as in runc and crun
    can_pause: bool = True  # a freezer for Ctrl-Z and `pause`
    updatable: bool = False  # cgroup v1: a place in each hierarchy that `kist update` writes to
    all_hierarchies: bool = False  # cgroup v1: a place in each, so that any limit can be set later
    allow_unenforced: bool = False
    clamp: bool = False  # rlimits and capabilities beyond what this host can give: less, and a note; else an error

    @property
    def piped(self) -> tuple[int, ...]:
        """Without a terminal: those of fds 0, 1, 2 that are pipes between the command and its supervisor."""
        if self.stdio.detached:
            return (0, 1, 2) if self.stdio.stdin == "pass" else (1, 2)
        return tuple(sorted({*self.stdio.relays, *((1, 2) if self.attend else ())}))
