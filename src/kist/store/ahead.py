"""A stream in pieces, with the work that needs no Python done by threads of its own, beside whoever takes the pieces.

Reading, decompressing, hashing and writing let go of the GIL; taking an archive apart does not. One after the other, a
layer takes twice as long.
"""

from __future__ import annotations

from _queue import SimpleQueue  # what queue has it from, which brings heapq
from functools import partial

from kist.store.source import Source, read_some

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Thread
    from typing import Any, Self

# Less, and the threads wait for each other more than they work; more, and it falls out of the caches.
CHUNK_BYTES = 1 << 20
_BUFFERS_MAX = 4  # so memory stays bounded
_NONE = memoryview(b"")
_SPARE: list[memoryview] = []  # buffers of CHUNK_BYTES for the next stream: new memory costs more than its use


class Chunks:
    """Pieces of so many bytes, the last one shorter; after it, empty ones. A context manager, which ends the threads.

    A piece is good until the next one is asked for. `each` gets every piece that was taken, in order, in a thread.
    `ahead`: the stream is read in a thread too, before anybody asks; leaving then waits for a read to return, so it is
    not for a pipe that may stay silent.
    """

    def __init__(
        self, source: Source, each: Callable[[memoryview], object] | None = None, *, ahead: bool,
        size_bytes: int = CHUNK_BYTES,
    ) -> None:  # fmt: skip
        self._size_bytes = size_bytes
        self._source = source
        self._each = each
        self._current = _NONE  # the buffer of the piece that was taken last
        self._made = list[memoryview]()
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._given: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._taker = _started(self._take_all) if each else None
        self._ended = False  # nothing more is to be read
        self._coming: SimpleQueue[tuple[memoryview, memoryview] | BaseException] = SimpleQueue()
        self._reader = _started(self._read_all) if ahead else None

    def next(self) -> memoryview:
        """Raises what reading the stream raises, and what `each` raised for an earlier piece."""
        if self._failure is not None:
            raise self._failure
        if self._current:
            # After what `each` does with it; at once without it
            give = partial(self._free.put, self._current)
            self._given.put(give) if self._taker else give()
            self._current = _NONE
        found = self._read() if self._reader is None else self._coming.get()
        if isinstance(found, BaseException):
            self._coming.put(found)  # for whoever asks again
            raise found
        self._current, chunk = found
        if not chunk:
            self._coming.put(found)
        elif self._each is not None:
            self._given.put(partial(self._take, self._each, chunk))
        return chunk

    def finish(self) -> None:
        """Wait until `each` is done with all pieces. Raises what it raised."""
        from threading import Event

        if self._taker is not None:
            done = Event()
            self._given.put(done.set)
            done.wait()
        if self._failure is not None:
            raise self._failure

    def _take_all(self) -> None:
        while act := self._given.get():
            act()

    def _take(self, each: Callable[[memoryview], object], chunk: memoryview) -> None:
        try:
            if self._failure is None:
                each(chunk)
        except BaseException as e:
            self._failure = e

    def _read_all(self) -> None:
        try:
            while not self._ended:
                found = self._read()
                self._ended = self._ended or not found[1]
                self._coming.put(found)
        except BaseException as e:
            self._coming.put(e)

    def _read(self) -> tuple[memoryview, memoryview]:
        """(a buffer, what of it was filled)"""
        if len(self._made) < _BUFFERS_MAX and self._free.empty():
            self._made.append(_buffer(self._size_bytes))
            self._free.put(self._made[-1])
        buffer, end = self._free.get(), 0
        while end < len(buffer) and not self._ended and (count := read_some(self._source, buffer[end:])):
            end += count
        return buffer, buffer[:end]

    def close(self) -> None:
        self._ended = True
        if self._reader is not None:
            self._free.put(_NONE)  # it may be waiting for one
            self._reader.join()
        if self._taker is not None:
            self._given.put(None)
            self._taker.join()
        if self._size_bytes == CHUNK_BYTES and len(_SPARE) <= _BUFFERS_MAX:
            _SPARE.extend(self._made)
        self._made.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Bounded:
    """A queue for few things: whoever would put in more waits. queue.Queue, in Python, holds the GIL longer."""

    def __init__(self, size: int) -> None:
        self._things: SimpleQueue[Any] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(size):
            self._room.put(None)

    def put(self, thing: Any) -> None:
        self._room.get()
        self._things.put(thing)

    def get(self) -> Any:
        thing = self._things.get()
        self._room.put(None)
        return thing


class Beside:
    """Does what it is given in a thread of its own, in order. A context manager, which waits for all of it."""

    def __init__(self) -> None:
        self._given = Bounded(_BUFFERS_MAX)  # of Callable[[], object], and None at the end
        self._failure: BaseException | None = None  # the first one; what else was given is done all the same
        self._thread = _started(self._run)

    def give(self, act: Callable[[], object]) -> None:
        self._given.put(act)

    def check(self) -> None:
        """Raise what something raised."""
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Wait until all is done; nothing can be given after that. Raises what something raised."""
        self.__exit__()
        self.check()

    def _run(self) -> None:
        while (act := self._given.get()) is not None:
            try:
                act()
            except BaseException as e:
                self._failure = self._failure or e

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._given.put(None)
        self._thread.join()


class Ahead:
    """A stream that is read in a thread, before anybody asks. A context manager, as Chunks."""

    def __init__(self, source: Source) -> None:
        self._chunks = Chunks(source, ahead=True, size_bytes=128 << 10)
        self._piece = _NONE

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._piece:
            self._piece = self._chunks.next()
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._chunks.close()


def give_up_spare() -> None:
    """Nothing more comes soon."""
    _SPARE.clear()


def _buffer(size_bytes: int) -> memoryview:
    if size_bytes == CHUNK_BYTES:
        try:
            return _SPARE.pop()
        except IndexError:
            pass
    return memoryview(bytearray(size_bytes))


def _started(act: Callable[[], object]) -> Thread:
    from threading import Thread

    thread = Thread(target=act, daemon=True)
    thread.start()
    return thread
