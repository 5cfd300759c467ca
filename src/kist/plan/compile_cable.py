"""The cable between a container and a bridge, as steps of the host. Made when the container's first process is born; it
ends with the container's network namespace, and nothing has to be removed but the published ports."""

from __future__ import annotations

from kist.errors import InvalidInput, Refused
from kist.plan import firewall
from kist.plan import flags as f
from kist.plan import rtnetlink as rt
from kist.plan.netlink import NETFILTER, ROUTE, batch
from kist.plan.request import NetRate
from kist.plan.steps import HOST, Await, Entry, Leave, Netlink, Open, OpenNamespace, Proxy, Resolve, Signal, Slots
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kist.plan.builder import Builder
    from kist.plan.ports import Port
    from kist.plan.steps import Plan


class Cable(Value):
    """One end, `outside`, is plugged into a bridge of the host; the other is the container's interface `inside`. With
    a `mode`, there is no cable: it is a second interface on the wire of `bridge`, which is an interface of the host."""

    network: str
    bridge: str
    bridge_index: int
    outside: str
    inside: str = "eth0"
    mac: bytes = b""
    mtu: int = 0
    addresses: tuple[rt.Address, ...] = ()
    gateways: tuple[bytes, ...] = ()  # of the default routes, at most one a family
    link_local: bool = True  # it may make an IPv6 address for itself
    ports: tuple[Port, ...] = ()
    proxied: tuple[str, ...] = ()  # see plan.steps.Proxy
    mode: str = ""  # of a macvlan
    rate: NetRate = NetRate()


class Names(Value):
    """The container's name server: see plan.steps.Resolve."""

    directory: str
    networks: str
    run: str
    servers: tuple[str, ...]  # addresses in hexadecimal digits
    asked: bool = True


def connect(b: Builder, cables: tuple[Cable, ...]) -> None:
    """Raises InvalidInput, Refused: then nothing was done yet."""
    if not b.makes(f.CLONE_NEWNET):
        raise InvalidInput("a cable needs a network namespace of the container's own", path="--network",
                           next="--network host, or no --without netns")  # fmt: skip
    if not (b.privileged_host and "CAP_NET_ADMIN" in b.facts.capabilities):
        raise Refused(
            f"--network {cables[0].network}: an ordinary user cannot plug a cable into the host's bridge",
            why="this needs CAP_NET_ADMIN and CAP_SYS_ADMIN",
            next="--network none or host, or run as root",
        )
    for port in [port for cable in cables for port in cable.ports if port.redirected]:
        _publish(b, port)
    namespace = b.slot()
    b.host("network", OpenNamespace("net", namespace), "where the cables end")
    for cable in cables:
        for step, why in plug(cable, namespace):
            b.host("network", step, why)
        if cable.mode:
            b.host("network", _leave(cable, namespace), "it leaves the wire before another with its address comes")
    if names := b.setting.names:
        if names.asked:
            b.host("network", *name_port(namespace))
        resolve = Resolve(namespace, firewall.NAME_PORT, names.directory, names.networks, names.run, names.servers)
        b.host("network", resolve, "who answers with the names of containers")
    if proxied := tuple([words for cable in cables for words in cable.proxied]):
        b.host("network", Proxy(proxied), "who takes what comes by the other kind of addresses to a published port")
    b.host("network", Signal(), "the network is there")
    b.init("network", Await(), "for the network")


def _publish(b: Builder, port: Port) -> None:
    words, own = firewall.port_words(port), firewall.itself_words(port)
    for messages, gone in ((firewall.remove_itself(port), own), (firewall.remove_port(port), words)):
        step = Netlink(NETFILTER, batch(messages), ("", f"nft delete element {gone}", ""), at_end=1)
        b.host("network", step, f"{port} is the host's again")
    commands = ("", f"nft add element {words}", f"nft add element {own}", "")
    b.host("network", Netlink(NETFILTER, batch(firewall.add_port(port)), commands), f"{port} is published")


