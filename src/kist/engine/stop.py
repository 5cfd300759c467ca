"""`kist stop`, `kill` and `restart`: signals, always by a handle that no other process can get."""

from __future__ import annotations

import os
import select
import time

from kist.engine.containers import Container, Containers
from kist.engine.events import note
from kist.engine.pause import thaw
from kist.errors import Conflict, KistError, NotFound
from kist.plan.words import UNLIMITED

_TERM, _KILL = 15, 9
DEFAULT_TIMEOUT_S = 10
_KILLED_S = 30.0  # for what SIGKILL leaves: processes in uninterruptible sleep


def stop(container: Container, timeout_s: int | None = None, signal: int | None = None) -> None:
    """Ask it to end with its stop signal, and kill it after `timeout_s` (its own, else 10 s; UNLIMITED: never).

    A command that does not look after the signal, as PID 1 is not ended by it, is killed at once. One that does not
    run is fine. Raises Conflict when it can't be killed.
    """
    request = container.config.request
    number = signal or request.stop_signal or _TERM
    seconds = next(t for t in (timeout_s, request.stop_timeout_s, DEFAULT_TIMEOUT_S) if t is not None)
    mark(container)
    with _Process(container) as process:
        if not process:
            return
        note(container, "kill", signal=str(number))
        _end(container, process, number, seconds)
        note(container, "stop")


def _end(container: Container, process: _Process, number: int, seconds: int) -> None:
    if process.looks_after(number):
        process.send(number)
        thaw(container)
        if process.ends_within(None if seconds == UNLIMITED else seconds):
            return
    process.send(_KILL)
    thaw(container)
    if not process.ends_within(_KILLED_S):
        raise Conflict(f"{container.name} can't be killed", why="it is in uninterruptible sleep",
                       next="see /proc/PID/stack of its processes", code="busy")  # fmt: skip


def kill(container: Container, signal: int = _KILL) -> None:
    """Raises Conflict when it does not run."""
    container.pid  # noqa: B018  # raises
    if signal in (_KILL, container.config.request.stop_signal or _TERM):
        mark(container)
    with _Process(container) as process:
        if process:
            process.send(signal)
            note(container, "kill", signal=str(signal))
            if signal == _KILL:
                thaw(container)


def restart(
    containers: Containers, container: Container, timeout_s: int | None = None, signal: int | None = None
) -> None:
    """Stop it if it runs, and start it."""
    from kist.engine.start import start

    stop(container, timeout_s, signal)
    start(containers, container)
    note(container, "restart")


def mark(container: Container) -> None:
    """Somebody stopped it: no policy starts it again."""
    if container.kept:
        try:
            os.close(os.open(f"{container.path}/stopped", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            pass  # no space for it: the container is stopped all the same


class _Process:
    """A container's first process, or whoever waits to start it again. False when there is none."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._fd = self._lock = -1
        states, id = container.states, container.id
        try:
            self._lock = os.open(f"{states.base}/{id}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            pid = states.pid(id)
            self._fd = os.pidfd_open(pid)
            self.pid = pid
            if not states.is_locked(id) or states.pid(id) != pid:  # the number may be another's by now
                self._close_handle()
        except (OSError, KistError):
            self._close_handle()

    def _close_handle(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def __bool__(self) -> bool:
        return self._fd >= 0

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._fd, self._lock):
            if fd >= 0:
                os.close(fd)

    def send(self, number: int) -> None:
        from signal import pidfd_send_signal

        try:
            pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            pass

    def looks_after(self, number: int) -> bool:
        """Whether it catches, blocks or waits for the signal: a PID 1 that does not is not ended by it."""
        sets = 0
        try:
            with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
                for line in file:
                    if line.startswith(("SigBlk:", "SigIgn:", "SigCgt:")):
                        sets |= int(line.split()[1], 16)
                    elif line.startswith("NSpid:") and line.split()[-1] != "1":
                        return True  # no PID 1: the default action is taken
            with open(f"/proc/{self.pid}/syscall", encoding="ascii") as file:
                waits = file.read().split()[0] in _SIGTIMEDWAIT
        except (OSError, ValueError):
            return True
        return waits or bool(sets >> (number - 1) & 1)

    def ends_within(self, seconds: float | None) -> bool:
        """Until all of it is gone, its supervisor's last work too."""
        deadline = None if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(None if seconds is None else int(seconds * 1000)):
            return False
        return gone(self._lock, max(deadline - time.monotonic(), 5.0) if deadline else None)


_SIGTIMEDWAIT = ("128", "137")  # rt_sigtimedwait of x86_64, and of those with the generic table


def gone(lock: int, seconds: float | None) -> bool:
    """Wait for the lock that a supervisor holds to the end of its work."""
    import fcntl

    deadline = None if seconds is None else time.monotonic() + seconds
    pause_s = 0.0005
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.02)


def wait_end(container: Container) -> int:
    """Block until it does not run any more; its exit status. Raises NotFound, Conflict."""
    import fcntl

    try:
        fd = os.open(f"{container.states.base}/{container.id}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = -1
    if fd >= 0:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)
    if not container.kept:
        raise NotFound(f"{container.name} left no record", why="it ran in the foreground with --rm, whose caller "
                       "knows how it ended", code="not-kept")  # fmt: skip
    ended = container.ended
    if ended:
        return ended.code
    if not os.path.exists(container.path):
        raise NotFound(f"{container.name} was removed at its end", code="no-container")
    return 0
