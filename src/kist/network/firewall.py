"""The table `inet kist` in the kernel: made when it is not there, complete each time."""

from __future__ import annotations

from kist.errors import NetlinkFailed
from kist.kernel.netlink import Netlink
from kist.plan import firewall as words
from kist.plan.netlink import NETFILTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kist.network.database import Database
    from kist.network.network import Network
    from kist.plan.ports import Port

_ENOENT = 2


def ensure(db: Database, network: Network) -> None:
    """Raises NetlinkFailed."""
    with Netlink(NETFILTER) as connection:
        if _absent(connection, words.add_network(network.bridge, network.internal)):
            networks = [(n.bridge, n.internal) for n in db.networks() if not n.mode]
            connection.request("cannot make the firewall's table inet kist", *words.table(networks, db.ports()))


def forget(network: Network) -> None:
    with Netlink(NETFILTER) as connection:
        _absent(connection, words.remove_network(network.bridge, network.internal))


def remove_ports(ports: Iterable[Port]) -> None:
    """Those that are there."""
    with Netlink(NETFILTER) as connection:
        for port in ports:
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
