"""Start the launcher and talk with it. Messages: launcher/launcher.h.

Words travel in packet pipes (pipe(7), O_DIRECT): `socket` takes 4 ms to import.
"""

from __future__ import annotations

import errno as errnos
import fcntl

from kist.errors import KistError, StepFailed
from kist.kernel.program import open_program, sealed
from kist.plan import steps
from kist.plan.encode import encode
from kist.plan.steps import (
    ACTORS,
    Chdir,
    CpuAffinity,
    Exec,
    FindCommand,
    Mount,
    MountAt,
    ReportFile,
    Seccomp,
)
from kist.system import os
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kist.plan.steps import Plan

STARTED, FAILED, EXITED, REPORT, DONE = 1, 2, 3, 4, 5
SIGNAL, KILL, FREEZE, THAW = 1, 2, 3, 4
_F_SETPIPE_SZ = 1031


class Ending(Value):
    """How the command ended. `status` is its exit status, or 128 and the signal's number."""

    status: int
    signaled: bool
    timed_out: bool
    wall_ns: int
    user_us: int
    system_us: int
    max_rss_bytes: int
    reports: dict[str, str]


class Launcher:
    """One container under way. Not over until `wait` has returned; `close` kills what still runs.

    `keep`: fds that stay open until the end, such as locks; they are not given away here. `detached`: the plan's
    Attend step lets it live on by itself: wait with `started`, then `let_go`. `environment`: of what Attend starts.
    """

    def __init__(
        self, plan: Plan, program: int, stdio: tuple[int, int, int] = (0, 1, 2), keep: Sequence[int] = (), *,
        detached: bool = False, environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.pid = 0
        self.init_pid = 0
        self.supervisor_pid = 0
        attend = next((entry.step for entry in plan if isinstance(entry.step, steps.Attend)), None)
        assert detached == bool(attend and attend.detached)
        self._failure: KistError | None = None
        self._fields: tuple[int, ...] = ()
        self._reports: dict[str, str] = {}
        opened: list[int] = []
        try:
            opened.append(sealed("kist-plan", encode(plan, told=False)))  # we can tell ourselves
            opened += os.pipe2(os.O_CLOEXEC | os.O_DIRECT)  # their orders, our end
            opened += _packets()  # our end, their reports
            plan_fd, orders, self._orders, self._heard, reports = opened
            name = attend.name if attend else "kist-launcher"
            self.pid = _spawn(program, stdio, name, (plan_fd, orders, reports, *keep), environment or {})
        except BaseException:
            for fd in opened:
                os.close(fd)
            raise
        for fd in (plan_fd, orders, reports):
            os.close(fd)

    def order(self, kind: int, value: int = 0) -> None:
        """Ask for something; a launcher that is gone already needs nothing."""
        try:
            os.write(self._orders, kind.to_bytes(4, "little") + value.to_bytes(4, "little"))
        except OSError:
            pass

    def receive(self) -> bool:
        """Take one message; False when the launcher has ended."""
        data = os.read(self._heard, 8192)
        if not data:
            return False
        kind = int.from_bytes(data[:4], "little")
        if kind == STARTED:
            self.init_pid, self.supervisor_pid = _numbers(data[4:12])
        elif kind == FAILED:
            index, error, argument = _numbers(data[4:16])
            self._failure = explain(self.plan, index, error, argument, _words(data[16:]))
        elif kind == EXITED:
            self._fields = _numbers(data[4:48])
        elif kind == REPORT:
            step = self.plan[int.from_bytes(data[4:8], "little")].step
            assert isinstance(step, ReportFile)
            self._reports[step.label] = data[8:].decode(errors="replace")
        return True

    def started(self) -> tuple[int, int]:
        """Wait until the command runs: its process's number on the host, and its supervisor's.

        Raises what went wrong: then everything is undone.
        """
        while not self.init_pid:
            if not self.receive():
                self.end()
                raise KistError("the launcher ended without a word", code="launcher-killed")
        return self.init_pid, self.supervisor_pid

    def let_go(self) -> None:
        """Of a detached one that has started: it lives on, and is no child of ours."""
        assert self.supervisor_pid not in (0, self.pid)
        os.waitpid(self.pid, 0)
        self._forget()

    def _forget(self) -> None:
        self.pid = 0
        os.close(self._heard)
        os.close(self._orders)

    def end(self) -> None:
        """Until everything is gone or, for a container that lives on, in place. Raises what went wrong."""
        if self.pid:
            while self.receive():
                pass
            _, self._status = os.waitpid(self.pid, 0)
            self._forget()
        if self._failure:
            raise self._failure
        if self._status:
            raise KistError("the launcher was killed", why=f"wait status {self._status}", code="launcher-killed")

    def wait(self) -> Ending:
        """The same, for a container that was supervised to its end."""
        self.end()
        if not self._fields:
            raise KistError("the launcher ended without a word", code="launcher-killed")
        code, signaled, timed_out, w0, w1, u0, u1, s0, s1, rss, _ = self._fields
        return Ending(code, bool(signaled), bool(timed_out), w0 | w1 << 32, u0 | u1 << 32, s0 | s1 << 32, rss << 10,
                      self._reports)  # fmt: skip

    def close(self) -> None:
        if self.pid:
            self.order(KILL)
            try:
                self.end()
            except KistError:
                pass


def _numbers(data: bytes) -> tuple[int, ...]:
    """Of four bytes each. Not by `struct`: see plan/encode.py."""
    return tuple([int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)])


