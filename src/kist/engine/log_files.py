"""The files of a container's log, as its supervisor writes them: PREFIX.1, PREFIX.2, ..., the oldest removed in time.

Who follows them loses nothing: another thread opens each file as soon as it is there, so that it may be unlinked
however slowly it is read. So that the thread comes in time, more files are kept while PREFIX.followed is locked.
Source: launcher/log.c.
"""

from __future__ import annotations

import os
import sys

from kist.engine.making import os_error
from kist.errors import KistError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 40
MOST_BYTES = 1 << 30  # held for a slow reader: as long as they are open, their room on the disk is not free


class Gap(KistError):
    """Some files were removed before they could be opened, or are too many to be held."""

    code = "log-lost"


class LogFiles:
    """Opened at once, from the oldest to the newest. Close it after use."""

    _largest = 0  # bytes of a file

    def __init__(self, prefix: str) -> None:
        self._followed = _lock(f"{prefix}.followed")
        self._directory, _, self._name = prefix.rpartition("/")
        self.fds: list[int] = []  # those that are not read yet; the first is being read
        self._next = 0  # the number of the one to be opened next; 0: none has been
        for _ in range(10):
            numbers = self._numbers()
            if not numbers or self._open(min(numbers)):
                break  # else it was removed meanwhile
        self.open_new()

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        head = f"{self._name}."
        return [int(name[len(head) :]) for name in names if name.startswith(head) and name[len(head) :].isdecimal()]

    def _open(self, number: int) -> bool:
        try:
            fd = os.open(f"{self._directory}/{self._name}.{number}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self._next = number + 1
        if self.fds:  # who reads lets go of all but the last one
            self._largest = max(self._largest, os.fstat(self.fds[-1]).st_size)
        self.fds.append(fd)
        return True

    def _limit(self) -> None:
        if len(self.fds) * self._largest <= MOST_BYTES:
            return
        while len(self.fds) > 1:
            os.close(self.fds.pop())
        raise Gap(f"the reader is more than {MOST_BYTES >> 20} MiB behind", next="kist logs -f ... > FILE")

    def open_new(self) -> None:
        """Those that are there by now. Raises OSError."""
        if not self._next:
            numbers = self._numbers()
            if not numbers or not self._open(min(numbers)):
                return
        while self._open(self._next):
            self._limit()
        later = [number for number in self._numbers() if number > self._next]
        if later and not self._open(self._next):
            raise Gap(f"the log's files {self._next} to {min(later) - 1} were removed before they could be opened",
                      next="a larger --log-opt max-size or max-file")  # fmt: skip

    def start_of_last(self, lines: int) -> int:
        """Let go of files until the first one has the first of the last `lines` lines; where it begins in there."""
        from mmap import PROT_READ, mmap

        found, newest = 0, True
        for index in range(len(self.fds) - 1, -1, -1):
            size = os.fstat(self.fds[index]).st_size
            if not size:
                continue
            with mmap(self.fds[index], size, prot=PROT_READ) as text:
                end = text.rfind(b"\n") + 1
                while end:
                    start = text.rfind(b"\n", 0, end - 1) + 1
                    found += newest or text[start + HEAD_BYTES - 2] != 0x50  # "P": its line goes on
                    newest = False
                    if found > lines:
                        self._forget(index)
                        return end
                    end = start
        return 0

    def _forget(self, count: int) -> None:
        for _ in range(count):
            os.close(self.fds.pop(0))

    def read(self, offset: int = 0) -> Iterator[bytes]:
        """All that is there, in chunks of whole records, from `offset` of the first file on.

        b"" when there is no more for now: then go on to wait, or stop.
        """
        while True:
            if not self.fds:
                yield b""
                continue
            complete = len(self.fds) > 1  # asked before: then what is read to its end is all of it
            data = os.pread(self.fds[0], CHUNK_BYTES, offset)
            end = data.rfind(b"\n") + 1
            if end:
                offset += end
                yield data[:end]
            elif complete:
                self._forget(1)
                offset = 0
            else:
                yield b""

    def close(self) -> None:
        self._forget(len(self.fds))
        if self._followed >= 0:
            os.close(self._followed)


def _lock(path: str) -> int:
    """Shared by all who follow; -1 where no file can be made: of a container that has gone, or on a full disk."""
    from fcntl import LOCK_SH, flock

    try:
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1
    flock(fd, LOCK_SH)
    return fd


class Follower:
    """Opens what comes while somebody else reads, and says when the container has ended."""

    def __init__(self, files: LogFiles, directory: str, lock: int, on_news: Callable[[], None] | None = None) -> None:
        """`lock`: an fd of the directory that the container's supervisor has locked. `on_news` is called from another
        thread when files were made or written. Raises OSError."""
        from _thread import allocate_lock, start_new_thread

        from kist.kernel.inotify import watch

        _allow_many_files()
        sys.setswitchinterval(0.0002)  # who opens files must not wait 5 ms for who reads them
        self._files, self._lock, self._on_news = files, lock, on_news
        self._news = watch(directory)
        self._heard, self._say = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._opening = allocate_lock()
        self.ended = False
        self.problem: Exception | None = None
        self.look()  # what came before the watch
        start_new_thread(self._open, ())
        start_new_thread(self._await_end, ())

    def look(self) -> None:
        """Open what is there. Raises Gap, OSError."""
        with self._opening:
            self._files.open_new()

    def wait(self) -> None:
        """Until there may be more to read, or `ended`. Raises what made the other thread stop."""
        from select import select

        if isinstance(self.problem, OSError):
            raise os_error("cannot follow the log", self.problem) from self.problem
        if self.problem:
            raise self.problem
        select([self._heard], [], [])
        try:
            os.read(self._heard, 1 << 12)
        except BlockingIOError:
            pass

    def _open(self) -> None:
        from select import select

        from kist.kernel.inotify import drain

        try:
            while True:
                select([self._news], [], [])
                drain(self._news)
                self.look()
                if self._on_news:
                    self._on_news()
                self._tell()
        except (OSError, KistError) as e:
            self.problem = e
            self._tell()

    def _await_end(self) -> None:
        import fcntl

        fcntl.flock(self._lock, fcntl.LOCK_SH)
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self.ended = True
        self._tell()

    def _tell(self) -> None:
        try:
            os.write(self._say, b".")
        except BlockingIOError:
            pass  # it has not listened to the others yet


def _allow_many_files() -> None:
    """Each file that waits for a slow reader takes an fd."""
    from resource import RLIMIT_NOFILE, getrlimit, setrlimit

    hard = getrlimit(RLIMIT_NOFILE)[1]
    setrlimit(RLIMIT_NOFILE, (hard, hard))
