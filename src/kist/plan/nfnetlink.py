"""The words of nf_tables as netlink messages: tables, sets, chains, rules, elements. Pure.

Numbers of netlink's own are little endian, those in nf_tables' attributes big endian; what is compared with a packet is
in the packet's order. Source: linux/netfilter/nf_tables.h, nfnetlink.h; the bytecode is what `nft --debug=netlink`
shows.
"""

from __future__ import annotations

from struct import pack

from kist.plan.netlink import APPEND, CREATE, DUMP, attribute, attributes, listed, message, nested, text
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kist.plan.netlink import Reply

ANY, INET, IPV4, IPV6 = 0, 1, 2, 10  # families of nf_tables: NFPROTO_*
PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4
DROP, ACCEPT, RETURN = 0, 1, -5
# Data types, as nft(8) numbers them: only for its listings.
IPV4_ADDRESS, IPV6_ADDRESS, PROTOCOL, SERVICE, INTERFACE = 7, 8, 12, 13, 41
_TYPE_BYTES = {IPV4_ADDRESS: 4, IPV6_ADDRESS: 16, PROTOCOL: 4, SERVICE: 4, INTERFACE: 16}

_SUBSYSTEM = 10 << 8
_NEWTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _NEWRULE, _GETRULE, _DELRULE = 0, 2, 3, 4, 6, 7, 8
_NEWSET, _NEWELEMENT, _GETELEMENT, _DELELEMENT = 9, 12, 13, 14
_BEGIN, _END = 16, 17
_REQUEST = 1
_MAP = 0x8


def _message(kind: int, flags: int, *attributes: bytes, family: int = INET) -> bytes:
    return message(_SUBSYSTEM | kind, flags, pack(">BBH", family, 0, 0), *attributes)


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, pack(">i" if value < 0 else ">I", value))


def transaction(messages: Iterable[bytes]) -> list[bytes]:
    """All of them or none. The two at its ends are not acknowledged."""
    body = pack(">BBH", 0, 0, 10)
    begin, end = (pack("<IHHII", 20, kind, _REQUEST, 0, 0) + body for kind in (_BEGIN, _END))
    return [begin, *messages, end]


def add_table(table: str) -> bytes:
    """Also when it is there."""
    return _message(_NEWTABLE, CREATE, _text(1, table))


def delete_table(table: str) -> bytes:
    return _message(_DELTABLE, 0, _text(1, table))


def add_chain(table: str, name: str, kind: str, hook: int, priority: int) -> bytes:
    """`kind`: "filter" or "nat"; what no rule decides is accepted."""
    where = nested(4, _number(1, hook), _number(2, priority))
    return _message(_NEWCHAIN, CREATE, _text(1, table), _text(3, name), where, _text(7, kind))


def _types(types: tuple[int, ...]) -> tuple[int, int]:
    number, size = 0, 0
    for kind in types:
        number, size = number << 6 | kind, size + _TYPE_BYTES[kind]
    return number, size


def add_set(table: str, name: str, number: int, key: tuple[int, ...], data: tuple[int, ...] = ()) -> bytes:
    """With `data` it is a map. `number` tells sets of one transaction apart."""
    kind, size = _types(key)
    found = [_text(1, table), _text(2, name), _number(3, _MAP if data else 0), _number(4, kind), _number(5, size)]
    if data:
        data_kind, data_size = _types(data)
        found += [_number(6, data_kind), _number(7, data_size)]
    if key == (INTERFACE,):  # for listings: else nft(8) reads names backwards
        found.append(attribute(13, b"\0\4" + pack("<I", 1)))
    return _message(_NEWSET, CREATE, *found, _number(10, number))


