"""From the records of a log to what the container printed. Pure, and fast: a line costs a tenth of a microsecond.

A record: `2026-11-26T11:37:29.123456789Z stdout F text`. Source: CRI, and launcher/log.c for L.
"""

from __future__ import annotations

from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HEAD, _TIME, _KIND = 40, 30, slice(31, 39)
_WHOLE = {b"stdout F": 1, b"stderr F": 2}
_PARTS = {b"stdout P": 1, b"stderr P": 2}
_OTHERS = (b"Z stdout P ", b"Z stdout L ", b"Z stderr ")  # without these it is all the same, and goes faster
_LOST = {b"stdout L": "stdout", b"stderr L": "stderr"}


class Shown(Value):
    """Which records, and how. `since` and `until` as in the records; b"": from the first, to the last."""

    timestamps: bool = False
    since: bytes = b""
    until: bytes = b""


class Records:
    """Takes chunks of whole records in their order."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._within = {1: False, 2: False}  # a line of the stream has begun
        self.over = False  # all that comes is later than `until`

    def texts(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """(1 for standard output or 2, bytes), as it was printed."""
        if self._shown != Shown():
            yield from self._any(chunk)
            return
        start, found = 0, dict.fromkeys(_OTHERS, -1)
        while start < len(chunk):
            for mark in [mark for mark, at in found.items() if at < start]:
                at = chunk.find(mark, start)
                found[mark] = at if at >= 0 else len(chunk)
            other = min(found.values())
            begin = chunk.rfind(b"\n", start, other) + 1 or start if other < len(chunk) else other
            if begin > start:  # nothing but whole lines of standard output
                self._within[1] = False
                texts = [line[_HEAD:] for line in chunk[start:begin].split(b"\n")]
                yield 1, b"\n".join(texts)
            start = chunk.find(b"\n", other) + 1 if other < len(chunk) else other
            yield from self._any(chunk[begin:start])

    def _any(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        lines = chunk.split(b"\n")
        lines.pop()
        since, until = self._shown.since, self._shown.until
        if since:
            lines = [line for line in lines if line[:_TIME] >= since]
        if until:
            count = len(lines)
            lines = [line for line in lines if line[:_TIME] <= until]
            self.over = len(lines) < count
        start, kinds = 0, [line[_KIND] for line in lines]
        while start < len(lines):
            kind = kinds[start]
            end = start + 1
            if kind in _WHOLE:
                end = self._same(kinds, start)
                yield _WHOLE[kind], self._whole(_WHOLE[kind], lines[start:end])
            elif kind in _PARTS:
                stream = _PARTS[kind]
                yield stream, self._line(stream, lines[start])
                self._within[stream] = True
            elif kind in _LOST:
                text = lines[start][_HEAD:].decode("ascii", "replace")
                yield 2, f"kist: {text} bytes of {_LOST[kind]} were lost: disk full\n".encode()
            start = end

    def _same(self, kinds: Sequence[bytes], start: int) -> int:
        """Where records of another kind begin: looked for in steps that grow."""
        kind, end, step = kinds[start], start + 1, 8
        while kinds[end : end + step] == [kind] * len(kinds[end : end + step]) and end < len(kinds):
            end = min(end + step, len(kinds))
            step *= 2
        while end < len(kinds) and kinds[end] == kind:
            end += 1
        return end

    def _whole(self, stream: int, lines: list[bytes]) -> bytes:
        first = self._line(stream, lines[0])
        self._within[stream] = False
        if self._shown.timestamps:
            rest = [line[: _TIME + 1] + line[_HEAD:] for line in lines[1:]]
        else:
            rest = [line[_HEAD:] for line in lines[1:]]
        return b"\n".join([first, *rest, b""])

    def _line(self, stream: int, line: bytes) -> bytes:
        """The text of the first record of a line, with its time, or of one that goes on."""
        if self._shown.timestamps and not self._within[stream]:
            return line[: _TIME + 1] + line[_HEAD:]
        return line[_HEAD:]
