"""A container whose only way out is a relay: its own network namespace, as steps of its first process.

All addresses to which no cable leads are local there, and what TCP sends to any of them arrives at the relay's
listener; packets of other kinds are dropped, and the relay is told. See launcher/relay.c.
"""

from __future__ import annotations

from struct import pack

from kist.errors import InvalidInput, Refused
from kist.plan import flags as f
from kist.plan import nfnetlink as n
from kist.plan import rtnetlink as rt
from kist.plan.egress import MOST_RULES, encoded
from kist.plan.firewall import NAME_PORT, TABLE, name_server, name_server_words
from kist.plan.netlink import NETFILTER, ROUTE, batch
from kist.plan.ports import PROTOCOLS
from kist.plan.steps import Netlink, RelayListen, RelayStart, Resolve, Slots
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.plan.builder import Builder
    from kist.plan.compile_cable import Names
    from kist.plan.request import AllowRule

PORT = 61054
OWN4, OWN6 = bytes((198, 18, 0, 1)), b"\xfd" + b"kist" + bytes(10) + b"\1"
GROUP = 1  # of nfnetlink_log, relay_inside.c
LOG_BYTES = 1 << 20
_LO = 1  # the number of the loopback interface


class Egress(Value):
    """Without rules everything is let through. `log`: a file of the host for what was denied. `names`: see Resolve."""

    rules: tuple[AllowRule, ...]
    log: str
    names: Names
    ports: tuple[tuple[int, int], ...] = ()  # published: the fd of a listener, and the container's port
    out: bool = True  # all its networks are internal: it leads into the container only


def relay(b: Builder, egress: Egress) -> None:
    """Raises InvalidInput."""
    if not b.makes(f.CLONE_NEWNET):
        raise InvalidInput("it needs a network namespace of the container's own", path="--allow-net",
                           next="leave out --without netns")  # fmt: skip
    rules = encoded(egress.rules)
    if len(rules) > MOST_RULES:
        raise InvalidInput(f"{len(rules)} rules are more than {MOST_RULES}", path="--allow-net", next="a wildcard")
    if rules:
        _check_powers(b)
    six = b.facts.ipv6
    asked, commands = [], []
    for address, prefix in ((OWN4, 32), *([(OWN6, 128)] if six else [])):
        flags = rt.NO_DAD if len(address) == 16 else 0
        asked.append(rt.add_address(rt.Address(address, prefix, index=_LO, flags=flags)))
        commands.append(f"ip address add {rt.address_text(address)}/{prefix} dev lo")
    step = Netlink(ROUTE, batch(asked), tuple(commands))
    b.init("network", step, "what the relay reaches it by")
    if egress.out:
        b.init("network", *way_out(six=six))
    messages, words = _firewall(bool(rules), [a.local for cable in b.setting.cables for a in cable.addresses])
    why = "TCP arrives at the relay, all else is dropped" if rules else "TCP and UDP arrive at the relay"
    b.init("network", Netlink(NETFILTER, batch(messages), words), why)
    listen = RelayListen(PORT, NAME_PORT, tells=int(bool(rules)), namespaces=int(not rules or bool(egress.ports)))
    b.init("network", listen, "where it arrives, and who answers names")
    names, ports = egress.names, tuple([f"{fd} {port}" for fd, port in egress.ports])
    start = RelayStart(egress.log, LOG_BYTES, rules, names.servers, ports)
    b.host("network", start, f"the only way out{': it lets through what is on the list' if rules else ''}")
    if not rules:
        resolve = Resolve(Slots.NONE, NAME_PORT, names.directory, names.networks, names.run, names.servers)
        b.host("network", resolve, "who asks the host's name servers")


def way_out(namespace: int = Slots.NONE, *, six: bool, closed: bool = False) -> tuple[Netlink, str]:
    """What no cable leads to arrives at the relay; `closed`: not any more."""
    asked, commands = [], []
    for address in (OWN4, OWN6) if six else (OWN4,):
        family = rt.INET if len(address) == 4 else rt.INET6
        route = rt.Route(family, index=_LO, kind=2, scope=rt.SCOPE_HOST, source=address)
        asked.append(rt.delete_route(route) if closed else rt.add_route(route))
        words = f"route {'delete' if closed else 'add'} local default dev lo table main src {rt.address_text(address)}"
        commands.append(f"ip {'-6 ' if len(address) == 16 else ''}{words}")
    step = Netlink(ROUTE, batch(asked), tuple(commands), namespace=namespace)
    return step, "no way out" if closed else "where no cable leads, every address leads to itself"


def own(addresses: tuple[bytes, ...], namespace: int, *, gone: bool = False) -> tuple[Netlink, str]:
    """Addresses of the container's cables, besides those that it began with."""
    begin, *messages, end = n.transaction(())
    verb = "delete" if gone else "add"
    for address in addresses:
        change = n.delete_elements(TABLE, _own(address), [address]) if gone else _known(address)
        messages.append(change)
    words = [f"nft {verb} element inet {TABLE} {_own(a)} '{{ {rt.address_text(a)} }}'" for a in addresses]
    step = Netlink(NETFILTER, batch([begin, *messages, end]), ("", *words, ""), namespace=namespace)
    return step, "its address no more" if gone else "its own address: nothing for the relay"