def _packets() -> tuple[int, int]:
    """Where to read them, and where to write: all reports fit without a reader."""
    ends = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
    try:
        fcntl.fcntl(ends[1], _F_SETPIPE_SZ, 1 << 18)  # a packet takes a page
    except PermissionError:  # the user's pipes are as large as they may be together: pipe(7)
        from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair

        for fd in ends:
            os.close(fd)
        here, there = socketpair(AF_UNIX, SOCK_SEQPACKET)
        return here.detach(), there.detach()
    return ends


def run_steps(plan: Plan, *keep: int) -> None:
    """Take steps that leave nothing running. Raises StepFailed."""
    null, program = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), open_program()
    try:
        launcher = Launcher(plan, program, (null, null, null), keep)
    finally:
        os.close(null)
        os.close(program)
    try:
        launcher.end()
    finally:
        launcher.close()


def _spawn(
    program: int, stdio: tuple[int, int, int], name: str, given: Sequence[int], environment: Mapping[str, str]
) -> int:
    # High copies first, so that no dup2 overwrites a source that is still needed. dup2 to itself clears close-on-exec.
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in stdio]
    try:
        actions = [(os.POSIX_SPAWN_DUP2, copy, number) for number, copy in enumerate(copies)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in given]
        argv = [name, *map(str, given)]
        return os.posix_spawn(f"/proc/self/fd/{program}", argv, environment, file_actions=actions)
    finally:
        for copy in copies:
            os.close(copy)


def described(plan: Plan) -> Iterator[str]:
    """A line for each step, for a log."""
    for index, entry in enumerate(plan):
        yield f"step {index}, {ACTORS[entry.actor]}: {entry.step!r:.400}"
        if isinstance(entry.step, Seccomp):
            yield f"seccomp filter flags: {entry.step.flags}"
        if isinstance(entry.step, CpuAffinity):
            yield f"affinity: {int.from_bytes(entry.step.cpus, 'little'):#x}"


def explain_failure(words: Sequence[str]) -> KistError:
    """What the launcher has left to say: PLAN-FD STEP ERRNO ARGUMENT WORDS."""
    from kist.plan.encode import decode

    fd, step, error, argument = map(int, words[:4])
    size = os.fstat(fd).st_size
    return explain(decode(os.pread(fd, size, 0)), step, error, argument, words[4] if len(words) > 4 else "")


