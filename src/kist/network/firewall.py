"""The table `inet kist` in the kernel: made when it is not there, complete each time."""

from __future__ import annotations

from kist.errors import NetlinkFailed
from kist.kernel import procfs
from kist.kernel.netlink import Netlink
from kist.network import others
from kist.plan import firewall as words
from kist.plan.netlink import NETFILTER
from kist.plan.nfnetlink import count_elements, get_elements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kist.network.database import Database
    from kist.network.network import Network
    from kist.plan.ports import Port

_ENOENT = 2


def ensure(db: Database, network: Network) -> tuple[str, ...]:
    """What the user should know. Raises NetlinkFailed."""
    loopback6 = _is_loopback6()
    with Netlink(NETFILTER) as connection:
        if _absent(connection, words.add_network(network.bridge, network.internal, loopback6=loopback6)):
            _make(db, connection, loopback6)
        return others.open_ways(connection, network.bridge)


def _make(db: Database, connection: Netlink, loopback6: bool) -> None:
    networks = [(n.bridge, n.internal) for n in db.networks() if not n.mode]
    table = words.table(networks, [p for p in db.ports() if p.redirected], loopback6=loopback6)
    connection.request("cannot make the firewall's table inet kist", *table)


def restore(db: Database, bridges: Iterable[str]) -> tuple[str, ...]:
    """All of it anew, in one transaction, whatever others made of it. Raises NetlinkFailed."""
    with Netlink(NETFILTER) as connection:
        _make(db, connection, _is_loopback6())
        return tuple(dict.fromkeys([note for name in bridges for note in others.open_ways(connection, name)]))


def _is_loopback6() -> bool:
    """Whether what a container answers to ::1 arrives. Source: ip6_rcv_core in net/ipv6/ip6_input.c"""
    try:
        return procfs.read("/proc/sys/net/bridge/bridge-nf-call-ip6tables") == b"0\n"
    except FileNotFoundError:  # no br_netfilter
        return True


def forget(network: Network) -> None:
    """With the last one, of whatever run directory, all that is ours goes."""
    with Netlink(NETFILTER) as connection:
        _absent(connection, words.remove_network(network.bridge, network.internal))
        try:
            left = count_elements(connection.dump("cannot list bridges", get_elements(words.TABLE, "bridges")))
        except NetlinkFailed as e:
            if e.errno != _ENOENT:
                raise
            left = 0
        if not left:
            _absent(connection, words.remove_table())
            others.close_ways(connection)


def remove_ports(ports: Iterable[Port]) -> None:
    """Those that are there."""
    with Netlink(NETFILTER) as connection:
        for port in [p for p in ports if p.redirected]:
            _absent(connection, words.remove_port(port))
            _absent(connection, words.remove_itself(port))


def _absent(connection: Netlink, messages: list[bytes]) -> bool:
    try:
        connection.request("cannot change the firewall's table inet kist", *messages)
    except NetlinkFailed as e:
        if e.errno == _ENOENT:
            return True
        raise
    return False
