"""The words of rtnetlink: links, addresses, routes, neighbours and rules as netlink messages, and back. Pure.

A message that changes something already there is about a link by its number; UNKNOWN stands for the number of the link
that plan.steps.Netlink names, which only the launcher learns. Addresses are packed: 4 or 16 bytes.
Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h, linux/neighbour.h, linux/fib_rules.h.
"""

from __future__ import annotations

from struct import pack, unpack_from

from kist.plan.netlink import CREATE, DUMP, EXCLUSIVE, REPLACE, attribute, attributes, message, nested, number, text
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.netlink import Reply

UNKNOWN = 0xFFFFFFFF
INET, INET6, BRIDGE = 2, 10, 7  # address families
UP = 0x1
PERMANENT, NO_DAD, NO_PREFIX_ROUTE = 0x80, 0x02, 0x200  # flags of addresses
MAIN_TABLE = 254
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_HOST = 0, 253, 254

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWNEIGH = 28
_NEWRULE = 32

# IFLA_*
_MAC, _NAME, _MTU, _LOWER, _MASTER, _PROTINFO, _INFO, _NET_NS_FD, _ALIAS = 1, 3, 4, 5, 10, 12, 18, 28, 20
_KIND, _DATA = 1, 2
_VETH_PEER = 1
_AF_SPEC, _ADDR_GEN_MODE = 26, 8
_BR_FORWARD_DELAY, _BR_STP, _BR_MCAST_SNOOPING = 1, 5, 23
_MACVLAN_MODE = 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_PORT_HAIRPIN, _PORT_ISOLATED = 4, 33


# --- links


def _link(index: int = 0, *, up: bool | None = None, family: int = 0) -> bytes:
    flags, change = (0, 0) if up is None else (int(up), UP)
    return pack("<BxHiII", family, 0, index if index != UNKNOWN else -1, flags, change)


def _settings(name: str, mac: bytes, mtu: int, master: int, alias: str = "") -> list[bytes]:
    found = [attribute(_NAME, name)] if name else []
    found += [attribute(_MAC, mac)] if mac else []
    found += [attribute(_MTU, mtu)] if mtu else []
    found += [attribute(_MASTER, master)] if master else []
    found += [attribute(_ALIAS, alias.encode())] if alias else []
    return found


def _info(kind: str, *data: bytes) -> bytes:
    return nested(_INFO, attribute(_KIND, kind.encode()), *([nested(_DATA, *data)] if data else []))


def add_bridge(name: str, *, mac: bytes = b"", mtu: int = 0, up: bool = True) -> bytes:
    """Without spanning tree, and so ports forward at once; multicast goes to all ports."""
    data = (attribute(_BR_FORWARD_DELAY, 0), attribute(_BR_STP, 0), attribute(_BR_MCAST_SNOOPING, b"\0"))
    return message(_NEWLINK, CREATE | EXCLUSIVE, _link(up=up), *_settings(name, mac, mtu, 0), _info("bridge", *data))


def add_veth(
    name: str, peer: str, *, netns_fd: int | None = None, mac: bytes = b"", peer_mac: bytes = b"", mtu: int = 0,
    master: int = 0, up: bool = True,
) -> bytes:  # fmt: skip
    """A cable. The peer, which cannot be born up, is in the network namespace behind `netns_fd`: see `netns_at`. Each
    end has one queue: it uses no more, but makes itself one for each processor."""
    there = [attribute(_NET_NS_FD, netns_fd)] if netns_fd is not None else []
    end = _link() + b"".join(there + _settings(peer, peer_mac, mtu, 0) + _ONE_QUEUE)
    return message(
        _NEWLINK, CREATE | EXCLUSIVE, _link(up=up or None), *_settings(name, mac, mtu, master), *_ONE_QUEUE,
        _info("veth", attribute(_VETH_PEER | 0x8000, end)),
    )  # fmt: skip


_ONE_QUEUE = [attribute(31, 1), attribute(32, 1)]  # IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES


def add_macvlan(
    name: str, lower: int, *, mode: str = "bridge", netns_fd: int | None = None, mac: bytes = b"", mtu: int = 0
) -> bytes:
    """A second interface on the wire of link number `lower`."""
    there = [attribute(_NET_NS_FD, netns_fd)] if netns_fd is not None else []
    return message(
        _NEWLINK, CREATE | EXCLUSIVE, _link(), attribute(_LOWER, lower), *there, *_settings(name, mac, mtu, 0),
        _info("macvlan", attribute(_MACVLAN_MODE, MACVLAN_MODES[mode])),
    )  # fmt: skip


def add_plain(kind: str, name: str, *, up: bool = False) -> bytes:
    """A link of a kind that needs no more to be told: "dummy", "ifb"."""
    return message(_NEWLINK, CREATE | EXCLUSIVE, _link(up=up or None), attribute(_NAME, name), _info(kind))


