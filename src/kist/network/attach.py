"""Give a container its place in a network: an address, and the cable as the plan compiler takes it.

What a container holds is written down, under its locked directory's name, before anything of it exists.
"""

from __future__ import annotations

import os

from kist.errors import InvalidInput, Refused
from kist.kernel.netlink import Netlink
from kist.network import bridge, firewall
from kist.network.database import Database, Holder
from kist.network.network import DEFAULT, DEFAULT_BRIDGE, Network, mac_for
from kist.network.publish import close, publish_ports
from kist.plan import rtnetlink as rt
from kist.plan.compile_cable import Cable
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from kist.plan.facts import HostFacts
    from kist.plan.ports import Port
    from kist.plan.request import RunRequest

    class States(Protocol):
        """engine.state.StateDirectory: where containers are."""

        base: str

        def holds(self, id: str) -> bool: ...


class Attachment(Value):
    """`notes`: what the user should know. `fds` are to be kept open for as long as the container lives."""

    cables: tuple[Cable, ...]
    networks: tuple[str, ...]
    notes: tuple[str, ...] = ()
    fds: tuple[int, ...] = ()

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


def bury(states: States) -> None:
    """Give back what dead containers held."""
    with database(states) as db:
        db.bury_dead()


def release(states: States, id: str) -> None:
    """Give back what a container held that never came to be."""
    with database(states) as db:
        db.release(id)


def attach(states: States, request: RunRequest, facts: HostFacts, id: str, *, pretend: bool = False) -> Attachment:
    """With `pretend`, only say what would be. Raises NotFound, Conflict, InvalidInput, Refused, NetlinkFailed."""
    if "CAP_NET_ADMIN" not in facts.capabilities or facts.in_user_namespace:
        raise Refused(
            f"--network {request.network}: only root can plug a cable into the host's bridge so far",
            why="this needs CAP_NET_ADMIN on the host; networks without root come later",
            next="--network host or none, or run as root",
        )
    if "netns" in request.without:
        raise InvalidInput("without a network namespace there is nothing to connect", path="--without netns")
    attachment = None
    try:
        with database(states) as db, Netlink() as connection:
            attachment = _attach(db, connection, request, id, pretend)
            if pretend:
                raise _Pretended
    except _Pretended:
        pass
    assert attachment
    return attachment


def _attach(db: Database, connection: Netlink, request: RunRequest, id: str, pretend: bool) -> Attachment:
    db.bury_dead()
    network = _network(db, connection, request.network)
    address4, address6 = (db.free_address(network, n, asked) for n, asked in ((4, request.ip), (6, request.ip6)))
    outside = f"kist{id[:10]}"
    mac = request.mac_address or mac_for(address4 or address6)
    names = (request.hostname or id[:12], *request.network_alias)
    db.hold(Holder(container=id, network=network.name, name=request.name, address4=address4, address6=address6,
                   mac=mac, outside=outside, aliases=names))  # fmt: skip
    index, notes = (0, ()) if pretend else bridge.ensure(connection, network)
    ports, fds = publish_ports(db, network, request, id, (address4, address6), pretend)
    try:
        if not pretend:
            firewall.ensure(db, network)
            if ports:
                bridge.set_sysctl(("net", "ipv4", "conf", network.bridge, "route_localnet"), "1")
    except BaseException:
        close(list(fds))
        raise
    wished = {p.host_first for p in request.publish}
    notes = (*notes, *[f"{port} leads to port {port.target_port}" for port in ports if port.port not in wished])
    addresses, gateways = [], []
    for subnet, address in ((network.subnet(4), address4), (network.subnet(6), address6)):
        if subnet and address:
            flags = rt.NO_DAD if subnet.family == 6 else 0
            addresses.append(rt.Address(address, subnet.prefix, index=rt.UNKNOWN, flags=flags))
            gateways.append(subnet.gateway)
    cable = Cable(
        network=network.name, bridge=network.bridge, bridge_index=index, outside=outside, mac=mac, mtu=network.mtu,
        addresses=tuple(addresses), gateways=() if network.internal else tuple(gateways),
        ports=ports,
    )  # fmt: skip
    return Attachment(cables=(cable,), networks=(network.name,), notes=notes, fds=fds)


def _network(db: Database, connection: Netlink, name: str) -> Network:
    if name == DEFAULT and not any(n.name == DEFAULT for n in db.networks()):
        network = Network(
            name=DEFAULT, id=os.urandom(32).hex(), bridge=DEFAULT_BRIDGE, created=now(),
            subnets=(bridge.free_subnet(connection, db.networks(), DEFAULT_BRIDGE),),
        )  # fmt: skip
        db.add_network(network)
        return network
    return db.network(name)


def now() -> str:
    from time import gmtime, strftime

    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
