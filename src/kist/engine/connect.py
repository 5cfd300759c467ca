"""`kist network connect` and `disconnect`: a cable for a container that runs, and its wish for the next start."""

from __future__ import annotations

import os
from functools import partial

from kist.engine import hosts
from kist.engine.containers import Container, Containers
from kist.engine.prepare import has_hosts, own_names
from kist.errors import Conflict, InvalidInput, KistError, NotFound
from kist.kernel.launcher import Launcher, open_program
from kist.kernel.netlink import Netlink
from kist.network.attach import CABLES_MOST, Place, database, plug
from kist.network.network import DEFAULT
from kist.network.wire import check_rate
from kist.plan import compile_cable
from kist.plan.rtnetlink import address_text
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kist.network.database import Holder
    from kist.network.network import Network
    from kist.plan.request import RunRequest
    from kist.plan.steps import Netlink as NetlinkStep


def connect(
    containers: Containers, container: Container, network: str, *, ip: bytes = b"", ip6: bytes = b"",
    mac: bytes = b"", aliases: tuple[str, ...] = (),
) -> tuple[str, ...]:  # fmt: skip
    """Put it into one more network; what the user should know. Raises NotFound, Conflict, InvalidInput, StepFailed."""
    request = container.config.request
    if request.allow_net:
        raise Conflict(f"{container.name} has no other way out than what --allow-net lists", code="allow-net",
                       next="a container without --allow-net")  # fmt: skip
    if request.network == "host" or request.network.startswith(("container:", "ns:")):
        raise Conflict(f"{container.name} is in a network of others: --network {request.network}",
                       next="containers with --network none or a network can be connected")  # fmt: skip
    notes: tuple[str, ...] = ()
    if container.running:
        with _Inside(container) as inside:
            notes = _plug(containers, container, network, inside, (ip, ip6, mac, aliases))
    else:
        with database(containers.states) as db:
            network = db.network(network).name
        if network in request.in_networks:
            raise _already(container, network)
        if ip or ip6 or mac:
            raise InvalidInput("a container that does not run gets its addresses when it starts", path="--ip",
                               next=f"kist start {container.name}, then connect it")  # fmt: skip
    if container.kept:
        with containers.locked(container):
            networks = dict.fromkeys((*request.in_networks, network))
            _remember(container, tuple(networks))
    return notes


def disconnect(
    containers: Containers, container: Container, network: str, *, force: bool = False
) -> tuple[str, ...]:  # fmt: skip
    """Take it out; what the user should know. Raises NotFound, Conflict, StepFailed."""
    notes: tuple[str, ...] = ()
    with database(containers.states) as db:
        network = db.network(network).name
        holder = next((h for h in db.holders(network) if h.container == container.id), None)
    if holder is None and network not in container.config.request.in_networks:
        raise NotFound(f"{container.name} is not in the network {network}", code="not-connected")
    if holder and container.running:
        with _Inside(container) as inside:
            try:
                inside.take(lambda slot: [compile_cable.unplug(holder.inside, slot)])
            except KistError:
                if not force:
                    raise
            with database(containers.states) as db:
                db.leave(holder)
            if has_hosts(container.config.request):
                notes = hosts.leave(inside.root, _texts(holder.address4, holder.address6))
    if container.kept:
        with containers.locked(container):
            left = tuple([name for name in container.config.request.in_networks if name != network])
            _remember(container, left)
    return notes


def limit(containers: Containers, container: Container, request: RunRequest) -> None:
    """Make its cables as fast as `request` says. Raises InvalidInput where there are none, Refused, Unsupported."""
    if not request.in_networks:
        raise InvalidInput(f"{container.name} has no cable that could be slow", path="--net-rate")
    with database(containers.states) as db, Netlink() as connection:
        check_rate(connection, request)
        wires = {network.name for network in db.networks() if network.mode}
        places = db.holders(container=container.id)
    if request.net_rate.into and wires & {place.network for place in places}:
        raise InvalidInput("what comes in from a wire can't be slowed", path="--net-rate", next="--net-rate out=...")
    if not container.running:
        return
    with _Inside(container) as inside:
        for place in places:
            outside = "" if place.network in wires else place.outside
            inside.take(partial(compile_cable.limit, outside, place.inside, request.net_rate, again=True))