def set_link(
    index: int, *, up: bool | None = None, name: str = "", mac: bytes = b"", mtu: int = 0, master: int = 0,
    netns_fd: int | None = None, alias: str = "", link_local: bool = True,
) -> bytes:  # fmt: skip
    """Change a link, all at once; with `netns_fd` it moves there (and is then down). Without `link_local` it makes no
    IPv6 address for itself when it comes up."""
    there = [attribute(_NET_NS_FD, netns_fd)] if netns_fd is not None else []
    there += [] if link_local else [nested(_AF_SPEC, nested(INET6, attribute(_ADDR_GEN_MODE, b"\1")))]
    return message(_NEWLINK, 0, _link(index, up=up), *there, *_settings(name, mac, mtu, master, alias))


def set_port(index: int, *, hairpin: bool | None = None, isolated: bool | None = None) -> bytes:
    """Of a bridge: send back where it came from; keep it from other isolated ports. As bridge(8) does it: said as
    ip(8) does, it costs more with each port that the bridge has."""
    asked = ((_PORT_HAIRPIN, hairpin), (_PORT_ISOLATED, isolated))
    data = [attribute(kind, bytes([value])) for kind, value in asked if value is not None]
    return message(_SETLINK, 0, _link(index, family=BRIDGE), nested(_PROTINFO, *data))


def delete_link(index: int = 0, *, name: str = "") -> bytes:
    return message(_DELLINK, 0, _link(index), *([attribute(_NAME, name)] if name else []))


def get_links() -> bytes:
    return message(_GETLINK, DUMP, _link())


def get_link(*, index: int = 0, name: str = "") -> bytes:
    """One link, without what it counts; without it the kernel says ENODEV."""
    return message(_GETLINK, 0, _link(index), *([attribute(_NAME, name)] if name else []), attribute(29, 8))


_NEWQDISC, _ROOT = 36, 0xFFFFFFFF
_GSO_MOST = 1 << 16


def _qdisc(flags: int, index: int, kind: str, *attributes: bytes) -> bytes:
    body = pack("<BxxxiIII", 0, index if index != UNKNOWN else -1, 0, _ROOT, 0)
    return message(_NEWQDISC, CREATE | flags, body, attribute(1, kind), *attributes)


