"""An OCI container between two commands: a directory below the runtime's root, and what can be seen of its process.

    ROOT/ID/record       written before the first resource: what `delete` has to remove
    ROOT/ID/ordinary     what kist-oci's front may do by itself: ordinary.py
    ROOT/ID/config.json  the bundle's, as it was
    ROOT/ID/state.json   when the first process is there, by the launcher
    ROOT/ID/exec.fifo    a FIFO, until `start`
    ROOT/ID/criu-root    an empty directory, during `restore`

Source: OCI runtime.md, "State"; runc and crun keep the same kind of directory.
"""

from __future__ import annotations

from kist.codec import I64, decode_text
from kist.errors import Conflict, CorruptStore, InvalidInput, KistError, NotFound
from kist.plan.flags import CLONE_NEWPID
from kist.system import os
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kist.spec.runtime import Spec

CREATING, CREATED, RUNNING, STOPPED, PAUSED = "creating", "created", "running", "stopped", "paused"
# Shares of the disk: docker and runc do without them, with a warning, where the kernel's scheduler has none. And what
# only v1 can limit by itself.
OPTIONAL_LIMITS = ("blockIO.weight", "blockIO.leafWeight", "blockIO.weightDevice", "memory.kernelTCP")
CRIU_ROOT = "criu-root"  # where the root file system is mounted while criu brings a container back
_ID = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Record(Value):
    """What a container holds on the host. `namespaces`: clone flags of those that its processes are in.

    Most commands need no more than this: reading the whole config takes 3 ms.
    """

    id: str
    bundle: str
    rootfs: str
    oci_version: str
    created_ns: I64
    cgroups: tuple[str, ...] = ()
    freezer: str = ""
    namespaces: int = 0
    unit: str = ""  # systemd's, whose cgroup it is
    annotations: Mapping[str, str] = {}
    owner: int = 0
    creator: int = 0  # the process that makes it, which stays with `run`
    hooks: tuple[str, ...] = ()  # those of the config that are still to come: poststart, poststop
    empty: bool = False  # no process in the config
    shares_pids: bool = False  # its PID namespace is another container's

    @property
    def ends_with_first(self) -> bool:
        """Whether the kernel ends all of its processes when the first ends: pid_namespaces(7)."""
        return bool(self.namespaces & CLONE_NEWPID) and not self.shares_pids


class _State(Value):
    pid: int


def check_id(id: str) -> str:
    """Raises InvalidInput for what is no container id: letters, digits and _ + - . but no dot first."""
    if not id or not _ID.issuperset(id) or id[0] == "." or len(id) > 1024:
        wrong = next((f": invalid character `{char}` in the ID" for char in id if char not in _ID), "")
        what = f"invalid container ID format: {id!r}{wrong}"
        raise InvalidInput(what, next="letters, digits and _ + - . but no dot first", code="bad-id")
    return id


class Containers:
    """All containers below one root directory."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def path(self, id: str) -> str:
        return f"{self.root}/{check_id(id)}"

    def make(self, id: str) -> str:
        """The container's new directory. Raises Conflict when the id is taken."""
        path = self.path(id)
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        try:
            os.mkdir(path, 0o711)
        except FileExistsError as e:
            raise Conflict(
                f"container with given ID already exists: {id}", next="delete it, or choose another id"
            ) from e
        return path

    def load(self, id: str) -> Container:
        """Raises NotFound when there is none, CorruptStore when its record cannot be read."""
        path = self.path(id)
        try:
            with open(f"{path}/record", "rb", buffering=0) as file:
                record = decode_text(Record, file.read(), f"{path}/record")
        except FileNotFoundError as e:
            if os.path.isdir(path):
                raise CorruptStore(f"the record of container {id} is lost", next=f"delete --force {id}") from e
            raise NotFound(f"container {id!r} does not exist", why=f"there is no {path}") from e
        except (InvalidInput, IsADirectoryError) as e:
            raise CorruptStore(
                f"the record of container {id} is damaged", why=str(e), next=f"delete --force {id}"
            ) from e
        return Container(path, record)

    def __iter__(self) -> Iterator[Container]:
        try:
            names = sorted(os.listdir(self.root))
        except FileNotFoundError:
            return
        for name in names:
            try:
                yield self.load(name)
            except KistError:
                continue  # gone meanwhile, being made, or damaged


