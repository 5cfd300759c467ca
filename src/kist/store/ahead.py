"""A stream in pieces, with the work that needs no Python done by threads of its own, beside whoever takes the pieces.

Reading, decompressing, hashing and writing let go of the GIL; taking an archive apart does not. One after the other, a
layer takes twice as long.
"""

from __future__ import annotations

from collections import deque

from kist.store.source import Source, read_some

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Self

CHUNK_BYTES = (
    512 << 10
)  # less, and the threads wait for each other more than they work; more, and it falls out of the caches
_WAITING_MAX = 4  # pieces on either side, so memory stays bounded


class Chunks:
    """Pieces of CHUNK_BYTES, the last one shorter; after it, empty ones. A context manager, which ends the threads.

    `each` gets every piece that was taken, in order, in a thread. `ahead`: the stream is read in a thread too, before
    anybody asks; leaving then waits for a read to return, so it is not for a pipe that may stay silent.
    """

    def __init__(self, source: Source, each: Callable[[memoryview], object] | None = None, *, ahead: bool) -> None:
        from concurrent.futures import ThreadPoolExecutor  # 6 ms, for those who read an archive

        self._source = source
        self._each = each
        self._ahead = ahead
        self._reader = ThreadPoolExecutor(1)
        self._taker = ThreadPoolExecutor(1)
        self._coming: deque[Future[memoryview]] = deque()
        self._given: deque[Future[object]] = deque()

    def next(self) -> memoryview:
        """Raises what reading the stream raises, and what `each` raised for an earlier piece."""
        chunk = self._next_ahead() if self._ahead else self._read()
        if self._each is not None and chunk:
            self._given.append(self._taker.submit(self._each, chunk))
            self._wait(_WAITING_MAX)
        return chunk

    def finish(self) -> None:
        """Wait until `each` is done with all pieces. Raises what it raised."""
        self._wait(0)

    def _wait(self, left: int) -> None:
        while len(self._given) > left:
            self._given.popleft().result()

    def _next_ahead(self) -> memoryview:
        while len(self._coming) < _WAITING_MAX:
            self._coming.append(self._reader.submit(self._read))
        return self._coming.popleft().result()

    def _read(self) -> memoryview:
        buffer, end = memoryview(bytearray(CHUNK_BYTES)), 0
        while end < CHUNK_BYTES and (count := read_some(self._source, buffer[end:])):
            end += count
        return buffer[:end]

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._taker.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
