"""Make, find and remove networks. A network that nobody is in has a bridge, an address for it, and nothing else."""

from __future__ import annotations

import os

from kist.errors import Conflict, InvalidInput, KistError, NotFound, Refused
from kist.kernel.netlink import Netlink
from kist.network import bridge, durable, firewall, wire
from kist.network.attach import database, now
from kist.network.database import DIRECTORY, Holder
from kist.network.network import DEFAULT, MODES, MTU_OPTION, Network, Subnet, make_subnet
from kist.plan.rtnetlink import MACVLAN_MODES
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kist.network.attach import States

BRIDGE_OPTION = "com.docker.network.bridge.name"
PARENT_OPTION, MODE_OPTION = "parent", "macvlan_mode"
_ACCEPTED = {"bridge": (BRIDGE_OPTION, MTU_OPTION, "mtu"), "macvlan": (PARENT_OPTION, MODE_OPTION, MTU_OPTION, "mtu")}


class NetworkRequest(Value):
    """What `kist network create` asks for; the texts of subnets, gateways and ranges belong together by their order."""

    name: str
    driver: str = "bridge"
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ip_ranges: tuple[str, ...] = ()
    internal: bool = False
    ipv6: bool = False
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}


def create(states: States, request: NetworkRequest) -> tuple[Network, tuple[str, ...]]:
    """The network, and what the user should know. Raises Conflict, InvalidInput, Refused, NetlinkFailed."""
    if request.name in (*MODES, DEFAULT, "default"):
        raise Conflict(f"the name {request.name!r} is taken", why="it is one of kist's own", next="another name")
    mtu = _mtu(request)
    id = os.urandom(32).hex()
    with database(states) as db, Netlink() as connection:
        networks = db.networks()
        if any(n.name == request.name for n in networks):
            raise Conflict(f"the name {request.name!r} is taken", next=f"kist network rm {request.name}")
        mode = ""
        if request.driver == "macvlan":
            interface, mode = _wire(connection, networks, request)
        else:
            interface = _bridge_name(request.options, id)
            there = _owns_bridges() and bridge.find(connection, interface)
            if there or any(n.bridge == interface for n in networks):
                raise Conflict(f"the host has an interface {interface}", next=f"another -o {BRIDGE_OPTION}=NAME")
        network = Network(
            name=request.name, id=id, bridge=interface, subnets=_subnets(connection, networks, request), mtu=mtu,
            driver=request.driver, mode=mode,
            internal=request.internal, options=dict(request.options), labels=dict(request.labels), created=now(),
        )  # fmt: skip
        db.add_network(network)
    notes: tuple[str, ...] = ()
    try:  # it is written down by now: what exists in the kernel can be found again
        with database(states) as db, Netlink() as connection:
            if not mode and _owns_bridges():
                _, notes = bridge.ensure(connection, network, forward=True)
                notes += firewall.ensure(db, network)
            durable.save(network)
    except KistError:
        with database(states) as db:
            db.remove_network(network)
        raise
    return network, notes


def _owns_bridges() -> bool:
    """An ordinary user's are made when a container needs them: network/shared.py."""
    from kist.kernel.probe import probe

    return not probe().ordinary


def _wire(connection: Netlink, networks: list[Network], request: NetworkRequest) -> tuple[str, str]:
    """The interface of the host that leads to it, and how those on it see each other."""
    if not _owns_bridges():
        raise Refused("an ordinary user's network can be on no wire of the host's",
                      why="this needs CAP_NET_ADMIN there", next="the driver bridge, or root")  # fmt: skip
    name, mode = request.options.get(PARENT_OPTION, ""), request.options.get(MODE_OPTION, "bridge")
    if not name or not request.subnets:
        raise InvalidInput("a macvlan needs the interface that leads to its wire, and the addresses there",
                           path="--driver", next="-o parent=eth0 --subnet 192.168.1.0/24")  # fmt: skip
    if mode not in MACVLAN_MODES:
        raise InvalidInput(f"unknown mode {mode!r}", path="--opt", next=f"one of: {', '.join(MACVLAN_MODES)}")
    if request.internal:
        raise InvalidInput("a wire leads elsewhere by itself", path="--internal", next="the driver bridge")
    if any(n.bridge == name for n in networks):
        raise Conflict(f"a network has {name} already", next="kist network ls shows them")
    wire.parent(connection, name)
    wire.check_macvlan(connection)
    return name, mode


def _mtu(request: NetworkRequest) -> int:
    options, accepted = request.options, _ACCEPTED[request.driver]
    for key in options:
        if key not in accepted:
            raise InvalidInput(f"unknown option {key!r}", path="--opt", next=f"one of: {', '.join(accepted)}")
    text = options.get(MTU_OPTION, options.get("mtu", "0"))
    if not (text.isascii() and text.isdigit() and (text == "0" or 68 <= int(text[:9]) <= 65535)):
        raise InvalidInput(f"{text!r} is no MTU", path="--opt", next=f"-o {MTU_OPTION}=1400")
    return int(text)


def _bridge_name(options: Mapping[str, str], id: str) -> str:
    name = options.get(BRIDGE_OPTION, f"kist-{id[:10]}")
    if not 0 < len(name.encode()) <= 15 or name in (".", "..") or any(c in "/:%" or c.isspace() for c in name):
        raise InvalidInput(f"{name!r} is no interface name", path="--opt", next="1 to 15 letters and digits")
    return name


