"""The table `inet kist`: the same on each host; networks and published ports are elements of its sets and maps. Pure.

    raw         nobody in a container speaks with a loopback address: published ports make the kernel let those through
    prerouting  a published port of an address of the host's becomes the container's own
    output      the same for the host's own programs
    refused     what nobody could answer: ::1, where br_netfilter looks into bridges
    postrouting leaving a bridge for elsewhere: with the host's address; also from localhost, and to a published port
                of the same network (the answer has to come back this way)
    forward     between two networks: no. From elsewhere: only answers and published ports. Internal: neither.
                What may pass is marked for the firewalls of others (network/others.py), but not into bridges of
                docker's: its own rules hide ports there by the policy
    passed      and the mark is taken off again

No rule matches but by an interface of ours or by a published port.
"""

from __future__ import annotations

from struct import pack

from kist.plan import nfnetlink as n
from kist.plan.ports import PROTOCOLS, Port
from kist.plan.rtnetlink import address_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = "kist"
MARK = 1 << 28  # between `forward` and `passed` only
MARKERS = ("layout5", "layout5-loopback6")  # an empty set: this layout of the table. Another layout, another name
_DOCKERS = (b"docker", b"br-")
_EVERY4 = (n.PROTOCOL, n.SERVICE)
_SETS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "bridges": ((n.INTERFACE,), ()),
    "internal": ((n.INTERFACE,), ()),
    "same": ((n.INTERFACE, n.INTERFACE), ()),
    "ports4": ((n.IPV4_ADDRESS, *_EVERY4), (n.IPV4_ADDRESS, n.SERVICE)),
    "any4": (_EVERY4, (n.IPV4_ADDRESS, n.SERVICE)),
    "ports6": ((n.IPV6_ADDRESS, *_EVERY4), (n.IPV6_ADDRESS, n.SERVICE)),
    "any6": (_EVERY4, (n.IPV6_ADDRESS, n.SERVICE)),
    "self4": ((n.IPV4_ADDRESS, n.IPV4_ADDRESS, *_EVERY4), ()),
    "self6": ((n.IPV6_ADDRESS, n.IPV6_ADDRESS, *_EVERY4), ()),
}
_CHAINS = (
    ("raw", "filter", n.PREROUTING, -300),
    ("prerouting", "nat", n.PREROUTING, -100),
    ("output", "nat", n.OUTPUT, -100),
    ("refused", "filter", n.OUTPUT, 0),
    ("postrouting", "nat", n.POSTROUTING, 100),
    ("forward", "filter", n.FORWARD, -10),  # others' are at 0, firewalld's at 10
    ("passed", "filter", n.FORWARD, 300),
)


def _rules(loopback6: bool) -> list[tuple[str, tuple[bytes, ...]]]:
    ours, drop, back = n.within("bridges"), n.verdict(n.DROP), b"".join((*n.mark(MARK), n.verdict(n.RETURN)))
    v4, loopback4, own6 = n.family_is(n.IPV4), b"\x7f", bytes(15) + b"\1"
    found: list[tuple[str, tuple[bytes, ...]]] = []
    found += [("raw", (n.arriving(), ours, v4, n.header_is(offset, loopback4), drop)) for offset in (12, 16)]
    to_own6 = (n.family_is(n.IPV6), n.header_is(24, own6))
    for chain in ("prerouting", "output"):
        found.append((chain, (*_redirect(4, "ports4"), n.dnat(n.IPV4, 1, 9))))
        found.append((chain, (*_redirect(4, "any4"), n.dnat(n.IPV4, 1, 9))))
        if chain == "output" and not loopback6:
            found.append((chain, (*to_own6, n.verdict(n.RETURN))))
        found.append((chain, (*_redirect(6, "ports6"), n.dnat(n.IPV6, 1, 12))))
        found.append((chain, (*_redirect(6, "any6"), n.dnat(n.IPV6, 1, 12))))
    if not loopback6:  # where br_netfilter undoes it before IPv6 takes a look, answers to ::1 are dropped
        found.append(("refused", (*to_own6, *_redirect(6, "any6"), n.refuse())))
    found += [
        ("postrouting", (n.arriving(), ours, n.leaving(), n.within("bridges", inverted=True), n.masquerade())),
        ("postrouting", (n.arriving(), ours, n.leaving(), ours, n.redirected(), n.masquerade())),
        ("postrouting", (*_to_itself(4), n.masquerade())),
        ("postrouting", (*_to_itself(6), n.masquerade())),
        ("postrouting", (v4, n.header_is(12, loopback4), n.leaving(), ours, n.masquerade())),
        ("postrouting", (n.family_is(n.IPV6), n.header_is(8, own6), n.leaving(), ours, n.masquerade())),
        ("forward", (n.arriving(1), n.leaving(2), n.within("same"), back)),
        ("forward", (n.arriving(), n.within("internal"), drop)),
        ("forward", (n.leaving(), n.within("internal"), drop)),
        ("forward", (n.arriving(), ours, n.established(), back)),
        ("forward", (n.leaving(), ours, n.established(), back)),
        ("forward", (n.leaving(), ours, n.redirected(), back)),
        ("forward", (n.leaving(), ours, drop)),
        *[("forward", (n.arriving(), ours, n.leaving(), n.begins(name), n.verdict(n.RETURN))) for name in _DOCKERS],
        ("forward", (n.arriving(), ours, back)),
        ("passed", (*n.marked(MARK), *n.unmark(MARK))),
    ]
    return found