def _own(address: bytes) -> str:
    return "own4" if len(address) == 4 else "own6"


def _known(address: bytes) -> bytes:
    return n.add_elements(TABLE, _own(address), [(address, b"")])


def _check_powers(b: Builder) -> None:
    process = b.spec.process
    held = _POWERS & {*(process.capabilities.bounding if process and process.capabilities else ())}
    if held and not b.userns:
        raise Refused(
            f"--allow-net holds nobody who has {', '.join(sorted(held))} on the host", code="allow-net",
            why="there are ways from that into the host's network", next="--userns private",
        )  # fmt: skip
    if not (b.userns or b.makes(f.CLONE_NEWPID)):
        raise Refused(
            "--allow-net holds nobody who sees processes outside", code="allow-net",
            why="without a user namespace it can become their user, and trace one that is in another network",
            next="--userns private, or no --pid",
        )  # fmt: skip
    if b.spec.linux.seccomp is None:
        raise Refused(
            "--allow-net needs a filter of system calls", code="allow-net",
            why="sockets to the hypervisor (vsock) are in no network namespace", next="leave out what switches it off",
        )  # fmt: skip


_POWERS = {"CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"}


def _rules(policy: bool, cabled: bool) -> Iterator[tuple[str, str, bytes]]:
    """By chain; in words, and as the kernel takes them."""
    v4, v6 = n.family_is(n.IPV4), n.family_is(n.IPV6)
    accept, port, udp = n.verdict(n.ACCEPT), n.value(9, pack(">H", PORT)), n.protocol_is(PROTOCOLS["udp"])
    ours = (
        ("ip daddr 127.0.0.0/8 accept", v4 + n.header_is(16, b"\x7f") + accept),
        ("ip daddr @own4 accept", v4 + n.network_header(1, 16, 4) + n.within("own4") + accept),
        ("ip6 daddr ::1 accept", v6 + n.header_is(24, bytes(15) + b"\1") + accept),
        ("ip6 daddr @own6 accept", v6 + n.network_header(1, 24, 16) + n.within("own6") + accept),
    )
    for chain in ("output", "guard", "arrived"):
        arrived = chain == "arrived"
        if cabled and arrived:  # the relay is for nobody at the other end of a cable
            for protocol in ("tcp", "udp"):
                to = n.protocol_is(PROTOCOLS[protocol]) + n.port_is(PORT) + n.verdict(n.DROP)
                yield chain, f'iifname != "lo" {protocol} dport {PORT} drop', n.not_loopback(arriving=True) + to
        if cabled:
            yield chain, f'{"iif" if arrived else "oif"}name != "lo" accept', n.not_loopback(arriving=arrived) + accept
        yield from ((chain, *rule) for rule in ours)
        if chain == "output":
            tcp = n.protocol_is(PROTOCOLS["tcp"])
            yield chain, f"meta l4proto tcp redirect to :{PORT}", tcp + port + n.redirect(9)
            continue
        if not policy and not arrived:
            yield chain, "meta l4proto udp accept", udp + accept
        elif not policy:
            yield chain, f"meta l4proto udp tproxy to :{PORT} accept", udp + port + n.tproxy(9) + accept
        yield chain, "ct state established,related accept", n.established() + accept
        told = (f"log group {GROUP} queue-threshold 1 ", n.log(GROUP)) if policy else ("", b"")
        yield chain, f"{told[0]}drop", told[1] + n.verdict(n.DROP)


def _firewall(policy: bool, addresses: list[bytes]) -> tuple[list[bytes], tuple[str, ...]]:
    """One transaction, with the rules of the name server first, and its words. `addresses`: of its cables."""
    begin, *messages, end = name_server()
    *words, _ = name_server_words()
    for family, kind in ((4, n.IPV4_ADDRESS), (6, n.IPV6_ADDRESS)):
        messages.append(n.add_set(TABLE, f"own{family}", family, (kind,)))
        words.append(f"nft add set inet {TABLE} own{family} '{{ type ipv{family}_addr; }}'")
    for address in (OWN4, OWN6, *addresses):
        messages.append(_known(address))
        words.append(f"nft add element inet {TABLE} {_own(address)} '{{ {rt.address_text(address)} }}'")
    for chain, hook, name in (("guard", n.OUTPUT, "output"), ("arrived", n.PREROUTING, "prerouting")):
        messages.append(n.add_chain(TABLE, chain, "filter", hook, 0))
        words.append(f"nft add chain inet {TABLE} {chain} '{{ type filter hook {name} priority 0; }}'")
    for chain, text, rule in _rules(policy, bool(addresses)):
        messages.append(n.add_rule(TABLE, chain, rule))
        words.append(f"nft add rule inet {TABLE} {chain} {text}")
    return [begin, *messages, end], (*words, "")
