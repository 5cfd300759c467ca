"""A container's files, for those who have to read or write them from outside: the other side of inside.py.

Of one that runs they are seen through its first process. Of one that does not, what it would see is mounted once more,
in a mount namespace of the worker's own, while its lock keeps it from being started.
"""

from __future__ import annotations

import os
import sys

from kist import errors
from kist.codec import decode_text, dumps
from kist.engine.inside import Report, Task
from kist.engine.prepare import Source, setting_for
from kist.engine.start import keeping
from kist.errors import InvalidInput, KistError
from kist.kernel.launcher import Launcher
from kist.kernel.probe import probe
from kist.kernel.program import open_program
from kist.kernel.userns import has_other_ids, user_plan
from kist.plan.compile_view import compile_view, plain_plan
from kist.plan.config import Found, container_config
from kist.plan.setting import Stdio
from kist.store.data import StoreErrors
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from kist.engine.containers import Container, Containers, Locked
    from kist.engine.state import State
    from kist.plan.request import RunRequest
    from kist.plan.steps import Plan
    from kist.spec.runtime import Spec

_STEADY_S = 5.0  # longer than this nothing may take that does not move


class Worker:
    """inside.py under way. Use it as a context manager: leaving it early kills it."""

    def __init__(self, plan: Plan, stdin: int, stdout: int) -> None:
        self._read, write = os.pipe2(os.O_CLOEXEC)
        try:
            program = open_program()
            try:
                self._launcher = Launcher(plan, program, (stdin, stdout, write))
            finally:
                os.close(program)
        except BaseException:
            os.close(self._read)
            raise
        finally:
            os.close(write)

    def report(self) -> Report:
        """What came of it, at its end. Raises its error."""
        text = b""
        while data := os.read(self._read, 1 << 16):
            text += data
        self._launcher.wait()
        try:
            report = decode_text(Report, text, "what the worker says")
        except InvalidInput as e:
            raise KistError("the process that looks at the container's files failed",
                            why=text.decode(errors="replace")[-400:].strip(), code="worker-failed") from e  # fmt: skip
        if report.error:
            cls: type[KistError] = vars(errors)[report.error]
            raise cls(report.what, why=report.why, next=report.next, code=report.code)
        return report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._launcher.close()
        os.close(self._read)


class View:
    """The files of one container, or of what a request would make one of, until the end of the block.

    Raises as Source and the compiler do, NotFound when it was removed meanwhile.
    """

    def __init__(self, containers: Containers, container: Container | None, request: RunRequest | None = None) -> None:
        self._containers, self._container = containers, container
        self._request = request or (container.config.request if container else None)
        self._lock: Locked | None = None
        self._source: Source | None = None
        self._state: State | None = None  # an empty directory, to mount on
        self.pid = 0

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        container = self._container
        if container and container.running:
            self.pid = container.pid
            return
        if container:
            self._lock = self._containers.locked(container)
            self._lock.__enter__()
            if container.running:  # started before we had the lock
                self._lock.__exit__()
                self._lock = None
                self.pid = container.pid
                return
        assert self._request
        self._containers.states.prepare()
        with StoreErrors("cannot make a mount point"):
            self._state = self._containers.states.reserve(os.urandom(32).hex())
            os.utime(self._state.path, (0, 0))  # locked by now: if we are killed, whoever sweeps removes it at once
        request = _bare(self._request)
        kept = keeping(container, detached=False) if container else None
        self._source = Source(request, probe(), self._state.path, kept)

    def __exit__(self, *_: object) -> None:
        if self._source:
            self._source.close()
        if self._state:
            self._state.remove()
        if self._lock:
            self._lock.__exit__()

    def start(self, task: Task, stdin: int = -1, stdout: int = -1) -> Worker:
        """Let it be done; -1: /dev/null. The root is filled in."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            return Worker(self._plan(task), stdin if stdin >= 0 else null, stdout if stdout >= 0 else null)
        finally:
            os.close(null)

    def _plan(self, task: Task) -> Plan:
        if self.pid:
            return plain_plan(_argv(replace(task, pid=self.pid)), _environment())
        assert self._source and self._state
        facts, source = probe(), self._source
        setting = replace(
            setting_for(source.request, "0" * 64, source, Stdio(), (), attached=False), cgroup=False, timeout_ms=0
        )
        spec = _files_only(container_config(source.located(), facts, Found(), setting.id), source.request)
        argv = _argv(replace(task, root=f"{self._state.path}/root"))
        return compile_view(spec, facts, setting, argv, _environment())


def at_home(task: Task, stdin: int = -1, stdout: int = -1) -> Worker:
    """The same for directories of the store: by somebody who has the ids of this user's containers."""
    argv = _argv(task)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        plan = user_plan(argv, probe()) if has_other_ids(probe()) else plain_plan(argv, _environment())
        return Worker(plan, stdin if stdin >= 0 else null, stdout if stdout >= 0 else null)
    finally:
        os.close(null)


def _bare(request: RunRequest) -> RunRequest:
    """Only what its files depend on. What of its mounts is gone from the host is left out."""
    here = [
        tuple(m for m in mounts if m.kind == "volume" or (m.kind == "bind" and os.path.exists(m.source)))
        for mounts in (request.volumes, request.mounts)
    ]
    return replace(
        request, volumes=here[0], mounts=here[1], tmpfs=(), devices=(), user="", group_add=(), secrets=(), hostname="",
        command=("true",), userns="host" if os.geteuid() == 0 else "", without=(), tty=False, timeout_s=None,
        network="none", publish=(), publish_all=False, sysctls={}, storage_opt_size_bytes=None, memory_bytes=None,
    )  # fmt: skip


def _files_only(spec: Spec, request: RunRequest) -> Spec:
    from kist.spec.runtime import Linux

    targets = {mount.target for mount in (*request.volumes, *request.mounts)}
    namespaces = tuple(n for n in spec.linux.namespaces if n.type in ("mount", "user"))
    linux = Linux(namespaces=namespaces, uid_mappings=spec.linux.uid_mappings, gid_mappings=spec.linux.gid_mappings)
    return replace(spec, linux=linux, process=None, hostname="", domainname="",
                   mounts=tuple(m for m in spec.mounts if m.destination in targets))  # fmt: skip


def _argv(task: Task) -> list[str]:
    isolated = "-I" if sys.flags.isolated else "-P"  # never a module of the working directory
    return [sys.executable, isolated, "-m", "kist.engine.inside", dumps(task)]


def _environment() -> list[str]:
    return [f"{key}={value}" for key, value in os.environ.items()]


class Steady:
    """A pipe to or from a worker in which something has to move, at least every 5 s: else KistError (stalled)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            try:
                return os.readv(self.fd, [buffer])
            except BlockingIOError:
                self._wait(reading=True)

    def write(self, data: bytes, /) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                self._wait(reading=False)

    def _wait(self, *, reading: bool) -> None:
        import select

        poll = select.poll()
        poll.register(self.fd, select.POLLIN if reading else select.POLLOUT)
        if not poll.poll(_STEADY_S * 1000):
            raise KistError(f"nothing moved for {_STEADY_S:g} s", why="a file there can't be read or written: it may "
                            "lie on a file system that hangs", code="stalled")  # fmt: skip
