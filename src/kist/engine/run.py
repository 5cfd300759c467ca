"""`kist run`: from a request to a container and its end."""

from __future__ import annotations

import errno
import os

from kist.engine.prepare import Prepared, Source, scratch_for, setting_for
from kist.engine.state import Record, StateDirectory, run_directory
from kist.errors import Conflict, InvalidInput, KistError, Refused
from kist.kernel.launcher import Ending, Launcher, become, open_program
from kist.kernel.probe import probe
from kist.plan.setting import Stdio
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from kist.kernel.cgroup import Usage
    from kist.network.attach import Attachment
    from kist.plan.facts import HostFacts
    from kist.plan.request import RunRequest


class Outcome(Value):
    ending: Ending
    usage: Usage
    not_enforced: tuple[str, ...]
    stdout: bytes
    stderr: bytes
    truncated: bool

    @property
    def oom_killed(self) -> bool:
        return bool(self.usage.oom_kills)


class _Container:
    """One container between its directory and its launcher. Leaving the block without `started` removes everything."""

    def __init__(self, request: RunRequest, stdio: Stdio, states: StateDirectory, attached: bool) -> None:
        id = os.urandom(32).hex()
        path = f"{states.base}/{id}"
        facts = probe()
        self.states = states
        self.attachment: Attachment | None = None
        self.source = Source(request, facts, scratch_for(request, facts, f"{path}/scratch"))
        try:
            self.state = states.reserve(id)
        except BaseException:
            self.source.close()
            raise
        try:
            request = self.source.request
            self._attach(request, facts, id)
            removals = (path, f"{path}/record", f"{path}/scratch")
            cables, networks = (self.attachment.cables, self.attachment.networks) if self.attachment else ((), ())
            setting = setting_for(request, id, self.source, stdio, removals, attached=attached, cables=cables)
            self.prepared = Prepared(request, facts, setting, self.source)
            self.compiled = self.prepared.compiled
            if self.compiled.cgroup_leaf:
                from kist.kernel.cgroup import enter

                enter(self.compiled.cgroup_leaf)
            record = Record(id=id, name=request.name, image=request.image or request.rootfs, command=request.command,
                            labels=request.labels, cgroups=self.compiled.cgroup_paths, networks=networks)  # fmt: skip
            self.state.publish(record)
        except BaseException:
            self.close(remove=True)
            raise

    def _attach(self, request: RunRequest, facts: HostFacts, id: str) -> None:
        if request.network not in ("none", "host"):
            from kist.network.attach import attach

            self.attachment = attach(self.states, request, facts, id)
        elif request.publish or request.publish_all:
            from kist.network.publish import check_published

            check_published(request)

    @property
    def kept_fds(self) -> tuple[int, ...]:
        lease = (self.source.lease,) if self.source.lease >= 0 else ()
        return (self.state.fd, *lease, *(self.attachment.fds if self.attachment else ()))

    @property
    def notes(self) -> tuple[str, ...]:
        return (*(self.attachment.notes if self.attachment else ()), *self.compiled.notes)

    def close(self, *, remove: bool) -> None:
        """Let go of what the launcher has by now; or, when it never came to one, remove it."""
        if remove:
            self.state.remove()
        self.state.close()
        self.source.close()
        if self.attachment:
            self.attachment.close()
            if remove:
                from kist.network.attach import bury

                bury(self.states)


def _states(request: RunRequest) -> StateDirectory:
    states = StateDirectory(run_directory(os.environ))
    states.prepare()
    states.sweep()
    if request.name and any(record.name == request.name for record in states.records()):
        raise Conflict(
            f"the name {request.name!r} is taken", why="a container of that name runs", next="another --name"
        )
    return states


def run_attached(request: RunRequest, explainer: Sequence[str]) -> NoReturn:
    """In the foreground on fds 0, 1, 2: this process becomes the container's supervisor and does not come back.

    The exit status is the command's, or 128 and its signal's number. If a step fails, the process becomes `explainer`.
    """
    if request.tty and request.interactive and not os.isatty(0):
        raise InvalidInput("standard input is no terminal", path="--tty", next="leave out -t")
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    reads = request.interactive or "stdin" in request.attach
    relays = () if request.tty else tuple(fd for fd in range(3) if os.isatty(fd) and (fd or reads))
    stdio = Stdio(stdin="pass" if reads else "null", relays=relays)
    if request.cidfile and os.path.lexists(request.cidfile):
        raise Conflict(
            f"{request.cidfile} exists", why="--cidfile never overwrites", next="remove it, or choose another"
        )
    container = _guarded(request, stdio, attached=True)
    try:
        for note in container.notes:
            _say(f"kist: {note}")
        if container.compiled.not_enforced and request.allow_unenforced:
            _say(f"kist: not enforced: {', '.join(container.compiled.not_enforced)}")
        if request.cidfile:
            with open(request.cidfile, "x", encoding="ascii") as file:
                file.write(container.prepared.setting.id)
        become(container.compiled.plan, open_program(), container.kept_fds, explainer)
    except BaseException:
        container.close(remove=True)
        raise


def _say(text: str) -> None:
    os.write(2, f"{text}\n".encode())


def _guarded(request: RunRequest, stdio: Stdio, *, attached: bool) -> _Container:
    try:
        return _Container(request, stdio, _states(request), attached)
    except OSError as e:
        raise os_error("cannot prepare the container", e) from e


def os_error(what: str, e: OSError) -> KistError:
    """An error of the system's as one of ours."""
    where = f" {e.filename}" if e.filename else ""
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return KistError(f"{what}: no space left{where}", next="free some space, or set KIST_RUN_DIR", code="disk-full")
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Refused(f"{what}: {e.strerror}{where}", next="set KIST_RUN_DIR to a directory of yours")
    return KistError(f"{what}: {e.strerror or e}{where}", code="system")


def run_captured(request: RunRequest, data: bytes, limit_bytes: int) -> Outcome:
    """With `data` as its input; `limit_bytes` each of its output and errors are kept. Safe from several threads."""
    from kist.kernel.cgroup import parse_usage

    container = _guarded(request, Stdio(), attached=False)
    launcher = None
    ours: list[int] = []
    try:
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        (in_r, in_w), (out_r, out_w), (err_r, err_w) = pipes
        theirs = (in_r, out_w, err_w)
        ours = [in_w, out_r, err_r]
        program = open_program()
        try:
            launcher = Launcher(container.compiled.plan, program, theirs, container.kept_fds)
        finally:
            for fd in (*theirs, program):
                os.close(fd)
        container.close(remove=False)
        kept, cut = _exchange(ours, data, limit_bytes)
        ending = launcher.wait()
    except BaseException as e:
        if launcher is None:
            container.close(remove=True)
        else:
            launcher.close()
            _clean_after_kill(container, e)
        if isinstance(e, OSError):
            raise os_error("cannot run the container", e) from e
        raise
    finally:
        for fd in ours:
            if fd >= 0:
                os.close(fd)
    usage = parse_usage(ending.reports)
    return Outcome(ending, usage, container.compiled.not_enforced, bytes(kept[0]), bytes(kept[1]), cut)


def _clean_after_kill(container: _Container, e: BaseException) -> None:
    """A launcher that was killed has removed nothing."""
    if isinstance(e, KistError) and e.code == "launcher-killed":
        StateDirectory(os.path.dirname(container.state.path)).sweep()


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
