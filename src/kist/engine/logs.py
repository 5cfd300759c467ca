"""`kist logs`: what a container printed, and, following, what it prints."""

from __future__ import annotations

import os

from kist.engine.log_files import Follower, LogFiles
from kist.engine.log_records import Records, Shown
from kist.errors import Unsupported
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.engine.containers import Container


class LogRequest(Value):
    """`tail`: so many of the last lines; None: all."""

    shown: Shown = Shown()
    tail: int | None = None
    follow: bool = False


def log_prefix(container: Container) -> str:
    """Where its supervisor writes; with --log-driver none a little, for those who are attached.

    Raises Conflict for a container that keeps nothing.
    """
    name = "recent" if container.config.request.log_driver == "none" else "log"
    return f"{container.path}/{name}"


def logs(container: Container, request: LogRequest, write: Callable[[int, bytes], None]) -> None:
    """Hand all of it to `write(1 or 2, bytes)`; following, until the container has ended.

    However slowly that goes, nothing is lost and nobody else waits. Raises Conflict, Unsupported, Gap.
    """
    if container.config.request.log_driver == "none":
        raise Unsupported(f"{container.name} has no log", why="it was made with --log-driver none",
                          next="kist attach shows what it prints from then on", code="no-log")  # fmt: skip
    files = LogFiles(log_prefix(container))
    offset = files.start_of_last(request.tail) if request.tail is not None else 0
    copy(container, files, offset, request, write)


def copy(
    container: Container, files: LogFiles, offset: int, request: LogRequest, write: Callable[[int, bytes], None],
    on_news: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """The same from an offset of the first file on, whatever the log driver; the files are closed after that."""
    lock = _lock_of(container) if request.follow else -1
    try:
        directory = os.path.dirname(log_prefix(container))
        follower = Follower(files, directory, lock, on_news) if lock >= 0 else None
        if follower is None:
            files.open_new()  # what it printed since, if it was started meanwhile and has ended
        records = Records(request.shown)
        ended = False
        for chunk in files.read(offset):
            if chunk:
                for stream, text in records.texts(chunk):
                    write(stream, text)
                if records.over:
                    break
            elif follower is None or ended:
                break
            elif follower.ended:
                follower.look()
                ended = True  # once more: what came before the end
            else:
                follower.wait()
    finally:
        files.close()


def write(stream: int, text: bytes) -> None:
    """To fd 1 or 2."""
    left = memoryview(text)
    while left:
        left = left[os.write(stream, left) :]


def _lock_of(container: Container) -> int:
    """The directory that its supervisor has locked; -1: it does not run."""
    try:
        fd = os.open(f"{container.states.base}/{container.id}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    return fd
