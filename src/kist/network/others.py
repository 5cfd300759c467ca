"""Firewalls of others that drop what is forwarded: an accept of ours overrides no drop of theirs.

The table inet kist marks what it lets through (plan.firewall.MARK), and one rule of ours in the chain that would drop
it accepts what is marked; without the table it accepts nothing. Looked at whenever a container gets a cable, since they
reload; taken away with the last network.

    ip filter FORWARD      at the end: what dockerd (DOCKER-USER), ufw or people wrote there comes first
    inet firewalld ...     at the beginning: firewalld rejects in chains further down
    all others             are not ours to change: people are told what to type
"""

from __future__ import annotations

from kist.errors import NetlinkFailed
from kist.plan import nfnetlink as n
from kist.plan.firewall import MARK, TABLE
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.kernel.netlink import Netlink

COMMENT = "kist"
_FIREWALLD = ("firewalld", "filter_FORWARD")
_IPTABLES = ("filter", "FORWARD")
_FAMILIES = {n.IPV4: "ip", n.IPV6: "ip6", n.INET: "inet"}
_BIT = f"{MARK:#x}"
_ENOENT, _EPERM = 2, 1


class Blocked(Value):
    """A firewall that drops what kist's networks forward, and the command that lets it through. `later`: kist does it
    by itself when a container gets a cable, and none has one yet."""

    what: str
    command: str
    later: bool = False


def open_ways(connection: Netlink, bridge: str) -> tuple[str, ...]:
    """Put in our rules; what the user has to do besides."""
    found = [blocked for chain in _dropping(connection) for blocked in _open(connection, chain, bridge)]
    return tuple([f"{b.what} drops what the network's containers send: {b.command}" for b in (*found, *_legacy())])


def _open(connection: Netlink, chain: n.Chain, bridge: str) -> Iterator[Blocked]:
    firewalld, rules = chain.table == _FIREWALLD[0], _rules(connection, chain)
    at = [i for i, (_, noted) in enumerate(rules) if noted == n.remark(COMMENT)]
    if not _is_known(chain):
        if not at:
            yield _told(chain)
        return
    if at == [0 if firewalld else len(rules) - 1]:
        return
    match = n.marked(MARK) if firewalld else (n.xt_marked(MARK),)
    rule = n.add_rule(chain.table, chain.name, *match, n.verdict(n.ACCEPT), family=chain.family, first=firewalld,
                      comment=COMMENT)  # fmt: skip
    gone = [n.delete_rule(chain.family, chain.table, chain.name, rules[i][0]) for i in at]
    try:
        connection.request(f"cannot add a rule to {_named(chain)}", *n.transaction([*gone, rule]))
    except NetlinkFailed as e:
        if e.errno not in (_ENOENT, _EPERM):  # reloaded just now; or firewalld 2, whose table is its own
            raise
        yield _told(chain, bridge)


def _is_known(chain: n.Chain) -> bool:
    return (chain.table, chain.name) in (_FIREWALLD, _IPTABLES)


def blocked(connection: Netlink) -> list[Blocked]:
    """What drops packets of kist's networks as things are. Changes nothing."""
    here = any(chain.table == TABLE for chain in _forwarding(connection, ours=True))
    return [
        replace(_told(chain), later=not here and _is_known(chain)) for chain in _dropping(connection)
        if all(noted != n.remark(COMMENT) for _, noted in _rules(connection, chain))
    ] + [*_legacy()]  # fmt: skip


def close_ways(connection: Netlink) -> None:
    for chain in _forwarding(connection):
        gone = [
            n.delete_rule(chain.family, chain.table, chain.name, handle)
            for handle, noted in _rules(connection, chain) if noted == n.remark(COMMENT)
        ]  # fmt: skip
        if gone:
            connection.request(f"cannot take our rule out of {_named(chain)}", *n.transaction(gone))


def _forwarding(connection: Netlink, *, ours: bool = False) -> Iterator[n.Chain]:
    for reply in connection.dump("cannot list the firewall's chains", n.get_chains()):
        if not ours and n.is_of(reply, TABLE):
            continue
        chain = n.read_chain(reply)
        if chain.hook == n.FORWARD and chain.family in _FAMILIES:
            yield chain


def _dropping(connection: Netlink) -> Iterator[n.Chain]:
    """By its policy; firewalld's, by its last rules."""
    for chain in _forwarding(connection):
        if chain.policy == n.DROP or (chain.table, chain.name) == _FIREWALLD:
            yield chain


def _rules(connection: Netlink, chain: n.Chain) -> list[tuple[int, bytes]]:
    asked = n.get_rules(chain.family, chain.table, chain.name)
    try:
        return [n.read_rule(reply) for reply in connection.dump(f"cannot list {_named(chain)}", asked)]
    except NetlinkFailed as e:
        if e.errno == _ENOENT:  # it has just been reloaded
            return []
        raise


def _named(chain: n.Chain) -> str:
    return f"{_FAMILIES[chain.family]} {chain.table} {chain.name}"


def _told(chain: n.Chain, bridge: str = "kist0") -> Blocked:
    if chain.table == "firewalld":
        return Blocked("firewalld", f"firewall-cmd --permanent --zone=trusted --add-interface={bridge} && "
                                    "firewall-cmd --reload")  # fmt: skip
    if (chain.table, chain.name) == _IPTABLES:
        return Blocked(_IPTABLES_NAMES[chain.family], f"{_IPTABLES_NAMES[chain.family]} -A {_RULE}")
    rule = f"meta mark '&' {_BIT} == {_BIT} accept comment {COMMENT}"
    return Blocked(f"the chain {_named(chain)}", f"nft add rule {_named(chain)} {rule}")


_IPTABLES_NAMES = {n.IPV4: "iptables", n.IPV6: "ip6tables"}
_RULE = f"FORWARD -m mark --mark {_BIT}/{_BIT} -m comment --comment {COMMENT} -j ACCEPT"


def _legacy() -> Iterator[Blocked]:
    """The tables of before nf_tables, where a change replaces the whole table: not behind its owner's back."""
    from kist.kernel.xtables import dropping

    for family, command in _IPTABLES_NAMES.items():
        entries = dropping(family)
        if entries and n.xt_mark_info(MARK) not in entries:
            yield Blocked(f"{command}-legacy", f"{command}-legacy -A {_RULE}")
