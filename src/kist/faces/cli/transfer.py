"""Progress of pulls and pushes: on a terminal a line for each blob under way, else a line for each that is done."""

from __future__ import annotations

import threading
import time

from kist.faces.cli.columns import size_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TextIO

    from kist.spec.image import Descriptor

_DRAW_S = 0.1
_BAR = 24
_LAST = {
    "pulled": "pulled",
    "exists": "already there",
    "pushed": "pushed",
    "mounted": "taken from another repository",
}


class _Nowhere:
    def write(self, text: str) -> object: ...

    def flush(self) -> None: ...


class _Blob:
    def __init__(self, label: str, total: int, now: float, done: int) -> None:
        self.label, self.total, self.begun, self.first = label, total, now, done
        self.state, self.done = "", done


class Transfers:
    """Give it to pull and push as `progress`, and its `preparing` to the store. Safe for threads; a context manager."""

    def __init__(
        self, out: TextIO | None, *, live: bool, columns: int = 80, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out or _Nowhere()
        self._live = live
        self._columns = columns
        self._clock = clock
        self._lock = threading.Lock()
        self._blobs: dict[str, _Blob] = {}
        self._drawn = 0  # lines on the terminal that will be drawn over
        self._next = 0.0

    def __call__(self, descriptor: Descriptor, state: str, done: int) -> None:
        with self._lock:
            if state in _LAST:
                self._blobs.pop(descriptor.digest, None)
                self._say(f"{short(descriptor.digest)}: {_LAST[state]} ({size_words(descriptor.size)})")
            else:
                self._update(descriptor.digest, state, done, descriptor.size)

    def preparing(self, digest: str, done: int, total: int) -> None:
        """Layers on their way from blobs to file systems."""
        with self._lock:
            if done >= total:
                self._blobs.pop(digest, None)
                self._draw(force=True)
            else:
                self._update(digest, "preparing", done, total)

    def _update(self, digest: str, state: str, done: int, total: int) -> None:
        now = self._clock()
        blob = self._blobs.get(digest)
        if blob is None or done < blob.first or (blob.state == "retrying") != (state == "retrying"):
            blob = self._blobs[digest] = _Blob(short(digest), total, now, done)
            if state == "retrying" and not self._live:
                self._say(f"{short(digest)}: trying again after {size_words(done)}")
        blob.state, blob.done = state, done
        self._draw()

    def _say(self, line: str) -> None:
        """A line that stays."""
        self._erase()
        self._out.write(line + "\n")
        self._draw(force=True)

    def _draw(self, *, force: bool = False) -> None:
        now = self._clock()
        if not self._live or (not force and now < self._next):
            return
        self._next = now + _DRAW_S
        self._erase()
        lines = [blob_line(b.label, b.state, b.done, b.total, b.done - b.first, now - b.begun, self._columns)
                 for b in self._blobs.values()]  # fmt: skip
        self._out.write("".join(line + "\n" for line in lines))
        self._drawn = len(lines)
        self._out.flush()

    def _erase(self) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}A\x1b[J")  # up, and clear to the end
            self._drawn = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._blobs.clear()
            self._erase()
            self._out.flush()


def short(digest: str) -> str:
    return digest.partition(":")[2][:12]


def blob_line(label: str, state: str, done: int, total: int, moved: int, elapsed_s: float, columns: int) -> str:
    """`3f4ca61aafcd: downloading [======>     ] 12 MiB / 45 MiB  3.4 MiB/s  10 s`, cut to the columns."""
    share = min(done / total, 1) if total else 1
    filled = int(share * _BAR)
    bar = "=" * filled + ">" * (filled < _BAR) + " " * (_BAR - filled - 1)
    line = f"{label}: {state:<11} [{bar[:_BAR]}] {size_words(done)} / {size_words(total)}"
    if moved > 0 and elapsed_s >= 0.5:
        rate = moved / elapsed_s
        line += f"  {size_words(int(rate))}/s  {duration((total - done) / rate)}"
    return line[: max(columns - 1, 1)]


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = int(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
