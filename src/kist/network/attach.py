"""Give a container its place in a network: an address, and the cable as the plan compiler takes it.

What a container holds is written down, under its locked directory's name, before anything of it exists.
"""

from __future__ import annotations

import os

from kist.errors import InvalidInput, NotFound, Refused
from kist.kernel.netlink import Netlink
from kist.network import bridge, firewall
from kist.network.database import Database, Holder
from kist.network.network import DEFAULT, DEFAULT_BRIDGE, Network, mac_for
from kist.network.publish import close, publish_ports, relay_ports
from kist.network.wire import check_rate, parent
from kist.plan import rtnetlink as rt
from kist.plan.compile_cable import Cable
from kist.plan.request import NetRate
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from kist.network.shared import Shared
    from kist.plan.facts import HostFacts
    from kist.plan.ports import Port
    from kist.plan.request import RunRequest

    class States(Protocol):
        """engine.state.StateDirectory: where containers are."""

        base: str

        def holds(self, id: str) -> bool: ...

        def shared(self) -> Iterable[str]: ...

        def records(self) -> Iterable[Published]: ...

        def supervisor(self, id: str) -> int: ...

        def pid(self, id: str) -> int: ...

    class Published(Protocol):
        """engine.state.Record."""

        @property
        def id(self) -> str: ...
        @property
        def ports(self) -> tuple[str, ...]: ...
        @property
        def shared(self) -> str: ...


class Attachment(Value):
    """`notes`: what the user should know. `fds` are to be kept open for as long as the container lives. Of a relay
    `ports` are those it published, as engine.state.Record has them; `relayed`: their fds, and the container's ports.
    `shared`: where the cables of an ordinary user's end; `out`: not all those networks are internal."""

    cables: tuple[Cable, ...] = ()
    networks: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    relayed: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
    fds: tuple[int, ...] = ()
    shared: Shared | None = None
    out: bool = True
    pasta: tuple[str, ...] = ()  # the program that is its way out, and arguments

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


class _Pretended(Exception):
    pass


def database(states: States) -> Database:
    return Database(states.base, states.holds, _bury_ports)


def _bury_ports(ports: tuple[Port, ...]) -> None:
    from kist.network.firewall import remove_ports

    remove_ports(ports)


def release(states: States, id: str) -> None:
    """Give back what a container held that is dead, or never came to be."""
    with database(states) as db:
        db.release(id)


def attach(
    states: States, request: RunRequest, facts: HostFacts, id: str, *, fresh: bool = False, pretend: bool = False
) -> Attachment:  # fmt: skip
    """With `pretend`, only say what would be. A `fresh` id held nothing before.

    Raises NotFound, Conflict, InvalidInput, Refused, NetlinkFailed."""
    if "netns" in request.without:
        raise InvalidInput("without a network namespace there is nothing to connect", path="--without netns")
    attachment = None
    try:
        with database(states) as db:
            if not fresh:
                db.release(id, pretend=pretend)  # what it held when it ran before
            if facts.ordinary:
                attachment = _attach_shared(states, db, request, facts, id, pretend)
            else:
                with Netlink() as connection:
                    attachment = _attach(db, connection, request, facts, id, pretend)
            if pretend:
                raise _Pretended
    except _Pretended:
        pass
    assert attachment
    return attachment


def _attach_shared(
    states: States, db: Database, request: RunRequest, facts: HostFacts, id: str, pretend: bool
) -> Attachment:  # fmt: skip
    """An ordinary user's: cables end in bridges of the user's own, and a relay is the way out and in."""
    from kist.plan.config import needs_userns

    if not needs_userns(request, facts):
        raise Refused(f"--network {request.network}: the container has no user namespace to share", code="no-cables",
                      why="bridges of the host need CAP_NET_ADMIN there, an ordinary user's a user namespace",
                      next="--network bridge alone, which is a relay")  # fmt: skip
    db.bury_some()
    networks = [network_of(db, name) for name in request.in_networks]
    relay = relay_ports(request, ipv6=facts.ipv6, network=networks[0], pretend=pretend)
    shared = None
    try:
        if not pretend:
            from kist.network.shared import make

            shared = make(states, facts)
        cables = []
        for i, network in enumerate(networks):
            place = Place.of(request, id, i, routes=False)
            cables.append(plug(db, shared.connection if shared else None, network, place, shared=True)[0])
    except BaseException:
        relay.close()
        if shared:
            shared.close()
        raise
    return replace(relay, cables=tuple(cables), networks=tuple([n.name for n in networks]), shared=shared,
                   out=not all(n.internal for n in networks))  # fmt: skip


