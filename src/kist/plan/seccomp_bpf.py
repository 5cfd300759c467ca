"""An assembler for the classic BPF that seccomp(2) runs.

It writes the program backwards, so that the target of every jump is known when the jump is written: a label is an
index into the reversed program. Only instructions that the kernel can also follow by itself are used: calls that are
always allowed then cost nothing at run time (kernel/seccomp.c, seccomp_is_const_allow, 5.11).

Source: Documentation/networking/filter.rst, linux/filter.h, linux/seccomp.h.
"""

from __future__ import annotations

from _operator import itemgetter

from kist.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    Target = TypeVar("Target")
    Ranges = Sequence[tuple[int, Target]]  # (first number, what happens from it on), ascending from 0

LD, AND, RET, JA, JEQ, JGT, JGE = 0x20, 0x54, 0x06, 0x05, 0x15, 0x25, 0x35
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
REACH = 254  # a conditional jump skips 255 at most; one is kept for the stepping stone of its other target
NUMBER, ARCH = 0, 4  # offsets in struct seccomp_data
ALL_32, ALL_64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


class Entry(tuple[int, int]):
    """Where to jump to, with this word of struct seccomp_data loaded; -1 for no matter which."""

    # Not typing.NamedTuple, here and below: importing typing takes longer than all of the assembling.
    __slots__ = ()
    label: int = property(itemgetter(0))  # type: ignore[assignment]
    word: int = property(itemgetter(1))  # type: ignore[assignment]

    def __new__(cls, label: int, word: int = -1) -> Entry:
        return tuple.__new__(cls, (label, word))


class Condition(tuple[int, int, int, int, bool, bool]):
    """A test of an argument. `op` is JEQ, JGT or JGE; `mask` is not 0, and all ones unless for JEQ."""

    __slots__ = ()
    arg: int = property(itemgetter(0))  # type: ignore[assignment]
    op: int = property(itemgetter(1))  # type: ignore[assignment]
    value: int = property(itemgetter(2))  # type: ignore[assignment]
    mask: int = property(itemgetter(3))  # type: ignore[assignment]
    negated: bool = property(itemgetter(4))  # type: ignore[assignment]
    wide: bool = property(itemgetter(5))  # type: ignore[assignment]  # both halves, else the low one

    def __new__(cls, arg: int, op: int, value: int, mask: int, negated: bool, wide: bool) -> Condition:
        return tuple.__new__(cls, (arg, op, value, mask, negated, wide))

    def narrow(self) -> Condition:
        return Condition(self.arg, self.op, self.value & ALL_32, self.mask & ALL_32, self.negated, wide=False)


class Assembler:
    def __init__(self, *, big_endian: bool = False) -> None:
        self._code: list[tuple[int, int, int, int]] = []  # op, jt, jf, k: last instruction first
        # What is written already, to be used again: tests, loads by where they lead to, stepping stones likewise.
        self._known: dict[tuple[object, ...], Entry] = {}
        self._loads: dict[int, int] = {}
        self._stones: dict[int, int] = {}
        self._big_endian = big_endian

    def _put(self, op: int, k: int, yes: int = 0, no: int = 0) -> int:
        self._code.append((op, yes, no, k))
        return len(self._code) - 1

    def ret(self, value: int) -> Entry:
        """End with a SECCOMP_RET_* value."""
        key = (RET, value)
        if key not in self._known:
            self._known[key] = Entry(self._put(RET, value))
        return self._known[key]

    def jump(self, op: int, k: int, yes: int, no: int) -> int:
        """Go to `yes` if the word loaded compares so to k, else to `no`."""
        yes, no = self._near(yes), self._near(no)
        end = len(self._code) - 1
        return self._put(op, k, end - yes, end - no)

    def _near(self, label: int) -> int:
        """The label, or a stepping stone to it within reach."""
        end = len(self._code) - 1
        if end - label <= REACH:
            return label
        stone = self._stones.get(label, label)
        if end - stone > REACH:
            op, _, _, k = self._code[label]
            stone = self._stones[label] = self._put(RET, k) if op == RET else self._put(JA, end - label)
        return stone

    def load(self, offset: int, then: int) -> int:
        """Load a word of struct seccomp_data and go on at `then`."""
        end = len(self._code) - 1
        if then != end:
            self._put(JA, end - then)
        return self._put(LD, offset)

    def enter(self, entry: Entry, loaded: int = -1) -> int:
        """The label to jump to when the word `loaded` is."""
        if entry.word in {-1, loaded}:
            return entry.label
        if entry.label not in self._loads:
            self._loads[entry.label] = self.load(entry.word, entry.label)
        return self._loads[entry.label]

    def test(self, word: int, mask: int, op: int, k: int, *, yes: Entry, no: Entry) -> Entry:
        """Mask a word and compare it."""
        key = (word, mask, op, k, yes, no)
        if key not in self._known:
            left = word if mask == ALL_32 else -1
            label = self.jump(op, k, self.enter(yes, left), self.enter(no, left))
            self._known[key] = Entry(label if mask == ALL_32 else self._put(AND, mask), word)
        return self._known[key]

    def condition(self, c: Condition, yes: Entry, no: Entry) -> Entry:
        """Go to `yes` if the argument meets the condition. It has 64 bits, BPF compares 32: high half first."""
        if c.negated:
            yes, no = no, yes
        low = 16 + 8 * c.arg  # offsetof(struct seccomp_data, args)
        high = low + 4
        if self._big_endian:
            low, high = high, low
        k, mask = c.value & ALL_32, c.mask & ALL_32
        entry = self.test(low, mask, c.op, k, yes=yes, no=no) if mask else yes
        if not c.wide:
            return entry
        k, mask = c.value >> 32, c.mask >> 32
        if mask:
            entry = self.test(high, mask, JEQ, k, yes=entry, no=no)
        if c.op != JEQ:
            entry = self.test(high, mask, JGT, k, yes=yes, no=entry)
        return entry

    def search(self, ranges: Ranges[Target], write: Callable[[Target], int]) -> int:
        """Find the range that the loaded word is in, by halves. `write` makes the code for a range's target."""
        count = len(ranges)
        if count == 1:
            return write(ranges[0][1])
        (_, before), (first, here) = ranges[:2]
        if count == 3 and ranges[2] == (first + 1, before):  # a single number that is an exception
            outside = write(before)
            return self.jump(JEQ, first, write(here), outside)
        middle = (count // 2 + 1) // 3 * 3 or 1  # in threes, as one of those may be such an exception
        above = self.search(ranges[middle:], write)
        below = self.search(ranges[:middle], write)
        return self.jump(JGE, ranges[middle][0], above, below)

    def program(self) -> bytes:
        """struct sock_filter[], in the byte order of the machine it is for."""
        if len(self._code) > MAX_INSTRUCTIONS:
            raise InvalidInput(
                f"the seccomp profile needs {len(self._code)} BPF instructions; the kernel takes {MAX_INSTRUCTIONS}",
                next="name fewer system calls with conditions on their arguments",
            )
        if self._big_endian:
            words = [op << 48 | yes << 40 | no << 32 | k for op, yes, no, k in self._code]
        else:
            words = [op | yes << 16 | no << 24 | k << 32 for op, yes, no, k in self._code]
        order = "big" if self._big_endian else "little"
        return b"".join([word.to_bytes(8, order) for word in reversed(words)])  # type: ignore[arg-type]
