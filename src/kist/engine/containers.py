"""The containers: those that are kept, each in a directory of its own, and those that only run.

    DATA/containers/ID/config    what it is; never written again but by rename and update
    DATA/containers/ID/started   when, and for which time, it was started last: written before it is
    DATA/containers/ID/ended     how it ended, written by its supervisor; removed before it is started again
    DATA/containers/ID/*.old     the two above, of the run before: to go back to when it cannot be started
    DATA/containers/ID/stopped   somebody stopped it: a restart policy leaves it alone
    DATA/containers/ID/health    how it was lately, see health.py
    DATA/containers/ID/rw/       what it wrote over its image
    DATA/containers/ID/log.N     what it said, see engine/logs.py; recent.N: the last of it, with --log-driver none
    DATA/containers/.names/NAME  a symlink whose content is the ID
    RUN/ID                       while it runs, see state.py; locked by its supervisor
    RUN/.name-NAME               the same for containers that are not kept

A directory appears, and goes, by rename(2). What a killed command left has a name with a dot, and the next one that
makes or removes a container removes it. Whoever starts, removes or changes a container holds the lock of its directory.
Status is never written down: who is locked runs; who has `ended` has exited; who was started and has not was lost, with
its supervisor or with the power.
"""

from __future__ import annotations

import errno
import fcntl
import os

from kist.codec import decode_text, dumps
from kist.engine.naming import name_of, names_of
from kist.engine.state import Record, StateDirectory, read_file, run_directory
from kist.errors import Conflict, InvalidInput, KistError, NotFound
from kist.plan.request import RunRequest
from kist.store.data import StoreErrors, check_private, default_data_dir
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TypeVar

    V = TypeVar("V", bound=Value)

LOST = 255  # the exit status of a container whose supervisor was killed
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Config(Value):
    """`request` is what was asked for with what the image adds; `image` the digest of the image's manifest."""

    id: str
    name: str
    created_ns: int
    request: RunRequest
    image: str = ""


class Started(Value):
    """`restarts`: how often its restart policy has started it since somebody did."""

    at_ns: int
    restarts: int = 0


class Ended(Value):
    """`code`: exit status, or 128 and the signal's number. `error`: why it could not be started."""

    code: int
    ended_ns: int = 0
    signaled: bool = False
    timed_out: bool = False
    wall_ns: int = 0
    user_us: int = 0
    system_us: int = 0
    max_rss_bytes: int = 0
    reports: Mapping[str, str] = {}
    error: str = ""

    @property
    def oom_killed(self) -> bool:
        from kist.kernel.cgroup import parse_usage

        return bool(parse_usage(self.reports).oom_kills)