def _attach(
    db: Database, connection: Netlink, request: RunRequest, facts: HostFacts, id: str, pretend: bool
) -> Attachment:  # fmt: skip
    """The first network has the published ports; the first one that is not internal, the default routes."""
    check_rate(connection, request)
    db.bury_some()
    cables: list[Cable] = []
    notes: list[str] = []
    fds: list[int] = []
    routed = False
    try:
        for i, name in enumerate(request.in_networks):
            network = network_of(db, name)
            place = Place.of(request, id, i, routes=not (routed or network.internal))
            cable, said = plug(db, None if pretend else connection, network, place)
            routed = routed or bool(cable.gateways)
            notes += said
            if i == 0:
                targets = tuple([a.local for a in cable.addresses])
                ports, opened, proxied = publish_ports(
                    db, network, request, id, targets, ipv6=facts.ipv6, pretend=pretend
                )
                fds += opened
                if ports and not pretend:
                    bridge.set_sysctl(("net", "ipv4", "conf", network.bridge, "route_localnet"), "1")
                wished = {p.host_first for p in request.publish}
                notes += [f"{port} leads to port {port.target_port}" for port in ports if port.port not in wished]
                cable = replace(cable, ports=ports, proxied=proxied)
            cables.append(cable)
    except BaseException:
        close(fds)
        raise
    return Attachment(cables=tuple(cables), networks=tuple([c.network for c in cables]), notes=tuple(notes),
                      fds=tuple(fds))  # fmt: skip


class Place(Value):
    """What a container asks for in a network. `number` counts its cables."""

    container: str
    name: str
    number: int
    ip: bytes = b""
    ip6: bytes = b""
    mac: bytes = b""
    aliases: tuple[str, ...] = ()
    routes: bool = True  # default routes lead there
    rate: NetRate = NetRate()

    @classmethod
    def of(cls, request: RunRequest, id: str, number: int, *, routes: bool) -> Place:
        """Addresses are those of the first network that a request names."""
        names = (request.hostname or id[:12], *request.network_alias)
        asked = (request.ip, request.ip6, request.mac_address) if number == 0 else (b"", b"", b"")
        return cls(id, request.name, number, *asked, names, routes, request.net_rate)


def plug(
    db: Database, connection: Netlink | None, network: Network, place: Place, *, shared: bool = False
) -> tuple[Cable, tuple[str, ...]]:
    """A place in a network, written down, and the cable that leads there; what the user should know besides. Without
    a connection it is on paper only. `shared`: the bridge is where an ordinary user's are."""
    address4, address6 = (db.free_address(network, n, asked) for n, asked in ((4, place.ip), (6, place.ip6)))
    outside = f"kist{place.container[:10]}{_LETTERS[place.number] if place.number else ''}"
    inside = f"eth{place.number}"
    mac = place.mac or mac_for(address4 or address6)
    db.hold(Holder(container=place.container, network=network.name, name=place.name, address4=address4,
                   address6=address6, mac=mac, outside=outside, inside=inside, aliases=place.aliases))  # fmt: skip
    index, notes = 0, tuple[str, ...]()
    if network.mode:
        if shared:
            raise Refused(f"the network {network.name} is on a wire of the host's",
                          why="this needs CAP_NET_ADMIN there",
                          next="a network with the driver bridge, or root")  # fmt: skip
        if place.rate.into:
            raise InvalidInput(f"what comes in from the wire of {network.bridge} can't be slowed", path="--net-rate",
                               next="--net-rate out=...")  # fmt: skip
        with Netlink() as host:
            index = parent(host, network.bridge)
    elif connection:
        bridge.cut(connection, outside)
        index, notes = bridge.ensure(connection, network, forward=not shared)
        if not shared:
            notes += firewall.ensure(db, network)
    addresses, gateways = [], []
    for subnet, address in ((network.subnet(4), address4), (network.subnet(6), address6)):
        if subnet and address:
            flags = rt.NO_DAD if subnet.family == 6 else 0
            addresses.append(rt.Address(address, subnet.prefix, index=rt.UNKNOWN, flags=flags))
            gateways.append(subnet.gateway)
    return Cable(
        network=network.name, bridge=network.bridge, bridge_index=index, outside=outside, inside=inside, mac=mac,
        mtu=network.mtu, addresses=tuple(addresses),
        gateways=tuple(gateways) if place.routes and not network.internal else (),
        mode=network.mode, rate=place.rate,
        link_local=bool(address6) or not os.path.exists("/proc/sys/net/ipv6"),
    ), notes  # fmt: skip


_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"  # cables of one container: an interface's name has 15 bytes
CABLES_MOST = len(_LETTERS)


def network_of(db: Database, name: str) -> Network:
    """The default network is made on first use. Raises NotFound, Conflict."""
    try:
        return db.network(name)
    except NotFound:
        if name != DEFAULT:
            raise
        with Netlink() as host:
            subnet = bridge.free_subnet(host, db.networks(), DEFAULT_BRIDGE if os.geteuid() == 0 else "")
        network = Network(
            name=DEFAULT, id=os.urandom(32).hex(), bridge=DEFAULT_BRIDGE, created=now(), subnets=(subnet,)
        )  # fmt: skip
        db.add_network(network)
        return network


def now() -> str:
    from time import gmtime, strftime

    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
