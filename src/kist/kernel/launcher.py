"""Start the launcher and talk with it. Messages: launcher/launcher.h."""

import errno as errnos
import os
import socket
from struct import unpack

import msgspec

from kist.errors import KistError, StepFailed
from kist.plan.encode import encode
from kist.plan.steps import Exec, Plan, ReportFile

STARTED, FAILED, EXITED, REPORT, DONE = 1, 2, 3, 4, 5
SIGNAL, KILL, FREEZE, THAW = 1, 2, 3, 4
_BINARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_launcher")


class Ending(msgspec.Struct, frozen=True):
    """How the command ended. `status` is its exit status, or 128 and the signal's number."""

    status: int
    signaled: bool
    timed_out: bool
    wall_ns: int
    user_us: int
    system_us: int
    max_rss_bytes: int
    reports: dict[str, str]


def _sealed(name: str, data: bytes) -> int:
    """A memfd nobody can change any more. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    import fcntl

    os.write(fd, data) if len(data) < 1 << 20 else _write_all(fd, data)
    fcntl.fcntl(fd, 1033, 0xF)  # F_ADD_SEALS: seal, shrink, grow, write
    return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Launcher:
    """One container under way. Not dead until `wait` has returned; `close` kills what still runs."""

    def __init__(self, plan: Plan, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> None:
        self.plan = plan
        self.pid = 0
        self.init_pid = 0
        self._failure: KistError | None = None
        self._fields: tuple[int, ...] = ()
        self._reports: dict[str, str] = {}
        self.done = False
        try:
            with open(_BINARY, "rb") as file:
                binary = file.read()
        except FileNotFoundError as e:
            raise KistError("kist's launcher was not built", next="pip install . (it needs a C compiler)") from e
        program = plan_fd = -1
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            program, plan_fd = _sealed("kist-launcher", binary), _sealed("kist-plan", encode(plan))
            self.pid = self._spawn(program, (stdin, stdout, stderr, theirs.fileno(), plan_fd))
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
            for fd in (program, plan_fd):
                if fd >= 0:
                    os.close(fd)

    @staticmethod
    def _spawn(program: int, fds: tuple[int, ...]) -> int:
        # High copies first, so that no dup2 overwrites a source that is still needed.
        copies = [_high(fd) for fd in fds]
        try:
            actions = [(os.POSIX_SPAWN_DUP2, copy, number) for number, copy in enumerate(copies)]
            return os.posix_spawn(f"/proc/self/fd/{program}", ["kist-launcher"], {}, file_actions=actions)
        finally:
            for copy in copies:
                os.close(copy)

    def order(self, kind: int, value: int = 0) -> None:
        """Ask for something; a launcher that is gone already needs nothing."""
        try:
            self.socket.send(kind.to_bytes(4, "little") + value.to_bytes(4, "little"))
        except OSError:
            pass

    def receive(self) -> bool:
        """Take one message; False when the launcher has ended."""
        data = self.socket.recv(8192)
        if not data:
            self.done = True
            return False
        kind = int.from_bytes(data[:4], "little")
        if kind == STARTED:
            self.init_pid = int.from_bytes(data[4:8], "little")
        elif kind == FAILED:
            step, error, argument = unpack("<III", data[4:16])
            self._failure = self._explain(step, error, argument)
        elif kind == EXITED:
            self._fields = unpack("<IIIIIIIIIII", data[4:48])
        elif kind == REPORT:
            step = self.plan[int.from_bytes(data[4:8], "little")].step
            assert isinstance(step, ReportFile)
            self._reports[step.label] = data[8:].decode(errors="replace")
        return True

    def wait(self) -> Ending:
        """Until everything is gone. Raises StepFailed, or KistError when the launcher was killed."""
        while self.receive():
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        self.socket.close()
        if self._failure:
            raise self._failure
        if not self._fields:
            raise KistError("the launcher was killed", why=f"wait status {status}", code="launcher-killed")
        code, signaled, timed_out, w0, w1, u0, u1, s0, s1, rss, _ = self._fields
        return Ending(code, bool(signaled), bool(timed_out), w0 | w1 << 32, u0 | u1 << 32, s0 | s1 << 32, rss << 10,
                      self._reports)  # fmt: skip

    def close(self) -> None:
        if self.pid:
            self.order(KILL)
            try:
                self.wait()
            except KistError:
                pass

    def _explain(self, index: int, error: int, argument: int) -> KistError:
        name = errnos.errorcode.get(error, str(error))
        if index >= len(self.plan):
            return KistError(f"the launcher refused the plan: {name}", next="reinstall kist: its parts differ in version")
        step = self.plan[index].step
        if isinstance(step, Exec):
            return _not_executable(step.argv[0], index, error, name)
        fields = step.__struct_fields__
        subject = getattr(step, fields[argument], "") if fields else ""
        what = f"step {index}, {type(step).__name__}" + (f" {subject}" if subject != "" else "") + f": {name}"
        return StepFailed(what, step=index, errno=error, why=f"{self.plan[index].why} ({os.strerror(error)})",
                          next=f"kist explain --step {index} ... shows the step; kist doctor what this host allows")  # fmt: skip


def _not_executable(command: str, index: int, error: int, name: str) -> StepFailed:
    if error in (errnos.ENOENT, errnos.ENOTDIR):
        return StepFailed(f"command not found in the container: {command}", step=index, errno=error, exit_code=127,
                          code="command-not-found", next="check the name, --rootfs and PATH")  # fmt: skip
    return StepFailed(f"cannot execute {command}: {name}", step=index, errno=error, why=os.strerror(error), exit_code=126,
                      code="command-not-executable")  # fmt: skip


def _high(fd: int) -> int:
    import fcntl

    return int(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10))
