"""The host's side of a network: its bridge, the bridge's addresses, and forwarding."""

from __future__ import annotations

from kist.errors import Conflict, NetlinkFailed, Unsupported
from kist.kernel import procfs
from kist.kernel.netlink import Netlink, addresses, routes
from kist.network.network import MTU_OPTION, Network, Subnet, mac_for
from kist.plan import rtnetlink as rt

_EEXIST, _ENODEV = 17, 19
_POOL, _POOL_PREFIX, _OWN_PREFIX = bytes((10, 112, 0, 0)), 14, 22  # 256 networks of 1,021: a bridge has 1,024 ports


def ensure(connection: Netlink, network: Network, *, forward: bool) -> tuple[int, tuple[str, ...]]:
    """Make the bridge, unless it is there: its number, and notes for the user. Raises Conflict, NetlinkFailed."""
    link = find(connection, network.bridge)
    if link is None:
        return _make(connection, network, forward)
    if link.kind != "bridge":
        raise Conflict(f"{network.bridge} is no bridge but a {link.kind or 'device'} of the host",
                       next=f"rename it, or kist network rm {network.name}")  # fmt: skip
    _address(connection, network, link.index)
    return link.index, ()


def _address(connection: Netlink, network: Network, index: int) -> None:
    """Give it the addresses that it lacks; and answers to ::1, which published ports have, a way from it."""
    for subnet in network.subnets:
        asked = [rt.add_address(rt.Address(subnet.gateway, subnet.prefix, index=index, flags=_flags(subnet)))]
        if subnet.family == 6 and not network.internal:
            asked.append(rt.add_route(_answers(index)))
        for message in asked:
            try:
                connection.request(f"cannot give {network.bridge} its address", message)
            except NetlinkFailed as e:
                if e.errno != _EEXIST:
                    raise


def _answers(index: int) -> rt.Route:
    """IPv6 looks for ::1 at the interface where the packet came in only: rt6_need_strict in net/ipv6/route.c. What is
    sent to ::1 from elsewhere is dropped before."""
    return rt.Route(rt.INET6, bytes(15) + b"\1", 128, index=index, table=255, kind=2, metric=1024)


def find(connection: Netlink, name: str) -> rt.Link | None:
    try:
        return rt.read_link(connection.request(f"cannot find {name}", rt.get_link(name=name))[0])
    except NetlinkFailed as e:
        if e.errno == _ENODEV:
            return None
        raise


def cut(connection: Netlink, outside: str) -> None:
    """Remove the cable of that name, which a container had when it ran before: the kernel does so only some time after
    the container's end, and not while anybody has its network namespace open. Raises NetlinkFailed."""
    try:
        connection.request(f"cannot remove {outside}", rt.delete_link(name=outside))
    except NetlinkFailed as e:
        if e.errno != _ENODEV:
            raise


def _make(connection: Netlink, network: Network, forward: bool) -> tuple[int, tuple[str, ...]]:
    mac = mac_for(network.subnets[0].gateway)
    connection.request(
        f"cannot make the bridge {network.bridge}", rt.add_bridge(network.bridge, mac=mac, mtu=network.mtu)
    )
    link = find(connection, network.bridge)
    assert link
    try:
        _address(connection, network, link.index)
        return link.index, forwarding(network) if forward and not network.internal else ()
    except BaseException:
        connection.request(f"cannot remove {network.bridge}", rt.delete_link(link.index))
        raise


def _flags(subnet: Subnet) -> int:
    return rt.NO_DAD if subnet.family == 6 else 0


def forwarding(network: Network) -> tuple[str, ...]:
    """Packets pass from the bridge to elsewhere and back only where forwarding is on."""
    notes = []
    for subnet in network.subnets:
        four = ("net", "ipv4", "ip_forward")
        name = four if subnet.family == 4 else ("net", "ipv6", "conf", "all", "forwarding")
        if set_sysctl(name, "1"):
            notes.append(f"IP forwarding is on from now on ({'.'.join(name)}=1): the network {network.name} needs it")
    return tuple(notes)


def set_sysctl(parts: tuple[str, ...], value: str) -> bool:
    """Whether it had to be changed."""
    path, name = f"/proc/sys/{'/'.join(parts)}", ".".join(parts)
    try:
        if procfs.read(path).strip() == value.encode():
            return False
        with open(path, "w", encoding="ascii") as file:
            file.write(value)
    except OSError as e:
        raise Unsupported(f"cannot set {name} to {value}: {e.strerror}", next=f"sysctl -w {name}={value}") from e
    return True


def mtu_of(options: dict[str, str]) -> int:
    return int(options.get(MTU_OPTION, "0"))


def remove(connection: Netlink, network: Network) -> None:
    link = find(connection, network.bridge)
    if link and link.kind == "bridge":
        connection.request(f"cannot remove {network.bridge}", rt.delete_link(link.index))


def free_subnet(connection: Netlink, networks: list[Network], name: str = "") -> Subnet:
    """An IPv4 subnet that neither the host nor a network has; that of the bridge `name` if it is there already, left
    from before the run directory was emptied. Raises Conflict."""
    link = find(connection, name) if name else None
    for a in addresses(connection, link.index) if link and link.kind == "bridge" else ():
        if len(a.local) == 4 and a.scope == rt.SCOPE_UNIVERSE and a.prefix <= 30:
            base = (int.from_bytes(a.local) & -(1 << (32 - a.prefix))).to_bytes(4)
            return Subnet(base=base, prefix=a.prefix, gateway=a.local)
    taken = taken_ranges(connection, networks)
    pool, size = int.from_bytes(_POOL), 1 << (32 - _OWN_PREFIX)
    for start in range(pool, pool + (1 << (32 - _POOL_PREFIX)), size):
        if not any(start < end and begin < start + size for begin, end, bits in taken if bits == 32):
            base = start.to_bytes(4)
            return Subnet(base=base, prefix=_OWN_PREFIX, gateway=(start + 1).to_bytes(4))
    raise Conflict("no subnet is free", why="all of 10.112.0.0/14 is in use", next="kist network create --subnet ...")


def taken_ranges(connection: Netlink, networks: list[Network]) -> list[tuple[int, int, int]]:
    """(first, end, bits of an address) of what the host has routes for, or addresses in."""
    found = [(s.base, s.prefix) for n in networks for s in n.subnets]
    found += [(r.destination, r.prefix) for r in routes(connection) if r.destination and r.prefix]
    found += [(a.local, a.prefix) for a in addresses(connection)]
    ranges = []
    for address, prefix in found:
        bits = len(address) * 8
        size = 1 << (bits - prefix)
        start = int.from_bytes(address) & -size
        ranges.append((start, start + size, bits))
    return ranges


def check_free(connection: Netlink, networks: list[Network], subnet: Subnet) -> None:
    """Raises Conflict."""
    start, bits = int.from_bytes(subnet.base), len(subnet.base) * 8
    for begin, end, size in taken_ranges(connection, networks):
        if size == bits and start < end and begin < start + subnet.size:
            other = rt.address_text(begin.to_bytes(bits // 8))
            raise Conflict(f"the subnet {subnet} is in use", why=f"it overlaps with that of {other}",
                           next="choose another --subnet, or leave it out", code="subnet-taken")  # fmt: skip