def _texts(*addresses: bytes) -> tuple[str, ...]:
    return tuple([address_text(address) for address in addresses if address])


def _plug(
    containers: Containers, container: Container, name: str, inside: _Inside,
    asked: tuple[bytes, bytes, bytes, tuple[str, ...]],
) -> tuple[str, ...]:  # fmt: skip
    """Written down before it exists; taken back when it did not come to be."""
    ip, ip6, mac, aliases = asked
    states, id, request = containers.states, container.id, container.config.request
    with database(states) as db, Netlink() as connection:
        db.bury_some()
        network: Network = db.network(name)
        own = db.holders(container=id)
        if any(h.network == network.name for h in own):
            raise _already(container, network.name)
        names = (request.hostname or id[:12], *aliases)
        record = container.record
        listens = network.name != DEFAULT and record is not None and bool(record.networks)
        place = Place(id, container.name, _free(own), ip, ip6, mac, names, not own, request.net_rate)
        cable, notes = plug(db, connection, network, place)

    def steps(slot: int) -> Iterator[tuple[NetlinkStep, str]]:
        yield from compile_cable.plug(cable, slot)
        if listens:
            yield compile_cable.name_port(slot, again=True)

    try:
        inside.take(steps)
    except BaseException:
        with database(states) as db:
            for holder in db.holders(container=id):
                if holder.network == network.name:
                    db.leave(holder)
        raise
    if has_hosts(request):
        notes += hosts.enter(inside.root, _texts(*[a.local for a in cable.addresses]), own_names(request, id))
    if listens:
        notes += hosts.answer_names(inside.root)
    elif network.name != DEFAULT:
        notes += (f"{container.name} began without a network: it asks for names of containers once it is started anew",)
    return notes


def _free(places: list[Holder]) -> int:
    taken = {place.inside for place in places}
    for number in range(CABLES_MOST):
        if f"eth{number}" not in taken:
            return number
    raise Conflict(f"{CABLES_MOST} networks are as many as a container can be in")


def _already(container: Container, network: str) -> Conflict:
    return Conflict(f"{container.name} is in the network {network} already", code="connected")


class _Inside:
    """The network namespace and the root directory of a container, open: no other process's can take their place.
    Raises Conflict."""

    def __init__(self, container: Container) -> None:
        self._opened: list[int] = []
        try:
            for name, flags in (("ns/net", os.O_RDONLY), ("root", os.O_PATH)):
                self._opened.append(os.open(f"/proc/{container.pid}/{name}", flags | os.O_CLOEXEC))
            if not container.states.is_locked(container.id):
                raise FileNotFoundError
        except FileNotFoundError as e:
            self.close()
            raise Conflict(f"{container.name} does not run any more", code="not-running") from e
        self.namespace, self.root = self._opened

    def __enter__(self) -> _Inside:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for fd in self._opened:
            os.close(fd)

    def take(self, steps: Callable[[int], Iterable[tuple[NetlinkStep, str]]]) -> None:
        plan = compile_cable.alone(f"/proc/self/fd/{self.namespace}", steps)
        null, program = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), open_program()
        try:
            launcher = Launcher(plan, program, (null, null, null), (self.namespace,))
        finally:
            os.close(null)
            os.close(program)
        try:
            launcher.end()
        finally:
            launcher.close()


def _remember(container: Container, networks: tuple[str, ...]) -> None:
    first, *more = networks or ("none",)
    request = replace(container.config.request, network=first, more_networks=tuple(more))
    container.write("config", replace(container.config, request=request))