def _redirect(family: int, name: str) -> tuple[bytes, ...]:
    """The container's address, and behind it its port, for what goes to an address of the host's."""
    at, size, offset = (9, 4, 16) if family == 4 else (12, 16, 24)
    proto = n.family_is(n.IPV4 if family == 4 else n.IPV6)
    if name.startswith("any"):
        key = n.protocol(8) + n.destination_port(9)
    else:
        key = n.network_header(1, offset, size) + n.protocol(at) + n.destination_port(at + 1)
    return (n.local_destination(), proto, key, n.within(name, into=1))


def _to_itself(family: int) -> tuple[bytes, ...]:
    """Where br_netfilter takes a bridge's packets through here, those from a container to a port that it published stay
    in the bridge, and come from no interface."""
    at, offset, size = (10, 12, 8) if family == 4 else (16, 8, 32)
    addresses = n.network_header(1, offset, size)
    key = addresses + n.protocol(at) + n.destination_port(at + 1)
    return (n.family_is(n.IPV4 if family == 4 else n.IPV6), key, n.within(f"self{family}"))


def table(networks: Iterable[tuple[str, bool]], ports: Iterable[Port], *, loopback6: bool) -> list[bytes]:
    """One transaction: the whole table in place of what is there. `networks`: bridges, and which are internal.
    `loopback6`: published ports are those of ::1, too."""
    found = [n.add_table(TABLE), n.delete_table(TABLE), n.add_table(TABLE)]
    sets = {MARKERS[loopback6]: ((n.SERVICE,), ()), **_SETS}
    found += [n.add_set(TABLE, name, i + 1, *types) for i, (name, types) in enumerate(sets.items())]
    found += [n.add_chain(TABLE, *chain) for chain in _CHAINS]
    found += [n.add_rule(TABLE, chain, *expressions) for chain, expressions in _rules(loopback6)]
    for bridge, internal in networks:
        found += _network(bridge, internal)
    found += [message for port in ports for message in _port(port)]
    return n.transaction(found)


def _network(bridge: str, internal: bool) -> list[bytes]:
    name = n.interface(bridge)
    found = [n.add_elements(TABLE, "bridges", [(name, b"")]), n.add_elements(TABLE, "same", [(name + name, b"")])]
    return [*found, n.add_elements(TABLE, "internal", [(name, b"")])] if internal else found


def add_network(bridge: str, internal: bool, *, loopback6: bool) -> list[bytes]:
    """One transaction; also when it is there. ENOENT when the table is not, or is of another layout."""
    return n.transaction([n.add_elements(TABLE, MARKERS[loopback6], []), *_network(bridge, internal)])


