"""A container whose only way out is a relay: its own network namespace, as steps of its first process.

It has no cable. All addresses are local there, and what TCP sends to any of them arrives at the relay's listener;
packets of other kinds are dropped, and the relay is told. See launcher/relay.c.
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
GROUP = 1  # of nfnetlink_log, relay.c
LOG_BYTES = 1 << 20
_LO = 1  # the number of the loopback interface


class Egress(Value):
    """Without rules everything is let through. `log`: a file of the host for what was denied. `names`: see Resolve."""

    rules: tuple[AllowRule, ...]
    log: str
    names: Names
    ports: tuple[tuple[int, int], ...] = ()  # published: the fd of a listener, and the container's port


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
    addresses = [(OWN4, 32), *([(OWN6, 128)] if six else [])]
    asked, commands = [], []
    for address, prefix in addresses:
        flags = rt.NO_DAD if len(address) == 16 else 0
        asked.append(rt.add_address(rt.Address(address, prefix, index=_LO, flags=flags)))
        text = rt.address_text(address)
        commands.append(f"ip address add {text}/{prefix} dev lo")
        family = rt.INET if len(address) == 4 else rt.INET6
        route = rt.Route(family, index=_LO, kind=2, scope=rt.SCOPE_HOST, source=address)
        asked.append(rt.add_route(route))
        commands.append(f"ip {'-6 ' if len(address) == 16 else ''}route add local default dev lo table main src {text}")
    b.init("network", Netlink(ROUTE, batch(asked), tuple(commands)), "every address leads to itself: it has no cable")
    messages, words = _firewall(bool(rules))
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


def _check_powers(b: Builder) -> None:
    process = b.spec.process
    held = _POWERS & {*(process.capabilities.bounding if process and process.capabilities else ())}
    if held and not b.userns:
        raise Refused(
            f"--allow-net holds nobody who has {', '.join(sorted(held))} on the host", code="allow-net",
            why="there are ways from that into the host's network", next="--userns private",
        )  # fmt: skip
    if b.spec.linux.seccomp is None:
        raise Refused(
            "--allow-net needs a filter of system calls", code="allow-net",
            why="sockets to the hypervisor (vsock) are in no network namespace", next="leave out what switches it off",
        )  # fmt: skip


_POWERS = {"CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO"}


def _rules(policy: bool) -> Iterator[tuple[str, str, bytes]]:
    """By chain; in words, and as the kernel takes them."""
    v4, v6 = n.family_is(n.IPV4), n.family_is(n.IPV6)
    accept, port, udp = n.verdict(n.ACCEPT), n.value(9, pack(">HH", PORT, 0)), n.protocol_is(PROTOCOLS["udp"])
    ours = (
        ("ip daddr 127.0.0.0/8 accept", v4 + n.header_is(16, b"\x7f") + accept),
        (f"ip daddr {rt.address_text(OWN4)} accept", v4 + n.header_is(16, OWN4) + accept),
        ("ip6 daddr ::1 accept", v6 + n.header_is(24, bytes(15) + b"\1") + accept),
        (f"ip6 daddr {rt.address_text(OWN6)} accept", v6 + n.header_is(24, OWN6) + accept),
    )
    for chain in ("output", "guard", "arrived"):
        yield from ((chain, *rule) for rule in ours)
        if chain == "output":
            tcp = n.protocol_is(PROTOCOLS["tcp"])
            yield chain, f"meta l4proto tcp redirect to :{PORT}", tcp + port + n.redirect(9)
            continue
        if not policy and chain == "guard":
            yield chain, "meta l4proto udp accept", udp + accept
        elif not policy:
            yield chain, f"meta l4proto udp tproxy to :{PORT} accept", udp + port + n.tproxy(9) + accept
        yield chain, "ct state established,related accept", n.established() + accept
        told = (f"log group {GROUP} queue-threshold 1 ", n.log(GROUP)) if policy else ("", b"")
        yield chain, f"{told[0]}drop", told[1] + n.verdict(n.DROP)


def _firewall(policy: bool) -> tuple[list[bytes], tuple[str, ...]]:
    """One transaction, with the rules of the name server first, and its words."""
    begin, *messages, end = name_server()
    *words, _ = name_server_words()
    for chain, hook, name in (("guard", n.OUTPUT, "output"), ("arrived", n.PREROUTING, "prerouting")):
        messages.append(n.add_chain(TABLE, chain, "filter", hook, 0))
        words.append(f"nft add chain inet {TABLE} {chain} '{{ type filter hook {name} priority 0; }}'")
    for chain, text, rule in _rules(policy):
        messages.append(n.add_rule(TABLE, chain, rule))
        words.append(f"nft add rule inet {TABLE} {chain} {text}")
    return [begin, *messages, end], (*words, "")
