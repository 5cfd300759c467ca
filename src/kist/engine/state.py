"""The volatile state: a directory per container under the run directory, made and locked before its first resource.

    RUN/ID/record    what a sweep must remove; written before any of it exists
    RUN/ID/state     the first process, once there is one
    RUN/ID/scratch   mount point, empty as seen from the host

The lock is held by the launcher for as long as the container lives: whoever gets it may sweep.
"""

from __future__ import annotations

import fcntl

from kist.codec import decode_text, dumps
from kist.errors import Conflict, InvalidInput, KistError, NotFound, Refused
from kist.plan.request import RunRequest
from kist.system import os
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping
    from typing import TypeVar

    V = TypeVar("V", bound=Value)

_NEW = ".new-"  # being made: not a container yet
_NAME = ".name-"  # a symlink to the id of the container that has this name
_LENT = ".lent-"  # a symlink: who lends the tree of an image to others


class Record(Value):
    """`cgroups`: absolute directories, all that the plan may have made. `request`: what runs, with what the image adds;
    None in the record of a container that is kept. `restarting`: nothing runs, its restart policy waits."""

    id: str
    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    created_ns: int = 0
    labels: Mapping[str, str] = {}
    cgroups: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()  # published by a relay: PROTOCOL ADDRESS PORT TARGET, the address in hexadecimal digits
    shared: str = ""  # see network/shared.py
    freezer: str = ""
    namespaces: int = 0  # clone flags of those that are its own
    request: RunRequest | None = None
    restarting: bool = False


class Running(Value):
    """The container's first process, by its number on the host."""

    pid: int


def run_directory(environ: Mapping[str, str]) -> str:
    """Where the volatile state lies: KIST_RUN_DIR, /run/kist for root, else XDG_RUNTIME_DIR/kist or /tmp/kist-UID."""
    if chosen := environ.get("KIST_RUN_DIR"):
        return os.path.abspath(chosen)
    if os.geteuid() == 0:
        return "/run/kist"
    base = environ.get("XDG_RUNTIME_DIR", "")
    return f"{base}/kist" if base.startswith("/") else f"/tmp/kist-{os.geteuid()}"