def _subnets(connection: Netlink, networks: list[Network], request: NetworkRequest) -> tuple[Subnet, ...]:
    if len(request.gateways) > len(request.subnets) or len(request.ip_ranges) > len(request.subnets):
        raise InvalidInput("a gateway or range needs its subnet", path="--subnet", next="--subnet 10.1.0.0/24")
    found: list[Subnet] = []
    for i, text in enumerate(request.subnets):
        gateway, ip_range = (texts[i] if i < len(texts) else "" for texts in (request.gateways, request.ip_ranges))
        subnet = make_subnet(text, gateway=gateway, ip_range=ip_range)
        if any(other.family == subnet.family for other in found):
            raise InvalidInput(f"a second subnet of IPv{subnet.family}", path="--subnet", next="another network")
        if request.driver == "bridge":  # a wire's addresses are the host's, too
            bridge.check_free(connection, networks, subnet)
        found.append(subnet)
    families = {subnet.family for subnet in found}
    if request.driver == "macvlan":
        return tuple(found)
    if 4 not in families and not (families and not request.ipv6):
        found.insert(0, bridge.free_subnet(connection, networks))
    if request.ipv6 and 6 not in families:  # a unique local one. Source: RFC 4193
        base = b"\xfd" + os.urandom(5) + bytes(10)
        found.append(Subnet(base=base, prefix=64, gateway=base[:15] + b"\1"))
    return tuple(found)


def are_any(states: States) -> bool:
    return os.path.exists(f"{states.base}/{DIRECTORY}") or next(durable.networks(), None) is not None


def everything(states: States) -> list[tuple[Network, list[Holder]]]:
    """The networks and who is in them."""
    with database(states) as db:
        db.bury_dead()
        return [(network, db.holders(network.name)) for network in db.networks()]


def find(states: States, name_or_id: str) -> tuple[Network, list[Holder]]:
    """Raises NotFound, Conflict."""
    with database(states) as db:
        db.bury_dead()
        network = db.network(name_or_id)
        return network, db.holders(network.name)


def remove(states: States, name_or_id: str) -> Network:
    """Also the default one, which who wants it makes anew. Raises NotFound; Conflict while containers are in it, or for
    one of kist's own."""
    if name_or_id in MODES:
        raise Conflict(f"the network {name_or_id} is kist's own and stays", code="own-network")
    with database(states) as db, Netlink() as connection:
        db.bury_dead()
        network = db.network(name_or_id)
        if holders := db.holders(network.name):
            names = ", ".join(h.name or h.container[:12] for h in holders[:5])
            raise Conflict(f"containers are in the network {network.name}: {names}", next="stop them first",
                           code="network-in-use")  # fmt: skip
        if not _owns_bridges():
            from kist.network.shared import find as find_shared

            if shared := find_shared(states):
                try:
                    bridge.remove(shared.connection, network)
                finally:
                    shared.close()
        elif not network.mode:
            bridge.remove(connection, network)
            firewall.forget(network)
        durable.forget(network)
        db.remove_network(network)
    return network


def reload(states: States, chosen: Callable[[Holder], bool]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make all that the host has to know of the chosen containers' networks anew: addresses of bridges, forwarding,
    the firewall. Their ids, and what the user should know. Raises Conflict, NetlinkFailed."""
    notes: tuple[str, ...] = ()
    with database(states) as db, Netlink() as connection:
        db.bury_dead()
        holders = [holder for holder in db.holders() if chosen(holder)]
        networks = [n for n in db.networks() if not n.mode and any(h.network == n.name for h in holders)]
        if networks and _owns_bridges():  # an ordinary user's containers have their rules inside
            published = any(db.ports_of(holder.container) for holder in holders)
            for network in networks:
                notes += bridge.ensure(connection, network, forward=True)[1]
                notes += () if network.internal else bridge.forwarding(network)
                if published:
                    bridge.set_sysctl(("net", "ipv4", "conf", network.bridge, "route_localnet"), "1")
            notes += firewall.restore(db, [n.bridge for n in networks])
    return tuple(dict.fromkeys(holder.container for holder in holders)), notes


def prune(states: States, chosen: Callable[[Network], bool]) -> list[Network]:
    """Remove the chosen ones that nobody is in."""
    removed = []
    for network, holders in everything(states):
        if network.name != DEFAULT and not holders and chosen(network):
            try:
                removed.append(remove(states, network.name))
            except (Conflict, NotFound):
                continue  # somebody was faster
    return removed


def described(network: Network, holders: Sequence[Holder]) -> dict[str, object]:
    """As `docker network inspect` has it."""
    from kist.plan.rtnetlink import address_text, mac_text

    containers = {}
    for holder in holders:
        texts = {}
        for subnet in network.subnets:
            address = holder.address4 if subnet.family == 4 else holder.address6
            texts[subnet.family] = f"{address_text(address)}/{subnet.prefix}" if address else ""
        containers[holder.container] = {
            "Name": holder.name, "EndpointID": "", "MacAddress": mac_text(holder.mac),
            "IPv4Address": texts.get(4, ""), "IPv6Address": texts.get(6, ""),
        }  # fmt: skip
    config = [{"Subnet": str(subnet), "Gateway": address_text(subnet.gateway)} for subnet in network.subnets]
    return {
        "Name": network.name, "Id": network.id, "Created": network.created, "Scope": "local", "Driver": network.driver,
        "EnableIPv4": network.subnet(4) is not None, "EnableIPv6": network.subnet(6) is not None,
        "IPAM": {"Driver": "default", "Options": {}, "Config": config},
        "Internal": network.internal, "Attachable": False, "Ingress": False, "ConfigFrom": {"Network": ""},
        "ConfigOnly": False, "Containers": containers,
        "Options": {PARENT_OPTION if network.mode else BRIDGE_OPTION: network.bridge, **network.options},
        "Labels": dict(network.labels),
    }  # fmt: skip