class Container:
    """One container as it is found on the disk: everything but `config` is read when it is asked for."""

    def __init__(self, config: Config, directory: str, states: StateDirectory) -> None:
        self.config, self.directory, self.states = config, directory, states

    @property
    def id(self) -> str:
        return self.config.id

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def kept(self) -> bool:
        """False: it is gone with its end."""
        return bool(self.directory)

    @property
    def path(self) -> str:
        """Its directory. Raises Conflict when it has none."""
        if not self.directory:
            raise Conflict(f"{self.name} keeps nothing", why="it was started in the foreground with --rm, or by "
                           "kist.run()", next="leave out --rm", code="not-kept")  # fmt: skip
        return self.directory

    @property
    def record(self) -> Record | None:
        """None: it does not run."""
        try:
            return self.states.read(self.id) if self.locked else None
        except (NotFound, InvalidInput):
            return None

    @property
    def locked(self) -> bool:
        """Somebody looks after it: it runs, or is just being started or removed."""
        return self.states.is_locked(self.id)

    @property
    def started(self) -> Started | None:
        return self.load(Started, "started")

    @property
    def ended(self) -> Ended | None:
        """How it ended, also for one that was lost; None while it runs and before it was started."""
        found = self.load(Ended, "ended")
        if found is None and not self.locked and self.started:
            self._sweep_lost()
            again = Container.load(self, Ended, "ended") or self.load(Ended, "ended.new")  # the disk is read-only now
            return again or Ended(LOST, error="its supervisor was killed, or the machine stopped")
        return found

    def _sweep_lost(self) -> None:
        """A first process that changed its user id, or one without a PID namespace, outlives its supervisor: prctl(2),
        PR_SET_PDEATHSIG. Whoever hears that it has ended is told the truth."""
        try:
            self.states.sweep(self.id)
        except (KistError, OSError):
            pass  # who makes the next container is told

    def load(self, cls: type[V], name: str) -> V | None:
        """One of its files; None when there is none, or it is damaged."""
        if not self.directory:
            return None
        try:
            return decode_text(cls, read_file(f"{self.directory}/{name}"), f"{self.directory}/{name}")
        except (FileNotFoundError, InvalidInput):
            return None

    @property
    def status(self) -> str:
        """Docker's word: created, running, paused, restarting, exited."""
        record = self.record
        if record:
            return "restarting" if record.restarting else "paused" if is_frozen(record.freezer) else "running"
        if self.locked:
            return "created"  # being started
        return "exited" if self.started else "created"

    @property
    def running(self) -> bool:
        return self.status in ("running", "paused")

    @property
    def pid(self) -> int:
        """The first process, on the host. Raises Conflict when it does not run."""
        record = self.record
        try:
            if record and not record.restarting:
                return self.states.pid(self.id)
        except (NotFound, InvalidInput):
            pass
        raise Conflict(f"{self.name} does not run", next=f"kist start {self.name}", code="not-running")

    @property
    def was_stopped(self) -> bool:
        """Somebody stopped it, and it was not started since."""
        return self.kept and os.path.exists(f"{self.directory}/stopped")

    def write(self, name: str, value: Value) -> None:
        """One of its files, whole, with the container locked. On a full disk in the room of the one before, if any."""
        path, text = f"{self.path}/{name}", dumps(value)
        with StoreErrors(f"cannot write {name} of {self.name}"):
            try:
                with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(text)
                os.rename(f"{path}.new", path)
            except OSError as e:
                if e.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._write_over(path, text):
                    raise

    def _write_over(self, path: str, text: str) -> bool:
        """False: there was none, or what it had of the disk is less."""
        data = text.encode("utf-8", "surrogateescape")
        for before in (f"{path}.old", path):
            try:
                with open(before, "r+b", buffering=0) as file:
                    if file.write(data) == len(data):
                        file.truncate()
                        os.rename(before, path)
                        return True
            except OSError:
                continue
        return False

    def keep_old(self, name: str, *, move: bool) -> None:
        """As `NAME.old`, to go back to. Raises KistError."""
        path = f"{self.path}/{name}"
        with StoreErrors(f"cannot start {self.name}"):
            self.forget(f"{name}.old")
            try:
                (os.rename if move else os.link)(path, f"{path}.old")
            except FileNotFoundError:
                pass

    def go_back(self, name: str) -> bool:
        """To `NAME.old`. False: there is none. Raises OSError."""
        path = f"{self.path}/{name}"
        try:
            os.rename(f"{path}.old", path)
            self.forget(f"{name}.old")  # both were the same file
        except FileNotFoundError:
            return False
        return True

    def forget(self, name: str) -> None:
        try:
            os.unlink(f"{self.path}/{name}")
        except FileNotFoundError:
            pass


class Still(Container):
    """As it is found at one moment: each of its files is read at most once, however often it is asked for."""

    def __init__(self, container: Container) -> None:
        super().__init__(container.config, container.directory, container.states)
        self._seen: dict[str, object] = {}

    @property
    def record(self) -> Record | None:
        if "record" not in self._seen:
            self._seen["record"] = super().record
        return self._seen["record"]  # type: ignore[return-value]

    @property
    def locked(self) -> bool:
        if "locked" not in self._seen:
            self._seen["locked"] = super().locked
        return bool(self._seen["locked"])

    @property
    def status(self) -> str:
        if "status" not in self._seen:
            self._seen["status"] = super().status
        return str(self._seen["status"])

    def load(self, cls: type[V], name: str) -> V | None:
        if name not in self._seen:
            self._seen[name] = super().load(cls, name)
        return self._seen[name]  # type: ignore[return-value]


