"""Netlink messages as bytes, and back: headers, attributes, acknowledgements. Pure; rtnetlink.py has the vocabulary.

    message    u32 size, u16 type, u16 flags, u32 sequence, u32 port; then a body that the type knows, then attributes
    attribute  u16 size, u16 kind, data; all padded to 4 bytes

Numbers are in the machine's order (little endian on all that kist knows); nfnetlink's own are in network order.
Source: netlink(7), linux/netlink.h, Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

from struct import pack, unpack_from

from kist.errors import InvalidInput
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROUTE, NETFILTER = 0, 12  # protocols: linux/netlink.h, NETLINK_*

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
CREATE, EXCLUSIVE, REPLACE, APPEND = 0x400, 0x200, 0x100, 0x800
DUMP_INTERRUPTED = 0x10
_CAPPED, _EXPLAINED = 0x100, 0x200  # flags of an acknowledgement
ERROR, DONE = 2, 3  # types
NESTED = 0x8000  # in an attribute's kind
_MSGERR_TEXT = 1


def attribute(kind: int, data: bytes | int | str) -> bytes:
    """A number takes 32 bits, a string ends with NUL."""
    if isinstance(data, int):
        data = pack("<I", data)
    elif isinstance(data, str):
        data = data.encode() + b"\0"
    return pack("<HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def message(kind: int, flags: int, body: bytes, *attributes: bytes) -> bytes:
    """A request that is acknowledged, unless it is a dump. Its sequence number comes with `batch`."""
    content = b"".join([body, *attributes])
    flags |= REQUEST if flags & DUMP == DUMP and not flags & CREATE else REQUEST | ACK
    return pack("<IHHII", 16 + len(content), kind, flags, 0, 0) + content


def batch(messages: Iterable[bytes]) -> bytes:
    """Messages in one, numbered from 0: an acknowledgement has the number of what it is about."""
    return b"".join([m[:8] + pack("<I", i) + m[12:] for i, m in enumerate(messages)])


class Reply(Value):
    """A message from the kernel. `body` is all behind the header."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def replies(data: bytes) -> Iterator[Reply]:
    """The messages of a datagram. Raises InvalidInput for what is none."""
    at = 0
    while at < len(data):
        if len(data) - at < 16:
            raise InvalidInput("a netlink message was cut short", code="netlink")
        size, kind, flags, sequence, _ = unpack_from("<IHHII", data, at)
        if size < 16 or size > len(data) - at:
            raise InvalidInput("a netlink message has a wrong size", code="netlink")
        yield Reply(kind, flags, sequence, data[at + 16 : at + size])
        at += (size + 3) & ~3


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """By kind, without the flags for nesting and byte order; of several of a kind the last one."""
    found, end = {}, len(data)
    while end - at >= 4:
        size, kind = unpack_from("<HH", data, at)
        if size < 4 or size > end - at:
            raise InvalidInput("a netlink attribute has a wrong size", code="netlink")
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += (size + 3) & ~3
    return found


def listed(data: bytes) -> list[bytes]:
    """The contents of nested attributes that are elements of a list: their kinds mean nothing."""
    found, at = [], 0
    while len(data) - at >= 4:
        size, _ = unpack_from("<HH", data, at)
        if size < 4 or size > len(data) - at:
            raise InvalidInput("a netlink attribute has a wrong size", code="netlink")
        found.append(data[at + 4 : at + size])
        at += (size + 3) & ~3
    return found


def number(data: bytes | None) -> int:
    """An attribute's number, little endian; 0 when it is missing."""
    return int.from_bytes(data or b"", "little")


def text(data: bytes | None) -> str:
    return (data or b"").rstrip(b"\0").decode(errors="surrogateescape")


class Acknowledgement(Value):
    """`error` is 0 or an errno; `words` are the kernel's own."""

    sequence: int
    error: int
    words: str = ""


def acknowledgement(reply: Reply) -> Acknowledgement | None:
    """None for a reply of another kind. A DONE that ends a dump is one, too."""
    if reply.kind not in (ERROR, DONE) or len(reply.body) < 4:
        return None
    (error,) = unpack_from("<i", reply.body)
    at = 4
    if reply.kind == ERROR and len(reply.body) >= 20:
        (size,) = unpack_from("<I", reply.body, 4)
        at += 16 if reply.flags & _CAPPED or not error else (size + 3) & ~3
    words = attributes(reply.body, at).get(_MSGERR_TEXT) if reply.flags & _EXPLAINED else None
    return Acknowledgement(reply.sequence, -error, text(words))
