"""`kist run`: from a request to a container and its end."""

from __future__ import annotations

from kist.engine.making import check_cidfile, make, open_missing_stdio, os_error, own_stdio, say_notes, write_cidfile
from kist.engine.state import StateDirectory, run_directory
from kist.errors import KistError
from kist.kernel.program import become, open_program
from kist.plan.setting import Stdio
from kist.system import os
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from kist.engine.denials import Denial
    from kist.engine.making import Making
    from kist.kernel.cgroup import Usage
    from kist.kernel.launcher import Ending
    from kist.plan.request import RunRequest


class Outcome(Value):
    ending: Ending
    usage: Usage
    not_enforced: tuple[str, ...]
    stdout: bytes
    stderr: bytes
    truncated: bool
    denied: tuple[Denial, ...] = ()

    @property
    def oom_killed(self) -> bool:
        return bool(self.usage.oom_kills)


def run_attached(request: RunRequest, explainer: Sequence[str]) -> NoReturn:
    """In the foreground on fds 0, 1, 2: this process becomes the container's supervisor and does not come back.

    The exit status is the command's, or 128 and its signal's number. If a step fails, the process becomes `explainer`.
    With --rm all of it is gone at the end; else it is kept, as `create` and `start` would.
    """
    open_missing_stdio()
    stdio = own_stdio(request)
    if not request.rm:
        from kist.engine.start import run_kept

        run_kept(request, stdio, explainer)
    check_cidfile(request.cidfile)
    making = make(request, stdio, StateDirectory(run_directory(os.environ)), attached=True)
    try:
        say_notes(making, request)
        if request.cidfile:
            write_cidfile(request.cidfile, making.id)
        making.lend(os.getpid())
        become(making.compiled.plan, open_program(), making.kept_fds, explainer)
    except BaseException:
        making.close(remove=True)
        raise


def run_captured(request: RunRequest, data: bytes, limit_bytes: int) -> Outcome:
    """With `data` as its input; `limit_bytes` each of its output and errors are kept. Safe from several threads."""
    from kist.kernel.cgroup import parse_usage
    from kist.kernel.launcher import Launcher

    making = make(request, Stdio(), StateDirectory(run_directory(os.environ)), attached=False)
    launcher: Launcher | None = None
    ours: list[int] = []
    denials = -1
    try:
        denials = making.open_denials()
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (in_r, in_w), (out_r, out_w), (err_r, err_w) = pipes
        theirs = (in_r, out_w, err_w)
        ours = [in_w, out_r, err_r]
        program = open_program()
        try:
            launcher = Launcher(making.compiled.plan, program, theirs, making.kept_fds)
        finally:
            for fd in (*theirs, program):
                os.close(fd)
        making.close(remove=False)
        making.lend(launcher.pid)
        kept, cut = _exchange(ours, data, limit_bytes)
        ending = launcher.wait()
        making.let_go()
    except BaseException as e:
        if launcher is None:
            making.close(remove=True)
        else:
            launcher.close()
            making.let_go()
            _clean_after_kill(making, e)
        if isinstance(e, OSError):
            raise os_error("cannot run the container", e) from e
        raise
    finally:
        for fd in ours:
            if fd >= 0:
                os.close(fd)
        denied = _read_denials(denials)
    usage = parse_usage(ending.reports)
    return Outcome(ending, usage, making.compiled.not_enforced, bytes(kept[0]), bytes(kept[1]), cut, denied)


def _read_denials(fd: int) -> tuple[Denial, ...]:
    if fd < 0:
        return ()
    from kist.engine.denials import read

    try:
        return read(fd)
    finally:
        os.close(fd)


def _clean_after_kill(making: Making, e: BaseException) -> None:
    """A launcher that was killed has removed nothing."""
    if isinstance(e, KistError) and e.code == "launcher-killed":
        StateDirectory(os.path.dirname(making.state.path)).sweep()


def _exchange(fds: list[int], data: bytes, limit_bytes: int) -> tuple[list[bytearray], bool]:
    """Feed fds[0], read fds[1] and fds[2] to their ends. What is closed on the way becomes -1 in `fds`."""
    import select

    poll = select.poll()
    kept, left, cut = [bytearray(), bytearray()], memoryview(data), False
    if left:
        os.set_blocking(fds[0], False)
        poll.register(fds[0], select.POLLOUT)
    else:
        os.close(fds[0])
        fds[0] = -1
    for fd in fds[1:]:
        poll.register(fd, select.POLLIN)
    while fds[1] >= 0 or fds[2] >= 0:
        for fd, _ in poll.poll():
            index = fds.index(fd)
            if index == 0:
                try:
                    left = left[os.write(fd, left) :]
                except BrokenPipeError:
                    left = left[:0]
                done = not left
            else:
                chunk = os.read(fd, 1 << 16)
                room = max(limit_bytes - len(kept[index - 1]), 0)
                kept[index - 1] += chunk[:room]
                cut, done = cut or len(chunk) > room, not chunk
            if done:
                poll.unregister(fd)
                os.close(fd)
                fds[index] = -1
    return kept, cut