def bucket(bytes_s: int) -> tuple[int, int]:
    """A token bucket's size and the length of its queue, in bytes: a fiftieth of a second, and a tenth to wait."""
    return max(bytes_s // 50, _GSO_MOST), max(bytes_s // 10, 2 * _GSO_MOST)


def add_rate(index: int, bytes_s: int) -> bytes:
    """What leaves by this link is as slow as that: a queue of packets before it, also in place of another. Without tbf
    in the kernel, ENOENT. Source: tc-tbf(8), linux/pkt_sched.h."""
    burst, limit = bucket(bytes_s)
    rate = pack("<BBHhHI", 0, 1, 0, 0, 0, min(bytes_s, 0xFFFFFFFF))  # linklayer: ethernet
    options = [attribute(1, rate + bytes(12) + pack("<III", limit, 0, 0)), attribute(6, burst)]
    options += [attribute(4, pack("<Q", bytes_s))] if bytes_s > 0xFFFFFFFF else []
    return _qdisc(REPLACE, index, "tbf", nested(2, *options))


def add_plain_queue(index: int) -> bytes:
    """In place of what is there: a queue without a rate."""
    return _qdisc(REPLACE, index, "pfifo")


def try_rate(index: int) -> bytes:
    """What can't be: ENOENT where the kernel has no tbf, EINVAL where it has."""
    return _qdisc(EXCLUSIVE, index, "tbf")


# Where add_veth and set_link have the fd of the network namespace, counted from the start of the message.
def netns_at(message: bytes) -> int:
    """The fd of a network namespace begins there, so that a launcher can fill it in. Raises ValueError."""
    mark = pack("<HHI", 8, _NET_NS_FD, UNKNOWN)
    return message.index(mark) + 4


class Link(Value):
    """`kind` is "" for hardware and loopback; `master` and `lower` are numbers of links, 0 for none."""

    index: int
    name: str
    up: bool
    mtu: int = 0
    mac: bytes = b""
    master: int = 0
    lower: int = 0
    kind: str = ""
    alias: str = ""


def read_link(reply: Reply) -> Link:
    _, index, flags, _ = unpack_from("<BxHiII", reply.body)[1:]
    found = attributes(reply.body, 16)
    return Link(
        index=index, name=text(found.get(_NAME)), up=bool(flags & UP), mtu=number(found.get(_MTU)),
        mac=found.get(_MAC, b""), master=number(found.get(_MASTER)), lower=number(found.get(_LOWER)),
        kind=text(attributes(found.get(_INFO, b"")).get(_KIND)), alias=text(found.get(_ALIAS)),
    )  # fmt: skip


# --- addresses


class Address(Value):
    """Of a link. `peer` is the other end's where there is one, `broadcast` may be empty."""

    local: bytes
    prefix: int
    index: int = 0
    scope: int = SCOPE_UNIVERSE
    flags: int = 0
    peer: bytes = b""
    broadcast: bytes = b""

    @property
    def family(self) -> int:
        return INET if len(self.local) == 4 else INET6


def _address(kind: int, flags: int, a: Address) -> bytes:
    body = pack("<BBBBI", a.family, a.prefix, a.flags & 0xFF, a.scope, a.index)
    found = [attribute(2, a.local), attribute(1, a.peer or a.local)]
    found += [attribute(4, a.broadcast)] if a.broadcast else []
    found += [attribute(8, a.flags)] if a.flags else []
    return message(kind, flags, body, *found)


def add_address(address: Address) -> bytes:
    return _address(_NEWADDR, CREATE | EXCLUSIVE, address)


def delete_address(address: Address) -> bytes:
    return _address(_DELADDR, 0, address)


def get_addresses(index: int = 0) -> bytes:
    """All, or with NETLINK_GET_STRICT_CHK those of one link."""
    return message(_GETADDR, DUMP, pack("<BBBBI", 0, 0, 0, 0, index))


def read_address(reply: Reply) -> Address:
    _, prefix, flags, scope, index = unpack_from("<BBBBI", reply.body)
    found = attributes(reply.body, 8)
    other = found.get(1, b"")
    local = found.get(2, other)
    return Address(
        local=local, prefix=prefix, index=index, scope=scope, flags=number(found[8]) if 8 in found else flags,
        peer=other if other != local else b"", broadcast=found.get(4, b""),
    )  # fmt: skip


# --- routes, neighbours, rules


class Route(Value):
    """`destination` empty: the default route. `kind` 1 is unicast, 2 local, 6 blackhole, 7 unreachable."""

    family: int
    destination: bytes = b""
    prefix: int = 0
    gateway: bytes = b""
    index: int = 0
    source: bytes = b""
    table: int = MAIN_TABLE
    scope: int = SCOPE_UNIVERSE
    kind: int = 1
    metric: int = 0
    protocol: int = 4  # static


def _route(kind: int, flags: int, r: Route) -> bytes:
    table = r.table if r.table < 256 else 0
    body = pack("<BBBBBBBBI", r.family, r.prefix, 0, 0, table, r.protocol, r.scope, r.kind, 0)
    pairs = ((1, r.destination), (5, r.gateway), (7, r.source))
    numbers = ((4, r.index), (6, r.metric), (15, r.table))
    found = [attribute(number, data) for number, data in pairs if data]
    return message(kind, flags, body, *found, *[attribute(number, value) for number, value in numbers if value])


def add_route(route: Route) -> bytes:
    return _route(_NEWROUTE, CREATE | EXCLUSIVE, route)


def delete_route(route: Route) -> bytes:
    return _route(_DELROUTE, 0, route)


def get_routes(family: int = 0) -> bytes:
    return message(_GETROUTE, DUMP, pack("<BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0))


def read_route(reply: Reply) -> Route:
    family, prefix, _, _, table, protocol, scope, kind, _ = unpack_from("<BBBBBBBBI", reply.body)
    found = attributes(reply.body, 12)
    return Route(
        family=family, destination=found.get(1, b""), prefix=prefix, gateway=found.get(5, b""),
        index=number(found.get(4)), source=found.get(7, b""), table=number(found.get(15)) or table, scope=scope,
        kind=kind, metric=number(found.get(6)), protocol=protocol,
    )  # fmt: skip


def add_neighbour(index: int, address: bytes, mac: bytes) -> bytes:
    """A permanent one: nobody has to be asked for it."""
    family = INET if len(address) == 4 else INET6
    body = pack("<BxHiHBB", family, 0, index if index != UNKNOWN else -1, 0x80, 0, 0)
    return message(_NEWNEIGH, CREATE | 0x100, body, attribute(1, address), attribute(2, mac))


def add_rule(family: int, table: int, *, priority: int = 0, mark: int = 0, interface: str = "") -> bytes:
    """Look up another routing table for what carries a mark or arrives at an interface."""
    body = pack("<BBBBBBBBI", family, 0, 0, 0, table if table < 256 else 0, 0, 0, 1, 0)
    found = [attribute(15, table)]
    found += [attribute(6, priority)] if priority else []
    found += [attribute(10, mark)] if mark else []
    found += [attribute(3, interface)] if interface else []
    return message(_NEWRULE, CREATE | EXCLUSIVE, body, *found)


# --- as people write them


def address_text(address: bytes) -> str:
    if len(address) == 4:
        return ".".join(map(str, address))
    import ipaddress

    return str(ipaddress.IPv6Address(address))


def mac_text(mac: bytes) -> str:
    return mac.hex(":")