class StateDirectory:
    """All containers of one user under one run directory."""

    def __init__(self, base: str) -> None:
        self.base = base

    def prepare(self) -> None:
        """Raises Refused when somebody else could write there."""
        try:
            os.makedirs(self.base, mode=0o700, exist_ok=True)
        except OSError as e:
            raise Refused(
                f"cannot make {self.base}: {e.strerror}", next="set KIST_RUN_DIR to a directory of yours"
            ) from e
        status = os.stat(self.base, follow_symlinks=False)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise Refused(f"{self.base} belongs to another user or others may write to it", next="set KIST_RUN_DIR")

    def new(self, record: Record) -> State:
        """A directory with its record in it, locked from the first moment it can be seen."""
        state = self.reserve(record.id)
        try:
            state.publish(record)
        except BaseException:
            state.remove()
            raise
        return state

    def reserve(self, id: str) -> State:
        """The directory of a container to be, which is locked but not there for others yet: `State.publish` it."""
        making = f"{self.base}/{_NEW}{id}"
        os.mkdir(making, 0o700)
        fd = os.open(making, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            os.rmdir(making)
            os.close(fd)
            raise
        return State(making, fd)

    def claim(self, name: str, id: str) -> str:
        """A name for as long as the container runs: the path of a symlink to be removed with it. Raises Conflict."""
        link = f"{self.base}/{_NAME}{name}"
        for _ in range(3):
            try:
                os.symlink(id, link)
                return link
            except FileExistsError:
                if holder := self.named(name):
                    raise Conflict(
                        f"the name {name!r} is taken", why=f"the container {holder[:12]} runs", next="another --name"
                    ) from None
                self._forget(link)
        raise Conflict(f"the name {name!r} is taken", why="others want it, too", next="another --name")

    def named(self, name: str) -> str:
        """The id of the running container that claimed this name; "": there is none."""
        try:
            id = os.readlink(f"{self.base}/{_NAME}{name}")
        except OSError:
            return ""
        return id if self.holds(id) else ""

    def _forget(self, link: str) -> None:
        try:
            os.unlink(link)
        except FileNotFoundError:
            pass

    def holds(self, id: str) -> bool:
        """Whether a container has, or is getting, a directory here that somebody still needs."""
        if os.path.lexists(f"{self.base}/{id}"):
            return True
        try:
            fd = os.open(f"{self.base}/{_NEW}{id}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return os.path.lexists(f"{self.base}/{id}")  # it may have got its name meanwhile
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return os.path.lexists(f"{self.base}/{id}")

    def is_locked(self, id: str) -> bool:
        """Whether somebody looks after a container of that id: it runs, or is just being started."""
        try:
            fd = os.open(f"{self.base}/{id}", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def ids(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.base) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def records(self, but: Container[str] = ()) -> Iterator[Record]:
        for id in self.ids():
            if id in but:
                continue
            try:
                yield self.read(id)
            except (NotFound, InvalidInput):
                continue  # gone meanwhile, or damaged: a sweep's business

    def read(self, id: str) -> Record:
        return _load(Record, f"{self.base}/{id}/record")

    def pid(self, id: str) -> int:
        """The first process. Raises NotFound before there is one."""
        return _load(Running, f"{self.base}/{id}/state").pid

    def supervisor(self, id: str) -> int:
        """Who looks after a container that runs; 0: nobody was found. It may be gone by now."""
        try:
            with open(f"/proc/{self.pid(id)}/status", encoding="utf-8", errors="replace") as file:
                return next(int(line.split()[1]) for line in file if line.startswith("PPid:"))
        except (OSError, KistError):
            return 0

    def lender(self, tree: str) -> tuple[int, int]:
        """A supervisor that has this tree of an image mounted, and the inode of its pidfd, which no later process of
        that number has. (0, 0): nobody is known. Source: pidfd_open(2); Linux 6.9's pidfs."""
        return self._lender(self.lent(tree))

    def _lender(self, link: str) -> tuple[int, int]:
        try:
            pid, inode = map(int, os.readlink(link).split())
            return (pid, inode) if _pidfd_inode(pid) == inode else (0, 0)
        except (OSError, ValueError):
            return 0, 0

    def lend(self, tree: str, pid: int, id: str) -> None:
        """From now on this supervisor is the one to ask. It may not have the tree yet: then others mount their own."""
        link = self.lent(tree)
        making = f"{link}.{pid}"
        try:
            os.symlink(f"{pid} {_pidfd_inode(pid)}", making)
            os.rename(making, link)
        except OSError:
            pass  # it is over already, or nothing can be written: memory is used twice
        if not os.path.lexists(f"{self.base}/{id}/record"):  # this goes before the link does: see Making
            self._forget(link)

    def lent(self, tree: str) -> str:
        """A symlink: who lends it."""
        return f"{self.base}/{_LENT}{os.path.basename(os.path.dirname(tree))}"

    def any_supervisor(self) -> int:
        """Who looks after one of the containers that run."""
        return next((pid for id in self.ids()[:4] if (pid := self.supervisor(id))), 0)

    def shared(self) -> Iterator[str]:
        """Who has the network namespace open that containers share: PID FD INODE."""
        for record in self.records():
            if record.shared and (pid := self.supervisor(record.id)):
                yield f"{pid} {record.shared}"

    def sweep(self, id: str = "") -> None:
        """Remove what killed runs left, or one: their directories are not locked any more."""
        for name in [id] if id else os.listdir(self.base):
            path = f"{self.base}/{name}"
            if name.startswith(_NAME) and not self.named(name.removeprefix(_NAME)):
                self._forget(path)
            if name.startswith(_LENT) and self._lender(path) == (0, 0):
                self._forget(path)
            if name.startswith(".") and not name.startswith(_NEW):
                continue  # what containers share
            try:
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if name.startswith(_NEW) and _is_young(fd):
                    continue  # between its making and its lock
                self._bury(path)
            except BlockingIOError:
                pass  # alive
            finally:
                os.close(fd)
        if os.path.exists(f"{self.base}/.network/changing"):
            from kist.engine.changing import finish

            finish(self)

    def _bury(self, path: str) -> None:
        try:
            record = _load(Record, f"{path}/record")
        except (NotFound, InvalidInput):
            record = None  # killed before the record was whole: before any resource
        if record and record.cgroups:
            from kist.kernel.cgroup import remove_cgroups

            remove_cgroups(record.cgroups)
        if record and record.networks:  # while the directory says that there is something left
            from kist.network.attach import release

            release(self, record.id)
        _remove(path)


def _pidfd_inode(pid: int) -> int:
    fd = os.pidfd_open(pid)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


class State:
    """One container's directory and lock."""

    def __init__(self, path: str, fd: int) -> None:
        self.path, self.fd = path, fd

    @property
    def scratch(self) -> str:
        return f"{self.path}/scratch"

    @property
    def removals(self) -> tuple[str, ...]:
        """For plan.setting: what the launcher removes when the container is gone."""
        return (self.path, f"{self.path}/record", self.scratch)

    def publish(self, record: Record) -> None:
        """From now on others see it."""
        os.mkdir("scratch", 0o700, dir_fd=self.fd)
        file = os.open("record", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        os.write(file, dumps(record).encode())
        os.close(file)
        path = f"{os.path.dirname(self.path)}/{record.id}"
        os.rename(self.path, path)
        self.path = path

    def close(self) -> None:
        """Let go of the lock: it is the launcher's now."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def remove(self) -> None:
        """When it never came to a launcher."""
        _remove(self.path)
        self.close()


def _load(cls: type[V], path: str) -> V:
    try:
        return decode_text(cls, read_file(path), path)
    except FileNotFoundError as e:
        raise NotFound(f"no file {path}") from e


def read_file(path: str) -> bytes:
    """All of it, in three system calls where open() takes seven: `ps` reads a thousand. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 1 << 16)
        while len(data) >> 16 and (more := os.read(fd, 1 << 20)):
            data += more
        return data
    finally:
        os.close(fd)


def _is_young(fd: int) -> bool:
    import time

    return time.time() - os.fstat(fd).st_mtime < 60


def _remove(path: str) -> None:
    for name in ("record", "state", "state.kist", "attach", "health"):
        try:
            os.unlink(f"{path}/{name}")
        except FileNotFoundError:
            pass
    for directory in (f"{path}/scratch", path):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
