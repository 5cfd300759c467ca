"""Networks on a wire of the host's (macvlan), and how fast a cable may be: what the kernel must have for them."""

from __future__ import annotations

from kist.errors import NetlinkFailed, NotFound, Refused, Unsupported
from kist.kernel.netlink import Netlink
from kist.network.bridge import find
from kist.plan import rtnetlink as rt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.request import RunRequest

_ENOENT, _EOPNOTSUPP = 2, 95
_LOOPBACK = 1


def parent(connection: Netlink, name: str) -> int:
    """Its number. Raises NotFound, Refused."""
    link = find(connection, name)
    if link is None:
        raise NotFound(f"no network interface {name} on this host", next="ip link shows them")
    if link.index == _LOOPBACK or link.kind == "macvlan":
        raise Refused(f"{name} leads to no wire", why="it is the loopback interface, or a macvlan itself")
    return link.index


def check_macvlan(connection: Netlink) -> None:
    """Raises Unsupported. Asked for is one on an interface that isn't, so that none is made."""
    try:
        connection.request("cannot try macvlan", rt.add_macvlan("kist-try", 0))
    except NetlinkFailed as e:
        if e.errno == _EOPNOTSUPP:
            raise Unsupported("this kernel has no macvlan", why="CONFIG_MACVLAN, or its module, is missing",
                              next="a network with the driver bridge") from e  # fmt: skip


def check_rate(connection: Netlink, request: RunRequest) -> None:
    """Whether --net-rate can be enforced. Raises Unsupported, Refused."""
    if not (request.net_rate.into or request.net_rate.out):
        return
    if request.net_rate.out and (request.privileged or {"CAP_NET_ADMIN", "ALL"} & {*request.cap_add}):
        raise Refused("--net-rate out: the container could take the limit away", why="it has CAP_NET_ADMIN",
                      next="--net-rate in=..., or no --cap-add NET_ADMIN")  # fmt: skip
    try:
        connection.request("cannot try tbf", rt.try_rate(_LOOPBACK))
    except NetlinkFailed as e:
        if e.errno == _ENOENT:
            raise Unsupported("--net-rate: this kernel has no token buckets", why="CONFIG_NET_SCH_TBF is missing",
                              next="run without --net-rate") from e  # fmt: skip
