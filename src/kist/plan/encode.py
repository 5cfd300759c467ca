"""A plan as bytes for the launcher.

    header  magic "KISTPLAN", u64 table, u32 total size, u32 steps
    step    u16 op, u8 actor, u8 arguments, u32 size with this header
    int,Slot u64        str, bytes  u64 length, bytes, NUL        strs  u64 count, u64 length, NUL-ended strings

All little endian on every supported machine's own order; everything is padded to 8 bytes. `table` is a digest of the
step table: a launcher built from another one refuses the plan.
"""

from struct import pack
from typing import get_args, get_origin

import msgspec

from kist.errors import InvalidInput
from kist.plan.steps import STEPS, Plan, Slot, Step

MAGIC = b"KISTPLAN"
MAX_PLAN_BYTES = 16 << 20


def signature(step: type[Step]) -> str:
    """A letter per field: n number, f slot, s string, b bytes, l list of strings."""
    letters = ""
    for field in msgspec.structs.fields(step):
        kind = field.type
        if get_origin(kind) is tuple and get_args(kind)[0] is str:
            letters += "l"
        else:
            letters += {int: "n", Slot: "f", str: "s", bytes: "b"}[kind]
    return letters


def table() -> str:
    """The step table as text: what the C side and this side must agree on."""
    rows = [f"{cls.op} {cls.__name__} {signature(cls)} {' '.join(cls.__struct_fields__)}" for cls in STEPS]
    rows += [f"{slot.value} {slot.name}" for slot in Slot]
    return "\n".join(rows) + "\n"


def _string(value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise InvalidInput("a NUL byte cannot be part of a path, an argument or a variable", path=repr(value[:40]))
    return data


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _argument(value: object) -> bytes:
    if isinstance(value, int):
        return pack("<Q", value)
    if isinstance(value, tuple):
        joined = b"".join(_string(v) + b"\0" for v in value)
        return pack("<QQ", len(value), len(joined)) + _padded(joined)
    data = _string(value) if isinstance(value, str) else value
    assert isinstance(data, bytes)
    return pack("<Q", len(data)) + _padded(data + b"\0")


def encode(plan: Plan) -> bytes:
    """Raises InvalidInput for a NUL byte in a string or a plan over MAX_PLAN_BYTES."""
    from kist.plan._table import TABLE

    body = bytearray()
    for entry in plan:
        step = entry.step
        arguments = b"".join([_argument(getattr(step, name)) for name in step.__struct_fields__])
        count = len(step.__struct_fields__)
        body += pack("<HBBI", step.op, entry.actor, count, len(arguments) + 8) + arguments
    total = 24 + len(body)
    if total > MAX_PLAN_BYTES:
        raise InvalidInput(f"arguments and environment make a plan of {total} bytes; the limit is {MAX_PLAN_BYTES}")
    return MAGIC + pack("<QII", TABLE, total, len(plan)) + bytes(body)
