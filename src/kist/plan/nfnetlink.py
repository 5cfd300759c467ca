"""The words of nf_tables as netlink messages: tables, sets, chains, rules, elements. Pure.

Numbers of netlink's own are little endian, those in nf_tables' attributes big endian; what is compared with a packet is
in the packet's order. Source: linux/netfilter/nf_tables.h, nfnetlink.h; the bytecode is what `nft --debug=netlink`
shows.
"""

from __future__ import annotations

from struct import pack

from kist.plan.netlink import APPEND, CREATE, attribute, message, nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

INET, IPV4, IPV6 = 1, 2, 10  # families of nf_tables: NFPROTO_*
PREROUTING, FORWARD, OUTPUT, POSTROUTING = 0, 2, 3, 4
DROP, ACCEPT, RETURN = 0, 1, -5
# Data types, as nft(8) numbers them: only for its listings.
IPV4_ADDRESS, IPV6_ADDRESS, PROTOCOL, SERVICE, INTERFACE = 7, 8, 12, 13, 41
_TYPE_BYTES = {IPV4_ADDRESS: 4, IPV6_ADDRESS: 16, PROTOCOL: 4, SERVICE: 4, INTERFACE: 16}

_SUBSYSTEM = 10 << 8
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _NEWSET, _NEWELEMENT, _DELELEMENT = 0, 2, 3, 6, 9, 12, 14
_BEGIN, _END = 16, 17
_REQUEST = 1
_MAP = 0x8


def _message(kind: int, flags: int, *attributes: bytes) -> bytes:
    return message(_SUBSYSTEM | kind, flags, pack(">BBH", INET, 0, 0), *attributes)


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


def add_rule(table: str, chain: str, *expressions: bytes) -> bytes:
    """At the end of the chain."""
    return _message(_NEWRULE, CREATE | APPEND, _text(1, table), _text(2, chain), nested(4, *expressions))


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, _text(1, name), nested(2, *attributes))


def _meta(key: int, register: int) -> bytes:
    return _expression("meta", _number(1, register), _number(2, key))


def arriving(register: int = 1) -> bytes:
    """iifname; a register of 16 bytes: 1 to 4."""
    return _meta(6, register)


def leaving(register: int = 1) -> bytes:
    return _meta(7, register)


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


def _ct(key: int, mask: int) -> bytes:
    bits = nested(4, attribute(1, pack("<I", mask))) + nested(5, attribute(1, bytes(4)))
    masked = _expression("bitwise", _number(1, 1), _number(2, 1), _number(3, 4), bits)
    return _expression("ct", _number(1, 1), _number(2, key)) + masked + _compare(bytes(4), unequal=True)


def established() -> bytes:
    """ct state established,related"""
    return _ct(0, 6)


def redirected() -> bytes:
    """ct status dnat"""
    return _ct(2, 0x20)


def verdict(code: int) -> bytes:
    return _expression("immediate", _number(1, 0), nested(2, nested(2, _number(1, code))))


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
