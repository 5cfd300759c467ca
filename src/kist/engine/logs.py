"""`kist logs`: what a container printed, and, following, what it prints."""

from __future__ import annotations

import errno
import os

from kist.engine.log_files import LogFiles, Place
from kist.errors import KistError, StepFailed, Unsupported
from kist.kernel.launcher import Launcher
from kist.kernel.program import open_program
from kist.plan.steps import HOST, Entry, ShowLog
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container

LOG_BYTES, LOG_FILES = 20 << 20, 5
LOG_OF_NONE_BYTES, LOG_OF_NONE_FILES = 1 << 20, 2  # with --log-driver none, for those who are attached


class Shown(Value):
    """Which records, and how. `since` and `until` as in the records; "": from the first, to the last."""

    timestamps: bool = False
    since: str = ""
    until: str = ""


class LogRequest(Value):
    """`tail`: so many of the last lines; None: all."""

    shown: Shown = Shown()
    tail: int | None = None
    follow: bool = False


class Gap(KistError):
    """The reader was so far behind that files were removed before it came to them."""

    code = "log-lost"


def log_prefix(container: Container) -> str:
    """Where its supervisor writes; with --log-driver none a little, for those who are attached.

    Raises Conflict for a container that keeps nothing.
    """
    name = "recent" if container.config.request.log_driver == "none" else "log"
    return f"{container.path}/{name}"


def log_size(container: Container) -> tuple[int, int]:
    """Bytes of a file; how many are kept."""
    request = container.config.request
    if request.log_driver == "none":
        return LOG_OF_NONE_BYTES, LOG_OF_NONE_FILES
    return request.log_opt.get("max-size", LOG_BYTES), request.log_opt.get("max-file", LOG_FILES)


def log_files(container: Container) -> LogFiles:
    return LogFiles(log_prefix(container), log_size(container)[1])


def logs(container: Container, request: LogRequest) -> None:
    """Print all of it to fds 1 and 2; following, until the container has ended.

    However slowly that goes nobody else waits; who is not more than 1 GiB behind loses nothing. Raises Conflict,
    Unsupported, Gap, BrokenPipeError.
    """
    if container.config.request.log_driver == "none":
        raise Unsupported(f"{container.name} has no log", why="it was made with --log-driver none",
                          next="kist attach shows what it prints from then on", code="no-log")  # fmt: skip
    with log_files(container) as files:
        place = files.start_of_last(request.tail) if request.tail is not None else Place()
        showing = Showing(container, files, place, request)
        try:
            showing.wait()
        finally:
            showing.close()


class Showing:
    """Under way from a place on, whatever the log driver: to fds 1 and 2, by a launcher."""

    def __init__(self, container: Container, files: LogFiles, place: Place, request: LogRequest) -> None:
        """Following, it ends by itself when the container does, or as it is closed. Raises OSError, KistError."""
        lock = _lock_of(container) if request.follow else -1
        shown = request.shown
        step = ShowLog(files.prefix, max(files.lock, 0), place.number, place.offset, int(shown.timestamps),
                       shown.since, shown.until, int(lock >= 0))  # fmt: skip
        self._over, end = os.pipe2(os.O_CLOEXEC)
        program = open_program()
        try:
            plan = (Entry(step, HOST, "exec", "as it was printed"),)
            self._launcher = Launcher(plan, program, (self._over, 1, 2), [files.lock] if files.lock >= 0 else [])
        except BaseException:
            os.close(end)
            raise
        finally:
            os.close(program)
            os.close(self._over)
        self._end = [end]  # who takes it out closes it
        if lock >= 0:
            from _thread import start_new_thread

            start_new_thread(self._await_end, (lock,))

    def _await_end(self, lock: int) -> None:
        from fcntl import LOCK_SH, flock

        flock(lock, LOCK_SH)
        os.close(lock)
        self.stop()

    def stop(self) -> None:
        """Show what is there by now, and no more."""
        try:
            os.close(self._end.pop())
        except IndexError:
            pass

    def wait(self) -> None:
        """Until all was shown. Raises what went wrong."""
        try:
            self._launcher.end()
        except StepFailed as e:
            if e.errno == errno.EPIPE:
                raise BrokenPipeError from e
            if e.errno == errno.ENODATA:
                raise Gap("a part of the log was removed before it could be shown", why="who reads it is more than "
                          "1 GiB behind", next="kist logs -f ... > FILE") from e  # fmt: skip
            raise

    def close(self) -> None:
        self.stop()
        self._launcher.close()


def _lock_of(container: Container) -> int:
    """The directory that its supervisor has locked; -1: it does not run."""
    try:
        return os.open(f"{container.states.base}/{container.id}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
