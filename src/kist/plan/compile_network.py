"""Network devices of the host that move into the container. Source: OCI config-linux.md, "Network Devices".

The host takes all steps: for those inside, it makes its socket in the container's network namespace. A device moves
under its new name at once; where that is a template (`eth%d`), it gets it inside, where it is filled in.
"""

from __future__ import annotations

from kist.errors import InvalidInput, NotFound, Refused
from kist.plan import flags as f
from kist.plan import rtnetlink as rt
from kist.plan.netlink import ROUTE, batch
from kist.plan.steps import Await, Netlink, OpenNamespace, Signal
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.builder import Builder

_KEPT_FLAGS = rt.NO_DAD | rt.NO_PREFIX_ROUTE
_PATH = "$.linux.netDevices"


class HostLink(Value):
    """A network interface of the host, and its addresses."""

    name: str
    index: int
    addresses: tuple[rt.Address, ...] = ()


def move_devices(b: Builder, joined: int) -> None:
    """`joined`: the slot of the network namespace, if it exists already."""
    devices = b.spec.linux.net_devices
    if not devices:
        return
    if not b.has(f.CLONE_NEWNET):
        raise InvalidInput(
            "unable to move network devices without a network namespace", path=_PATH, next="list one, or leave them out"
        )
    if not (b.privileged_host and "CAP_NET_ADMIN" in b.facts.capabilities):
        raise Refused(
            f"{_PATH}: network devices are not supported for rootless containers",
            why="to take one from the host needs CAP_NET_ADMIN and CAP_SYS_ADMIN there",
        )
    names: dict[str, str] = {}
    for old, device in devices.items():
        _check_name(old, f"{_PATH}[{old!r}]")
        new = device.name or old
        _check_name(new.removesuffix("%d"), f"{_PATH}[{old!r}].name")
        if new in names and not new.endswith("%d"):
            raise InvalidInput(f"{new!r} is the name of {names[new]} already", path=f"{_PATH}[{old!r}].name")
        names[new] = old
    links = {link.name: link for link in b.setting.links}
    for old in devices:
        if old not in links:
            raise NotFound(f"{_PATH}: no network interface {old} on this host", next="ip link shows them")
    namespace = joined or b.slot()
    if not joined:
        b.host("network", OpenNamespace("net", namespace), "where the devices go")
    for old, device in devices.items():
        _move(b, links[old], device.name or old, namespace)
    b.host("network", Signal(), "the devices are there")
    b.init("network", Await(), "for the devices")


def _check_name(name: str, path: str) -> None:
    """Source: dev_valid_name in net/core/dev.c; `%` would be a template."""
    unfit = any(c in "/:%" or c.isspace() or "\ud800" <= c <= "\udfff" for c in name)  # those are half a character
    if not name or unfit or len(name.encode()) > 15 or name in (".", ".."):
        raise InvalidInput(
            f"invalid network device name {name!r}", path=path, next="1 to 15 characters, none of them / : or a space"
        )


def _move(b: Builder, link: HostLink, name: str, namespace: int) -> None:
    template = name.endswith("%d")
    moved = f"kist{link.index}" if template else name
    down = rt.set_link(link.index, up=False)
    move = rt.set_link(link.index, name=moved, netns_fd=rt.UNKNOWN)
    rename = f" name {moved}" if moved != link.name else ""
    commands = (f"ip link set dev {link.name} down", f"ip link set dev {link.name} netns $target{rename}")
    messages = batch((down, move))
    at = len(down) + rt.netns_at(move)
    b.host(
        "network", Netlink(ROUTE, messages, commands, target=namespace, target_at=at), f"{link.name} becomes its own"
    )
    inside = []
    for address in link.addresses:
        if address.flags & rt.PERMANENT and address.scope == rt.SCOPE_UNIVERSE:
            kept = replace(address, index=rt.UNKNOWN, flags=address.flags & _KEPT_FLAGS)
            inside.append((rt.add_address(kept), f"ip address add {_words(kept)} dev {moved}"))
    up = rt.set_link(rt.UNKNOWN, up=True, name=name if template else "")
    inside.append((up, f"ip link set dev {moved} up{f' name {name}' if template else ''}"))
    step = Netlink(ROUTE, batch([m for m, _ in inside]), tuple([c for _, c in inside]), namespace=namespace, link=moved)
    b.host("network", step, "moving takes a device's addresses, and it arrives down")


def _words(address: rt.Address) -> str:
    """As ip(8) takes it."""
    words = f"{rt.address_text(address.local)}/{address.prefix}"
    if address.peer:
        words = f"{rt.address_text(address.local)} peer {rt.address_text(address.peer)}/{address.prefix}"
    if address.broadcast:
        words += f" broadcast {rt.address_text(address.broadcast)}"
    names = ((rt.NO_DAD, " nodad"), (rt.NO_PREFIX_ROUTE, " noprefixroute"))
    return words + "".join([name for bit, name in names if address.flags & bit])