class Container:
    def __init__(self, path: str, record: Record) -> None:
        self.path, self.record = path, record
        self.id = record.id

    @property
    def fifo(self) -> str:
        return f"{self.path}/exec.fifo"

    @property
    def pid(self) -> int:
        """The first process, 0 before it is there and after it has ended."""
        try:
            with open(f"{self.path}/state.json", "rb", buffering=0) as file:
                pid = decode_text(_State, file.read(), f"{self.path}/state.json").pid
                written_s = os.fstat(file.fileno()).st_mtime
        except (FileNotFoundError, IsADirectoryError, InvalidInput):
            return 0
        return pid if _is_alive(pid, written_s) else 0

    def status(self) -> str:
        if not self.pid:
            written_s = os.stat(f"{self.path}/record").st_mtime
            made = os.path.exists(f"{self.path}/state.json") or not _is_alive(self.record.creator, written_s)
            return STOPPED if made else CREATING
        if os.path.exists(self.fifo):
            return CREATED
        return PAUSED if is_frozen(self.record.freezer) else RUNNING

    def spec(self) -> Spec:
        """The config as it was at creation. Raises CorruptStore."""
        from kist.spec.runtime import Spec

        try:
            with open(f"{self.path}/config.json", "rb", buffering=0) as file:
                return decode_text(Spec, file.read(), "config.json")
        except (OSError, InvalidInput) as e:
            raise CorruptStore(f"the config of container {self.id} cannot be read", why=str(e)) from e

    def state(self, status: str = "") -> dict[str, object]:
        """OCI's state and, like runc's, when, whose and from where."""
        status = status or self.status()
        return state_of(self.record, 0 if status == STOPPED else self.pid, status)


def state_of(record: Record, pid: int | str, status: str) -> dict[str, object]:
    """See Container.state."""
    found: dict[str, object] = {
        "ociVersion": record.oci_version,
        "id": record.id,
        "pid": pid,
        "status": status,
        "bundle": record.bundle,
        "rootfs": record.rootfs,
        "created": rfc3339(record.created_ns),
        "owner": _user_name(record.owner),
    }
    return found | ({"annotations": dict(record.annotations)} if record.annotations else {})


def hook_state(record: Record, status: str, pid: str) -> str:
    """OCI's state, as hooks get it. `pid` is a number or "$init_pid"."""
    from kist.codec import dumps

    state: dict[str, object] = {"ociVersion": record.oci_version, "id": record.id, "status": status}
    rest: dict[str, object] = {"bundle": record.bundle}
    rest |= {"annotations": dict(record.annotations)} if record.annotations else {}
    return f'{dumps(state)[:-1]},"pid":{pid},{dumps(rest)[1:]}'


def remove_directory(path: str) -> None:
    """A container's directory. Raises InvalidInput for what kist has not put there."""
    if not os.path.isdir(path) or os.path.islink(path):
        return
    for name in os.listdir(path):
        try:
            os.unlink(f"{path}/{name}")
        except IsADirectoryError:
            if name in ("notify", CRIU_ROOT):
                remove_directory(f"{path}/{name}")
                continue
            try:
                os.rmdir(f"{path}/{name}")
            except OSError as e:
                raise InvalidInput(f"{path}/{name} is not kist's", why="a container's directory has no others") from e
        except FileNotFoundError:
            pass
    os.rmdir(path)


def hook_output(annotations: Mapping[str, str]) -> tuple[str, str]:
    """Files that get what hooks say. Source: crun(1), "run.oci.hooks.stdout"."""
    return annotations.get("run.oci.hooks.stdout", ""), annotations.get("run.oci.hooks.stderr", "")


def is_frozen(freezer: str) -> bool:
    if not freezer:
        return False
    try:
        with open(freezer, encoding="ascii") as file:
            return file.read().strip() in ("FROZEN", "FREEZING", "1")
    except OSError:
        return False


def _is_alive(pid: int, written_s: float) -> bool:
    """Whether this is the process that the file was written about: it runs, and was there before the file."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read().rpartition(b")")[2].split()
        with open("/proc/uptime", "rb", buffering=0) as file:
            uptime_s = float(file.read().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return False
    import time

    started_s = time.time() - uptime_s + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return fields[0] not in (b"Z", b"X") and started_s < written_s + 1


def rfc3339(time_ns: int) -> str:
    """`2026-11-25T12:00:00.123456789Z`."""
    import time

    seconds, rest = divmod(time_ns, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def _user_name(uid: int) -> str:
    from kist.kernel.subids import parse_user_name

    try:
        with open("/etc/passwd", "rb", buffering=0) as file:
            return parse_user_name(file.read(1 << 20).decode(errors="replace"), uid) or f"#{uid}"
    except OSError:
        return f"#{uid}"
