"""The volatile state: a directory per container under the run directory, made and locked before its first resource.

    RUN/ID/record    what a sweep must remove; written before any of it exists
    RUN/ID/state     the first process, once there is one
    RUN/ID/scratch   mount point, empty as seen from the host

The lock is held by the launcher for as long as the container lives: whoever gets it may sweep.
"""

from __future__ import annotations

import fcntl
import os

from kist.codec import decode_text, dumps
from kist.errors import InvalidInput, NotFound, Refused
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeVar

    V = TypeVar("V", bound=Value)

_NEW = ".new-"  # being made: not a container yet


class Record(Value):
    """`cgroups`: absolute directories, all that the plan may have made."""

    id: str
    name: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    created_ns: int = 0
    labels: Mapping[str, str] = {}
    cgroups: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


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

    def ids(self) -> list[str]:
        try:
            return [name for name in os.listdir(self.base) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def records(self) -> Iterator[Record]:
        for id in self.ids():
            try:
                yield self.read(id)
            except (NotFound, InvalidInput):
                continue  # gone meanwhile, or damaged: a sweep's business

    def read(self, id: str) -> Record:
        return _load(Record, f"{self.base}/{id}/record")

    def find(self, name_or_id: str) -> Record:
        """By name, id, or the beginning of an id that only one has. Raises NotFound with the nearest name."""
        from kist.errors import Conflict

        found = list(self.records())
        exact = [r for r in found if name_or_id in (r.name, r.id)]
        prefix = [r for r in found if name_or_id and r.id.startswith(name_or_id)]
        matches = exact or prefix
        if len(matches) > 1:
            raise Conflict(f"{name_or_id!r} may mean {len(matches)} containers", next="write more of the id")
        if not matches:
            from kist.plan.words import nearest

            near = nearest(name_or_id, [r.name for r in found if r.name])
            raise NotFound(f"no container {name_or_id!r}", next=f"did you mean {near!r}?" if near else "")
        return matches[0]

    def pid(self, id: str) -> int:
        """The first process. Raises NotFound before there is one."""
        return _load(Running, f"{self.base}/{id}/state").pid

    def sweep(self) -> None:
        """Remove what killed runs left: their directories are not locked any more."""
        for name in os.listdir(self.base):
            path = f"{self.base}/{name}"
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

    def _bury(self, path: str) -> None:
        try:
            record = _load(Record, f"{path}/record")
        except (NotFound, InvalidInput):
            record = None  # killed before the record was whole: before any resource
        if record and record.cgroups:
            from kist.kernel.cgroup import remove_cgroups

            remove_cgroups(record.cgroups)
        _remove(path)
        if record and record.networks:
            from kist.network.attach import bury

            bury(self)


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
        with open(path, "rb", buffering=0) as file:
            return decode_text(cls, file.read(), path)
    except FileNotFoundError as e:
        raise NotFound(f"no file {path}") from e


def _is_young(fd: int) -> bool:
    import time

    return time.time() - os.fstat(fd).st_mtime < 60


def _remove(path: str) -> None:
    for name in ("record", "state", "state.kist"):
        try:
            os.unlink(f"{path}/{name}")
        except FileNotFoundError:
            pass
    for directory in (f"{path}/scratch", path):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