def plug(c: Cable, namespace: int, bridges: int = Slots.NONE) -> Iterator[tuple[Netlink, str]]:
    """The steps that make a cable, and what each is for. Slots with network namespaces: the container's, and where the
    bridge is."""
    mtu = f" mtu {c.mtu}" if c.mtu else ""
    mac = f" address {rt.mac_text(c.mac)}" if c.mac else ""
    if c.mode:
        made = rt.add_macvlan(c.inside, c.bridge_index, mode=c.mode, netns_fd=rt.UNKNOWN, mac=c.mac, mtu=c.mtu)
        command = f"ip link add {c.inside} link {c.bridge} netns $target{mac}{mtu} type macvlan mode {c.mode}"
        why = f"an interface on the wire of {c.bridge}, the network {c.network}"
    else:
        made = rt.add_veth(
            c.outside, c.inside, netns_fd=rt.UNKNOWN, master=c.bridge_index, mtu=c.mtu, peer_mac=c.mac
        )  # fmt: skip
        peer = f"type veth peer name {c.inside} netns $target{mtu}{mac}{_ONE_QUEUE}"
        command = f"ip link add {c.outside} master {c.bridge}{mtu} up{_ONE_QUEUE} {peer}"
        why = f"a cable, one end in the bridge of the network {c.network}"
    yield Netlink(
        ROUTE, batch((made,)), (command,), namespace=bridges, target=namespace, target_at=rt.netns_at(made)
    ), why  # fmt: skip
    if c.ports:
        hairpin = (rt.set_port(rt.UNKNOWN, hairpin=True),)
        hairpins = (f"bridge link set dev {c.outside} hairpin on",)
        step = Netlink(ROUTE, batch(hairpin), hairpins, link=c.outside)
        yield step, "it may ask for what it published itself"
    yield _inside(c, namespace), "its end in the container"
    yield from limit(c.outside, c.inside, c.rate, namespace)


_ONE_QUEUE = " numtxqueues 1 numrxqueues 1"


def limit(outside: str, inside: str, rate: NetRate, namespace: int, *, again: bool = False) -> Iterator[
    tuple[Netlink, str]
]:  # fmt: skip
    """What comes in waits at the cable's end of the host's, what goes out at the container's, which only
    CAP_NET_ADMIN could change. `again`: in place of what is there."""
    for link, bytes_s, there in ((outside, rate.into, 0), (inside, rate.out, namespace)):
        if not link:
            continue
        if bytes_s:
            burst, most = rt.bucket(bytes_s)
            words = f"tc qdisc replace dev {link} root tbf rate {bytes_s * 8}bit burst {burst} limit {most}"
            message = rt.add_rate(rt.UNKNOWN, bytes_s)
        elif again:
            words, message = f"tc qdisc replace dev {link} root pfifo", rt.add_plain_queue(rt.UNKNOWN)
        else:
            continue
        why = "as fast as it goes" if not bytes_s else "no faster than --net-rate"
        yield Netlink(ROUTE, batch((message,)), (words,), namespace=there, link=link), why


def _inside(c: Cable, namespace: int) -> Netlink:
    asked = []
    if not c.link_local:  # else each that comes up sends multicasts, which a bridge copies to all its ports
        asked.append((rt.set_link(rt.UNKNOWN, link_local=False), f"ip link set {c.inside} addrgenmode none"))
    for a in c.addresses:
        nodad = " nodad" if a.flags & rt.NO_DAD else ""
        add = f"ip address add {rt.address_text(a.local)}/{a.prefix}{nodad} dev {c.inside}"
        asked.append((rt.add_address(a), add))
    asked.append((rt.set_link(rt.UNKNOWN, up=True), f"ip link set {c.inside} up"))
    for gateway in c.gateways:
        route = rt.Route(rt.INET if len(gateway) == 4 else rt.INET6, gateway=gateway)
        six = "-6 " if len(gateway) == 16 else ""
        asked.append((rt.add_route(route), f"ip {six}route add default via {rt.address_text(gateway)}"))
    messages, commands = batch([m for m, _ in asked]), tuple([w for _, w in asked])
    return Netlink(ROUTE, messages, commands, namespace=namespace, link=c.inside)


def name_port(namespace: int, *, again: bool = False) -> tuple[Netlink, str]:
    """How programs in the namespace reach the name server that listens there."""
    messages, commands = firewall.name_server(again=again), firewall.name_server_words(again=again)
    step = Netlink(NETFILTER, batch(messages), commands, namespace=namespace)
    return step, "its name server has a port that no program wants"


def unplug(inside: str, namespace: int) -> tuple[Netlink, str]:
    """A cable goes with either of its ends."""
    gone = Netlink(ROUTE, rt.delete_link(rt.UNKNOWN), (f"ip link delete {inside}",), namespace=namespace, link=inside)
    return gone, "the cable goes, with both ends"


def _leave(c: Cable, namespace: int) -> Netlink:
    """The kernel does it, too, but later; no path leads a shell to the namespace by then."""
    return Netlink(ROUTE, rt.delete_link(rt.UNKNOWN), ("",), namespace=namespace, link=c.inside, at_end=1)


def alone(path: str, steps: Callable[[int], Iterable[tuple[Netlink, str]]]) -> Plan:
    """A plan for a container that runs: `path` leads to its network namespace."""
    first = [Entry(Open(path, _O_RDONLY_CLOEXEC, Slots.FIRST_FREE), HOST, "network", "the container's network")]
    rest = [Entry(step, HOST, "network", why) for step, why in steps(Slots.FIRST_FREE)]
    return (*first, *rest, Entry(Leave(), HOST, "network", "all is done"))


_O_RDONLY_CLOEXEC = 0o2000000