def remove_network(bridge: str, internal: bool) -> list[bytes]:
    name = n.interface(bridge)
    found = [n.delete_elements(TABLE, "bridges", [name]), n.delete_elements(TABLE, "same", [name + name])]
    return n.transaction([*found, n.delete_elements(TABLE, "internal", [name])] if internal else found)


def remove_table() -> list[bytes]:
    return n.transaction([n.delete_table(TABLE)])


NAME_SERVER, NAME_PORT = bytes((127, 0, 0, 11)), 61053


def name_server(*, again: bool = False) -> list[bytes]:
    """One transaction for a container's own network namespace: port 53 of NAME_SERVER is NAME_PORT, since a program
    inside may want port 53 of every address for itself. `again`: it may have been told already."""
    found = [n.add_table(TABLE), *([n.delete_table(TABLE), n.add_table(TABLE)] if again else [])]
    found.append(n.add_chain(TABLE, "output", "nat", n.OUTPUT, -100))
    to = n.value(1, NAME_SERVER) + n.value(9, pack(">H", NAME_PORT)) + n.dnat(n.IPV4, 1, 9)
    for protocol in ("udp", "tcp"):
        asked = n.family_is(n.IPV4) + n.header_is(16, NAME_SERVER) + n.protocol_is(PROTOCOLS[protocol]) + n.port_is(53)
        found.append(n.add_rule(TABLE, "output", asked, to))
    return n.transaction(found)


def name_server_words(*, again: bool = False) -> tuple[str, ...]:
    to = f"dnat ip to 127.0.0.11:{NAME_PORT}"
    rules = [f"nft add rule inet {TABLE} output ip daddr 127.0.0.11 {p} dport 53 {to}" for p in ("udp", "tcp")]
    hook = "'{ type nat hook output priority -100; }'"
    table = [f"nft {verb} table inet {TABLE}" for verb in (("add", "delete", "add") if again else ("add",))]
    return ("", *table, f"nft add chain inet {TABLE} output {hook}", *rules, "")


# --- published ports


def name_of(port: Port) -> str:
    """Its map."""
    return f"{'ports' if any(port.address) else 'any'}{4 if len(port.address) == 4 else 6}"


def element(port: Port) -> tuple[bytes, bytes]:
    address = port.address if any(port.address) else b""
    key = address + bytes([PROTOCOLS[port.protocol], 0, 0, 0]) + pack(">HH", port.port, 0)
    return key, port.target + pack(">HH", port.target_port, 0)


def _itself(port: Port) -> tuple[str, bytes]:
    key = port.target * 2 + bytes([PROTOCOLS[port.protocol], 0, 0, 0]) + pack(">HH", port.target_port, 0)
    return f"self{4 if len(port.target) == 4 else 6}", key


def _port(port: Port) -> list[bytes]:
    name, key = _itself(port)
    return [n.add_elements(TABLE, name_of(port), [element(port)]), n.add_elements(TABLE, name, [(key, b"")])]


def remove_itself(port: Port) -> list[bytes]:
    """One transaction; ENOENT when it is not there: two ports may lead to one."""
    name, key = _itself(port)
    return n.transaction([n.delete_elements(TABLE, name, [key])])


def add_port(port: Port) -> list[bytes]:
    """One transaction; EBUSY when something else is published there."""
    return n.transaction(_port(port))


def remove_port(port: Port) -> list[bytes]:
    """One transaction; ENOENT when it is not there."""
    return n.transaction([n.delete_elements(TABLE, name_of(port), [element(port)[0]])])


def itself_words(port: Port) -> str:
    name, target = _itself(port)[0], address_text(port.target)
    return f"inet {TABLE} {name} '{{ {target} . {target} . {port.protocol} . {port.target_port} }}'"


def port_words(port: Port) -> str:
    """As nft(8) takes it, after `nft add element` and `nft delete element`."""
    address = f"{address_text(port.address)} . " if any(port.address) else ""
    target = f"{address_text(port.target)} . {port.target_port}"
    return f"inet {TABLE} {name_of(port)} '{{ {address}{port.protocol} . {port.port} : {target} }}'"
