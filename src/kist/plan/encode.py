"""A plan as bytes for the launcher, and back.

    header  magic "KISTPLAN", u64 table, u32 total size, u32 steps
    step    u16 op, u8 actor, u8 arguments, u32 size with this header; then the arguments, then why (a str) and group
    int,Slot u64        str, bytes  u64 length, bytes, NUL        strs  u64 count, u64 length, NUL-ended strings

All little endian, the order of every machine the launcher knows; everything is padded to 8 bytes. `table` is a digest
of the step table: a launcher built from another one refuses the plan. Not by `struct`, a library that each start of a
container would load.
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.plan import steps
from kist.plan.steps import GROUPS, SLOT_NAMES, Entry, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.steps import Plan

MAGIC = b"KISTPLAN"
MAX_PLAN_BYTES = 16 << 20
MAX_STEPS = 8192  # launcher.h
_LETTERS = {"int": "n", "Slot": "f", "str": "s", "bytes": "b", "tuple[str, ...]": "l"}
_CHAPTERS = tuple(GROUPS)


def signature(step: type[Step]) -> str:
    """A letter per field: n number, f slot, s string, b bytes, l list of strings."""
    return "".join([_LETTERS[step.__annotations__[name]] for name in step.__fields__])


def table() -> str:
    """The step table as text: what the C side and this side must agree on."""
    rows = [f"{cls.op} {cls.__name__} {signature(cls)} {' '.join(cls.__fields__)}" for cls in steps.STEPS]
    rows += [f"{number} {name}" for number, name in SLOT_NAMES.items()]
    return "\n".join(rows) + "\n"


def _argument(value: object) -> bytes:
    if isinstance(value, str):
        data = _string(value)
    elif isinstance(value, int):
        return value.to_bytes(8, "little")
    elif isinstance(value, tuple):
        data = b"".join([_string(v) + b"\0" for v in value])
        return _argument(len(value)) + _argument(len(data)) + data + bytes(-len(data) % 8)
    else:
        data = value  # type: ignore[assignment]
    size = len(data)
    return size.to_bytes(8, "little") + data + _PADDING[size % 8 :]


def _string(value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    if 0 in data:  # `b"\0" in` words an error first, which it drops
        raise InvalidInput("a NUL byte cannot be part of a path, an argument or a variable", path=repr(value[:40]))
    return data


_PADDING = bytes(8)
_CHAPTER = {name: _argument(number) for number, name in enumerate(GROUPS)}
_UNTOLD = bytes(24)  # an empty why, and no chapter


class _Known(dict[object, bytes]):
    """Arguments, encoded; half of them have been there before."""

    def __missing__(self, value: object) -> bytes:
        data = self[value] = _argument(value)
        return data


def encode(plan: Plan, *, told: bool = True) -> bytes:
    """`told`: with what people are to be told about each step, so that `decode` gives the same plan.

    Raises InvalidInput for a NUL byte in a string, or a plan over MAX_PLAN_BYTES or MAX_STEPS.
    """
    from kist.plan._table import TABLE

    parts: list[bytes] = []
    known = _Known()
    for entry in plan:
        step = entry.step
        values = step.__dict__.values()
        body = b"".join([known[value] for value in values])
        body += known[entry.why] + _CHAPTER[entry.group] if told else _UNTOLD
        head = step.op | entry.actor << 16 | len(values) << 24 | len(body) + 8 << 32
        parts += (head.to_bytes(8, "little"), body)
    body = b"".join(parts)
    total = 24 + len(body)
    if total > MAX_PLAN_BYTES:
        what = f"arguments and environment make a plan of {total} bytes; the limit is {MAX_PLAN_BYTES}"
        raise InvalidInput(what, code="plan-size")
    if len(plan) > MAX_STEPS:
        raise InvalidInput(f"it takes {len(plan)} steps; the limit is {MAX_STEPS}", code="plan-size")
    return MAGIC + _argument(TABLE) + _argument(total | len(plan) << 32) + body


class _Reader:
    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def number(self) -> int:
        value = int.from_bytes(self.data[self.at : self.at + 8], "little")
        self.at += 8
        return value

    def bytes(self, extra: int = 1) -> bytes:
        size = self.number()
        data = self.data[self.at : self.at + size]
        self.at += (size + extra + 7) // 8 * 8
        return data

    def argument(self, letter: str) -> object:
        if letter in "nf":
            return self.number()
        if letter == "l":
            count = self.number()
            words = self.bytes(extra=0).split(b"\0")
            return tuple([word.decode("utf-8", "surrogateescape") for word in words[:count]])
        data = self.bytes()
        return data.decode("utf-8", "surrogateescape") if letter == "s" else data


def decode(data: bytes) -> Plan:
    """What `encode` made; for bytes of our own only. Raises InvalidInput if another kist made them."""
    from kist.plan._table import TABLE

    if data[:8] != MAGIC or len(data) < 24 or data[8:16] != _argument(TABLE):
        raise InvalidInput("this plan was made by another version of kist", code="plan-version")
    classes = {cls.op: cls for cls in steps.STEPS}
    count = int.from_bytes(data[20:24], "little")
    plan, at = [], 24
    for _ in range(count):
        head = int.from_bytes(data[at : at + 8], "little")
        op, actor, size = head & 0xFFFF, head >> 16 & 0xFF, head >> 32
        reader = _Reader(data, at + 8)
        cls = classes[op]
        step = cls(*[reader.argument(letter) for letter in signature(cls)])
        why, group = str(reader.argument("s")), reader.number()
        plan.append(Entry(step, actor, _CHAPTERS[group], why))
        at += size
    return tuple(plan)
