"""Where an archive's bytes come from."""

from __future__ import annotations

import os
import stat

from kist.errors import InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # importing typing takes 6 ms


class Source(Protocol):
    """Any binary file opened for reading, raw or buffered; a pipe too."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def read_some(stream: Source, buffer: memoryview) -> int:
    """Bytes read into the front of `buffer`; 0 at the end. Raises InvalidInput for a non-blocking stream."""
    try:
        count = stream.readinto(buffer)
    except OSError as e:
        raise InvalidInput(f"cannot read the archive: {e.strerror or e}", code="unreadable") from e
    if count is None:
        raise InvalidInput("the archive is a non-blocking stream", next="pass a blocking file or pipe")
    return count


def take(stream: Source, count: int) -> bytes:
    """The first `count` bytes, fewer only at the end of the stream."""
    buffer = memoryview(bytearray(count))
    filled = 0
    while filled < count and (more := read_some(stream, buffer[filled:])):
        filled += more
    return bytes(buffer[:filled])


class Prefixed:
    """A stream whose first bytes were already taken from it."""

    def __init__(self, head: bytes, stream: Source) -> None:
        self._head = head
        self._stream = stream

    def readinto(self, buffer: memoryview, /) -> int | None:
        if not self._head:
            return self._stream.readinto(buffer)
        count = min(len(buffer), len(self._head))
        buffer[:count] = self._head[:count]
        self._head = self._head[count:]
        return count


class ArchiveFile:
    """The FILE argument of `kist import`: a file, a pipe, a FIFO; "-" is standard input. Close it after use.

    Opening never hangs: a FIFO that nobody has opened for writing after `fifo_wait_ms` is refused.
    Raises NotFound, and InvalidInput (unreadable) for a directory, a terminal, or a file without read permission.
    """

    def __init__(self, path: str, *, fifo_wait_ms: int = 10_000) -> None:
        try:
            # O_NONBLOCK: opening a FIFO or a device must not wait for its other side
            self._fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as e:
            raise NotFound(f"no such file: {path}") from e
        except (OSError, ValueError) as e:  # ValueError: a NUL in the path
            raise InvalidInput(f"cannot read {path}: {e}", code="unreadable") from e
        self._head = b""
        try:
            self._prepare(path, fifo_wait_ms)
        except BaseException:
            os.close(self._fd)
            raise

    def _prepare(self, path: str, fifo_wait_ms: int) -> None:
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISDIR(mode):
            raise InvalidInput(
                f"{path} is a directory, not a tar archive", next=f"kist run --rootfs {path} ...", code="unreadable"
            )
        if os.isatty(self._fd):
            raise InvalidInput(
                f"{'standard input' if path == '-' else path} is a terminal, not a tar archive",
                next="tar -c ... | kist import - NAME",
                code="unreadable",
            )
        if path == "-":
            return  # shared with others: its blocking mode is theirs
        if stat.S_ISFIFO(mode):
            self._head = _first_byte(self._fd, path, fifo_wait_ms)
        os.set_blocking(self._fd, True)

    def readinto(self, buffer: memoryview, /) -> int:
        if self._head:
            buffer[0], self._head = self._head[0], b""
            return 1
        return os.readv(self._fd, [buffer])

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> ArchiveFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _first_byte(fd: int, path: str, wait_ms: int) -> bytes:
    """What a non-blocking read gives once a FIFO has a writer: b"" if that has written nothing yet.

    fifo(7), pipe(7): with no writer a read returns 0 bytes; with one that is silent it fails with EAGAIN.
    """
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    for wait in (wait_ms, 0):
        try:
            if byte := os.read(fd, 1):
                return byte
        except BlockingIOError:
            return b""
        poll.poll(wait)
    raise InvalidInput(f"{path} is a FIFO that nobody writes to", code="unreadable")