def _elements(kind: int, flags: int, table: str, name: str, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    items = []
    for key, data in pairs:
        value = [nested(2, attribute(1, data))] if data else []
        items.append(nested(1, nested(1, attribute(1, key)), *value))
    return _message(kind, flags, _text(1, table), _text(2, name), nested(3, *items))


def add_elements(table: str, name: str, pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """(key, data); data is b"" in a set. Also when they are there; EBUSY when a key is there with other data."""
    return _elements(_NEWELEMENT, CREATE, table, name, pairs)


def delete_elements(table: str, name: str, keys: Iterable[bytes]) -> bytes:
    return _elements(_DELELEMENT, 0, table, name, [(key, b"") for key in keys])


def interface(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


# --- rules


def add_rule(table: str, chain: str, *expressions: bytes, family: int = INET, first: bool = False,
             comment: str = "") -> bytes:  # fmt: skip
    """At the end of the chain, or at its beginning."""
    found = [_text(1, table), _text(2, chain), nested(4, *expressions)]
    if comment:  # as nft(8) and iptables-nft write it
        found.append(attribute(7, remark(comment)))
    return _message(_NEWRULE, CREATE | (0 if first else APPEND), *found, family=family)


def remark(comment: str) -> bytes:
    words = comment.encode() + b"\0"
    return bytes((0, len(words))) + words


def delete_rule(family: int, table: str, chain: str, handle: int) -> bytes:
    place = (_text(1, table), _text(2, chain), attribute(3, pack(">Q", handle)))
    return _message(_DELRULE, 0, *place, family=family)


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, _text(1, name), nested(2, *attributes))


def _meta(key: int, register: int) -> bytes:
    return _expression("meta", _number(1, register), _number(2, key))


def arriving(register: int = 1) -> bytes:
    """iifname; a register of 16 bytes: 1 to 4."""
    return _meta(6, register)


def leaving(register: int = 1) -> bytes:
    return _meta(7, register)


def begins(text: bytes) -> bytes:
    """What was loaded into register 1."""
    return _compare(text)


def not_loopback(*, arriving: bool) -> bytes:
    """iifname != "lo"; of what leaves, oifname."""
    return _meta(6 if arriving else 7, 1) + _compare(interface("lo"), unequal=True)


def protocol(register: int) -> bytes:
    """meta l4proto; 8 and more are registers of 4 bytes, of which 8 to 11 make up register 1."""
    return _meta(16, register)


def family_is(family: int) -> bytes:
    return _meta(15, 1) + _compare(bytes([family]))


def _compare(value: bytes, *, unequal: bool = False) -> bytes:
    return _expression("cmp", _number(1, 1), _number(2, int(unequal)), nested(3, attribute(1, value)))


def network_header(register: int, offset: int, size: int) -> bytes:
    return _expression("payload", _number(1, register), _number(2, 1), _number(3, offset), _number(4, size))


def destination_port(register: int) -> bytes:
    return _expression("payload", _number(1, register), _number(2, 2), _number(3, 2), _number(4, 2))


def header_is(offset: int, value: bytes, *, unequal: bool = False) -> bytes:
    return network_header(1, offset, len(value)) + _compare(value, unequal=unequal)


def within(name: str, *, inverted: bool = False, into: int | None = None) -> bytes:
    """What begins in register 1 is in the set; with `into`, what the map has for it goes there."""
    found = [_text(1, name), _number(2, 1)]
    found += [_number(3, into)] if into is not None else []
    return _expression("lookup", *found, *([_number(5, 1)] if inverted else []))


def value(register: int, data: bytes) -> bytes:
    """Put a constant into a register."""
    return _expression("immediate", _number(1, register), nested(2, attribute(1, data)))


def protocol_is(number: int) -> bytes:
    return _meta(16, 1) + _compare(bytes([number]))


def port_is(number: int) -> bytes:
    """The destination's, after `protocol_is`."""
    return _expression("payload", _number(1, 1), _number(2, 2), _number(3, 2), _number(4, 2)) + _compare(
        pack(">H", number)
    )


def local_destination() -> bytes:
    """fib daddr type local"""
    return _expression("fib", _number(1, 1), _number(2, 3), _number(3, 2)) + _compare(pack("<I", 2))


def mark(bits: int) -> tuple[bytes, ...]:
    """Set them in the packet's mark."""
    return (_meta(3, 1), _masked(0xFFFFFFFF & ~bits, bits), _expression("meta", _number(2, 3), _number(3, 1)))


def unmark(bits: int) -> tuple[bytes, ...]:
    return (_meta(3, 1), _masked(0xFFFFFFFF & ~bits, 0), _expression("meta", _number(2, 3), _number(3, 1)))


def marked(bits: int) -> tuple[bytes, ...]:
    """All of them are set."""
    return (_meta(3, 1), _masked(bits, 0), _compare(pack("<I", bits)))


def xt_marked(bits: int) -> bytes:
    """The same in iptables' words, which all its versions read: older ones take the above for no condition at all."""
    return _expression("match", _text(1, "mark"), _number(2, 1), attribute(3, xt_mark_info(bits)))


def xt_mark_info(bits: int) -> bytes:
    """struct xt_mark_mtinfo1, aligned as XT_ALIGN does. Source: linux/netfilter/xt_mark.h"""
    return pack("<II8x", bits, bits)


def _masked(mask: int, flipped: int) -> bytes:
    bits = nested(4, attribute(1, pack("<I", mask))) + nested(5, attribute(1, pack("<I", flipped)))
    return _expression("bitwise", _number(1, 1), _number(2, 1), _number(3, 4), bits)


def _ct(key: int, mask: int) -> bytes:
    return _expression("ct", _number(1, 1), _number(2, key)) + _masked(mask, 0) + _compare(bytes(4), unequal=True)


def established() -> bytes:
    """ct state established,related"""
    return _ct(0, 6)


def redirected() -> bytes:
    """ct status dnat"""
    return _ct(2, 0x20)


def verdict(code: int) -> bytes:
    return _expression("immediate", _number(1, 0), nested(2, nested(2, _number(1, code))))


def refuse() -> bytes:
    """reject with icmpx port-unreachable: "connection refused", whatever the protocol."""
    return _expression("reject", _number(1, 2), attribute(2, b"\1"))


def masquerade() -> bytes:
    return _expression("masq")


def redirect(port: int) -> bytes:
    """To this machine's own port that a register holds; the address is loopback's."""
    return _expression("redir", _number(1, port), _number(2, port))


def tproxy(port: int) -> bytes:
    """To a transparent socket at the port that a register holds, the packet unchanged."""
    return _expression("tproxy", _number(1, 0), _number(3, port))


def log(group: int) -> bytes:
    """Tell the listeners of nfnetlink_log's group, each packet at once."""
    return _expression("log", attribute(1, pack(">H", group)), attribute(4, pack(">H", 1)))


def dnat(family: int, address: int, port: int) -> bytes:
    """To what two registers hold."""
    return _expression("nat", _number(1, 1), _number(2, family), _number(3, address), _number(5, port))


# --- what is there


class Chain(Value):
    """`hook` is -1 for one that only others jump to."""

    family: int
    table: str
    name: str
    hook: int
    policy: int


def get_chains() -> bytes:
    """Of all families."""
    return _message(_GETCHAIN, DUMP, family=ANY)


def is_of(reply: Reply, table: str) -> bool:
    """Without reading it all: the table comes first."""
    return reply.body.startswith(_text(1, table), 4)


def read_chain(reply: Reply) -> Chain:
    found = attributes(reply.body, 4)
    hook = attributes(found[4]) if 4 in found else {}
    hooked = int.from_bytes(hook.get(1, b""), "big") if hook else -1
    return Chain(reply.body[0], text(found[1]), text(found[3]), hooked, int.from_bytes(found.get(5, b"\1"), "big"))


def get_rules(family: int, table: str, chain: str) -> bytes:
    return _message(_GETRULE, DUMP, _text(1, table), _text(2, chain), family=family)


def read_rule(reply: Reply) -> tuple[int, bytes]:
    """Its handle, and what users noted: see `remark`."""
    found = attributes(reply.body, 4)
    return int.from_bytes(found[3], "big"), found.get(7, b"")


def get_elements(table: str, name: str) -> bytes:
    return _message(_GETELEMENT, DUMP, _text(1, table), _text(2, name))


def count_elements(replies: Iterable[Reply]) -> int:
    return sum(len(listed(attributes(reply.body, 4).get(3, b""))) for reply in replies)
