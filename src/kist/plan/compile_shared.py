"""The network namespace that the containers of an ordinary user share, and their cables into it: see network/shared.py.

The user namespace that owns it is that of the containers, too. So a container's first process is root there, and
makes its cables itself, before it gives that up.
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.plan import flags as f
from kist.plan.builder import Builder
from kist.plan.compile import map_ids
from kist.plan.compile_cable import Cable, plug
from kist.plan.config import id_mappings
from kist.plan.setting import Files, Setting
from kist.plan.steps import (
    HOST,
    STAGE,
    Await,
    Clone,
    Entry,
    Leave,
    Lend,
    Open,
    OpenNamespace,
    Setns,
    Slots,
    Unshare,
    WriteFile,
)
from kist.spec.runtime import Linux, Namespace, Root, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kist.plan.facts import HostFacts
    from kist.plan.steps import Netlink, Plan, Step

_O_RDONLY_CLOEXEC = 0o2000000
_FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")


def made(facts: HostFacts, socket: int) -> Plan:
    """A new one, which lasts as long as somebody has it open; it is lent at `socket`. Raises Refused."""
    linux = Linux(
        (Namespace("user"), Namespace("network")), id_mappings(facts, "uid"), id_mappings(facts, "gid")
    )  # fmt: skip
    b = Builder(Spec("", Root(""), linux=linux), facts, Setting("", Files()))
    user = b.slot()
    b.host("namespaces", Clone(STAGE, f.CLONE_NEWUSER), "who owns what the containers share")
    map_ids(b, STAGE)
    b.host("namespaces", OpenNamespace("user", user), "it outlives this process")
    b.stage("namespaces", Await(), "until nobody needs this process")
    b.host("namespaces", Setns(user, f.CLONE_NEWUSER), "become root there")
    b.host("network", Unshare(f.CLONE_NEWNET), "where bridges will be")
    for path in _FORWARDING if facts.ipv6 else _FORWARDING[:1]:
        b.host("network", WriteFile(path, "0"), "nothing passes from one network to another")
    return _lent(b.plan, socket)


def entered(net: str, user: str, socket: int) -> Plan:
    """One that exists, lent at `socket`."""
    return _lent([*_root_of(user), *_entries(Open(net, _O_RDONLY_CLOEXEC, _NET), Setns(_NET, f.CLONE_NEWNET))], socket)


_USER, _NET, _CONTAINER = range(Slots.FIRST_FREE, Slots.FIRST_FREE + 3)


def _lent(plan: list[Entry], socket: int) -> Plan:
    return (*plan, *_entries(Lend(socket), Leave()))


def _root_of(user: str) -> list[Entry]:
    return _entries(Open(user, _O_RDONLY_CLOEXEC, _USER), Setns(_USER, f.CLONE_NEWUSER))


def _entries(*steps: Step) -> list[Entry]:
    return [Entry(step, HOST, "network", "") for step in steps]


def plug_in(b: Builder, cables: tuple[Cable, ...], bridges: int) -> None:
    """`bridges`: a slot with the shared network namespace."""
    if not b.makes(f.CLONE_NEWNET):
        raise InvalidInput("a cable needs a network namespace of the container's own", path="--network",
                           next="--network host, or no --without netns")  # fmt: skip
    own = b.slot()
    b.init("network", Open("/proc/thread-self/ns/net", _O_RDONLY_CLOEXEC, own), "where the cables end")
    for cable in cables:
        for step, why in plug(cable, own, bridges):
            b.init("network", step, why)


def alone(
    container: str, net: str, user: str, steps: Callable[[int, int], Iterable[tuple[Netlink, str]]]
) -> Plan:  # fmt: skip
    """A plan for a container that runs. Paths lead to its network namespace, and to what it shares."""
    plan = _entries(Open(container, _O_RDONLY_CLOEXEC, _CONTAINER), Open(net, _O_RDONLY_CLOEXEC, _NET))
    plan += [*_root_of(user), *_entries(Setns(_NET, f.CLONE_NEWNET))]  # there is no way back to the host's
    plan += [Entry(step, HOST, "network", why) for step, why in steps(_CONTAINER, _NET)]
    return (*plan, Entry(Leave(), HOST, "network", "all is done"))