class Containers:
    """All containers of this user. Safe for concurrent processes."""

    def __init__(self, data_dir: str = "", states: StateDirectory | None = None) -> None:
        self.data_dir = data_dir or default_data_dir(os.environ)
        self.base = f"{self.data_dir}/containers"
        self.states = states or StateDirectory(run_directory(os.environ))

    # --- making

    def prepare(self) -> None:
        """Make the directories. Raises KistError."""
        from kist.store.data import create

        create(self.data_dir)
        self.states.prepare()
        with StoreErrors(f"cannot make {self.base}"):
            for path in (self.base, f"{self.base}/.names"):
                try:
                    os.mkdir(path, 0o700)
                except FileExistsError:
                    pass
            self._sweep()

    def add(self, config: Config) -> Container:
        """Keep a new container, under its name or, for "", one that is free. Raises Conflict."""
        making = f"{self.base}/.new-{config.id}"
        path = f"{self.base}/{config.id}"
        with StoreErrors("cannot make the container"):
            lock = _make_locked(making)
            try:
                os.mkdir(f"{making}/rw", 0o700)
                config = replace(config, name=self.claim(config.name, config.id))
                try:
                    with open(f"{making}/config", "w", encoding="utf-8", errors="surrogateescape") as file:
                        file.write(dumps(config))
                    os.rename(making, path)
                except BaseException:
                    os.unlink(f"{self.base}/.names/{config.name}")
                    raise
            except BaseException:
                remove_files(self.base, os.path.basename(making))
                raise
            finally:
                os.close(lock)
        return Container(config, path, self.states)

    def claim(self, name: str, id: str) -> str:
        """A name for a container that is kept from now on. Raises Conflict when another has it."""
        for candidate in [name] if name else names_of(id):
            if self.states.named(candidate):
                continue
            link = f"{self.base}/.names/{candidate}"
            try:
                os.symlink(id, link)
            except FileExistsError:
                if not self._replace(link, id):
                    continue
            return candidate
        holder = self._named(name) or ""
        raise Conflict(f"the name {name!r} is taken", why=f"the container {holder[:12]} has it" if holder else
                       "a container of that name runs", next=f"another --name, or kist rm {name}")  # fmt: skip

    def _replace(self, link: str, id: str) -> bool:
        """Take over the name of one that is gone. False: it is there."""
        with Locked(self.base):
            holder = os.readlink(link) if os.path.islink(link) else ""
            if holder and (os.path.exists(f"{self.base}/{holder}") or os.path.exists(f"{self.base}/.new-{holder}")):
                return False
            making = f"{link}.{id[:12]}"
            os.symlink(id, making)
            os.rename(making, link)
            return True

    def rename(self, container: Container, name: str) -> None:
        """Raises Conflict."""
        self.claim(name, container.id)
        from kist.engine.events import note

        container.write("config", replace(container.config, name=name))
        note(container, "rename", oldName=container.name)
        try:
            os.unlink(f"{self.base}/.names/{container.name}")
        except FileNotFoundError:
            pass

    # --- finding

    def all(self) -> Iterator[Container]:
        """The kept ones and those that only run; one that is damaged is left out."""
        ids = set(self._ids())
        for id in ids:
            found = self._get(id)
            if found:
                yield found
        for record in self.states.records(but=ids):
            if self.states.is_locked(record.id):
                yield self._passing(record)

    def find(self, text: str, *, but: str = "") -> Container:
        """By name, id, or the beginning of an id that only one has; not the one with the id `but`.

        Raises NotFound with the nearest name, Conflict."""
        id = (self._named(text) or text) if text and "/" not in text and text[0] != "." else None
        if id and (found := self._get(id)):
            return found
        if id and not self.states.named(text):  # `rm $(kist ps -q)` would read all of them for each
            starts = {known for known in (*self._ids(), *self.states.ids()) if known.startswith(text)} - {but}
            if len(starts) == 1 and (found := self._get(*starts)):
                return found
        everyone = [c for c in self.all() if c.id != but]
        matches = [c for c in everyone if text in (c.id, c.name)]
        matches = matches or [c for c in everyone if text and c.id.startswith(text)]
        if len(matches) > 1:
            raise Conflict(f"{text!r} may mean {len(matches)} containers", next="write more of the id")
        if not matches:
            from kist.plan.words import nearest, show

            near = nearest(text, [c.name for c in everyone])
            next_ = f"did you mean {near!r}?" if near else "kist ps -a lists them"
            raise NotFound(f"no container {show(text)}", next=next_, code="no-container")
        return matches[0]

    def locked(self, container: Container) -> Locked:
        """While something is changed. Raises NotFound when it was removed meanwhile."""
        return Locked(container.path, container.name)

    def _ids(self) -> list[str]:
        try:
            check_private(self.data_dir)
            return [name for name in os.listdir(self.base) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def _named(self, name: str) -> str | None:
        try:
            return os.readlink(f"{self.base}/.names/{name}") if name else None
        except OSError:
            return None

    def _get(self, id: str) -> Container | None:
        path = f"{self.base}/{id}"
        try:
            return Container(decode_text(Config, read_file(f"{path}/config"), f"{path}/config"), path, self.states)
        except FileNotFoundError:
            return None
        except InvalidInput:  # it can still be removed
            return Container(Config(id, self._name_of(id), 0, RunRequest()), path, self.states)

    def _name_of(self, id: str) -> str:
        names = os.listdir(f"{self.base}/.names")
        return next((name for name in names if self._named(name) == id), id[:12])

    def _passing(self, record: Record) -> Container:
        request = record.request or RunRequest(image=record.image, command=record.command)
        name = record.name or name_of(record.id)
        return Container(Config(record.id, name, record.created_ns, request), "", self.states)

    # --- removing

    def remove(self, container: Container) -> None:
        """With the container locked and not running: its name, then all its files."""
        with StoreErrors(f"cannot remove {container.name}"):
            gone = f".gone-{container.id}"
            if self._named(container.name) == container.id:
                os.unlink(f"{self.base}/.names/{container.name}")
            os.rename(container.path, f"{self.base}/{gone}")
            remove_files(self.base, gone)

    def _sweep(self) -> None:
        """What killed commands left of containers that were being made or removed."""
        for name in os.listdir(self.base):
            if not name.startswith((".new-", ".gone-")):
                continue
            try:
                with Locked(f"{self.base}/{name}", wait=False):
                    remove_files(self.base, name)
            except (Conflict, NotFound):
                continue


def _make_locked(path: str) -> int:
    """A new directory, open and locked. Between the two another's sweep may take it for what a killed command left."""
    while True:
        os.mkdir(path, 0o700)
        try:
            lock = os.open(path, _DIRECTORY)
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(path):
            return lock
        os.close(lock)


class Locked:
    """A directory, locked with flock(2) for as long as the block lasts."""

    def __init__(self, path: str, name: str = "", *, wait: bool = True) -> None:
        self._path, self._name, self._wait = path, name, wait

    def __enter__(self) -> None:
        try:
            self._fd = os.open(self._path, _DIRECTORY)
        except FileNotFoundError as e:
            raise NotFound(f"no container {self._name or self._path}", why="it was removed meanwhile") from e
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
            if not os.path.exists(self._path):
                raise NotFound(f"no container {self._name or self._path}", why="it was removed meanwhile")
        except BlockingIOError as e:
            os.close(self._fd)
            raise Conflict(f"{self._path} is in use") from e
        except BaseException:
            os.close(self._fd)
            raise

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def is_frozen(freezer: str) -> bool:
    """Source: cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst, "cgroup.freeze"."""
    if not freezer:
        return False
    try:
        return read_file(freezer).strip() in (b"FROZEN", b"FREEZING", b"1")
    except OSError:
        return False


def remove_files(base: str, name: str) -> None:
    """A tree of a container's, whoever its files belong to. Raises OSError."""
    from kist.store.tree import OPEN_DIRECTORY, remove_tree

    fd = os.open(base, OPEN_DIRECTORY)
    try:
        remove_tree(fd, name)
    except PermissionError:
        from kist.kernel.probe import probe
        from kist.kernel.userns import has_other_ids
        from kist.store import rootless

        if not has_other_ids(probe()):
            raise
        rootless.remove(f"{base}/{name}")
    finally:
        os.close(fd)