def _words(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace")


def explain(plan: Plan, index: int, error: int, argument: int, words: str = "") -> KistError:
    """The error for a step that failed with `error`, about its argument number `argument` (its low 8 bits; those above
    are the number of a list's element). `words`: what the kernel said besides."""
    name = errnos.errorcode.get(error, str(error))
    if index >= len(plan):
        return KistError(f"the launcher refused the plan: {name}", next="reinstall kist: its parts differ in version")
    entry = plan[index]
    step = entry.step
    if isinstance(step, Exec) and any(isinstance(e.step, FindCommand) for e in plan):  # it is there: its interpreter?
        text = f"exec {step.argv[0]}: {os.strerror(error).lower()}"
        return StepFailed(text, step=index, errno=error, exit_code=126, code="exec-failed")
    # exec: docker makes a missing directory in run alone
    joins = any(isinstance(e.step, steps.OpenPidfd) for e in plan)
    if isinstance(step, Chdir) and joins and error in (errnos.ENOENT, errnos.ENOTDIR, errnos.EACCES):
        text = f"no working directory {step.path} in the container: {os.strerror(error)}"
        exit_code = 127 if error == errnos.ENOENT else 126
        return StepFailed(text, step=index, errno=error, exit_code=exit_code, code="no-workdir")
    if isinstance(step, steps.Hook):
        return _hook_failed(plan, index, error, argument)
    if isinstance(step, Exec):
        return _not_executable(step.argv[0], index, error, name)
    if isinstance(step, FindCommand):
        return _not_executable(step.name, index, error, name)
    fields = step.__fields__
    subject = getattr(step, fields[argument & 0xFF]) if fields else ""
    if isinstance(subject, tuple) and argument >> 8 < len(subject):
        subject = subject[argument >> 8]
    subject = subject if isinstance(subject, str) else ""
    what = f"cannot take step {index}, {type(step).__name__}{' ' + subject if subject else ''}: {name}"
    next_ = f"kist explain --step {index} ... shows the step; kist doctor what this host allows"
    why = f"{os.strerror(error)}{f' ({words})' if words else ''}; the step is for: {entry.why}"
    if isinstance(step, MountAt) and step.strict and error in (errnos.ELOOP, errnos.ENOTDIR):
        next_ = f"{step.target} must be mounted on ordinary directory"
        why = f"{next_}, and a link or file is there"
    if isinstance(step, steps.Scheduler) and error == errnos.EPERM:
        why = "process scheduler can't be used together with AllowedCPUs, and some need privilege"
    if isinstance(step, steps.SendListener):
        what = f"failed to connect with seccomp agent {step.path}: {name}"
    if error == errnos.ENOMEM and isinstance(step, (Mount, MountAt)):
        next_ = "give it more memory: what it writes counts"
    return StepFailed(what, step=index, errno=error, why=why, next=next_)


def _hook_failed(plan: Plan, index: int, error: int, status: int) -> StepFailed:
    entry = plan[index]
    assert isinstance(entry.step, steps.Hook)
    number = sum(isinstance(e.step, steps.Hook) and e.why == entry.why for e in plan[:index])
    how = "timed out" if error == errnos.ETIMEDOUT else os.strerror(error)
    if error == errnos.ECANCELED:
        import signal

        how = f"exit status {status}" if status < 128 else f"signal: {signal.strsignal(status - 128)}".lower()
    text = f"error running {entry.why} hook #{number}: {entry.step.path}: {how}"
    return StepFailed(
        text, step=index, errno=error, code="hook-failed", next="hooks are programs of the bundle's maker"
    )


def _not_executable(command: str, index: int, error: int, name: str) -> StepFailed:
    if error in (errnos.ENOENT, errnos.ENOTDIR):
        return StepFailed(f"command not found in the container: {command}", step=index, errno=error, exit_code=127,
                          code="command-not-found", next="check the name, --rootfs and PATH")  # fmt: skip
    return StepFailed(f"cannot execute {command}: {name}", step=index, errno=error, why=os.strerror(error),
                      exit_code=126, code="command-not-executable")  # fmt: skip
