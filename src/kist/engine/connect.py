"""`kist network connect` and `disconnect`: a cable for a container that runs, and its wish for the next start."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial

from kist.engine import hosts
from kist.engine.changing import changing
from kist.engine.containers import Container, Containers
from kist.engine.prepare import has_hosts, own_names
from kist.errors import Conflict, InvalidInput, KistError, NotFound, Refused
from kist.kernel.launcher import run_steps
from kist.kernel.netlink import Netlink
from kist.kernel.probe import probe
from kist.network import shared
from kist.network.attach import CABLES_MOST, Place, database, network_of, plug
from kist.network.network import DEFAULT
from kist.network.wire import check_rate
from kist.plan import compile_cable, compile_egress
from kist.plan.rtnetlink import address_text
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kist.network.database import Database, Holder
    from kist.network.network import Network
    from kist.network.shared import Shared
    from kist.plan.request import NetRate, RunRequest
    from kist.plan.steps import Netlink as NetlinkStep
    from kist.plan.steps import Plan


def connect(
    containers: Containers, container: Container, network: str, *, ip: bytes = b"", ip6: bytes = b"",
    mac: bytes = b"", aliases: tuple[str, ...] = (),
) -> tuple[str, ...]:  # fmt: skip
    """Put it into one more network; what the user should know. Raises NotFound, Conflict, InvalidInput, StepFailed."""
    request = container.config.request
    _check(container, request)
    notes: tuple[str, ...] = ()
    if container.running:
        with changing(containers.states, container.id, network) as lock, _Inside(container, lock) as inside:
            inside.check()
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


def _check(container: Container, request: RunRequest) -> None:
    if request.allow_net:
        raise Conflict(f"{container.name} has no other way out than what --allow-net lists", code="allow-net",
                       next="a container without --allow-net")  # fmt: skip
    if request.pasta:
        raise Conflict(f"{container.name} has pasta's network, which goes with no other", next="--network of a network")
    if request.network == "host" or request.network.startswith(("container:", "ns:")):
        raise Conflict(f"{container.name} is in a network of others: --network {request.network}",
                       next="containers with --network none or a network can be connected")  # fmt: skip


def disconnect(
    containers: Containers, container: Container, network: str, *, force: bool = False
) -> tuple[str, ...]:  # fmt: skip
    """Take it out; what the user should know. Raises NotFound, Conflict, StepFailed."""
    notes: tuple[str, ...] = ()
    with database(containers.states) as db:
        network = db.network(network).name
        holder = next((h for h in db.holders(network) if h.container == container.id), None)
    if holder is None and network not in container.config.request.in_networks:
        raise _not_in(container, network)
    if holder and container.running:
        with changing(containers.states, container.id, network) as lock, _Inside(container, lock) as inside:
            notes = _leave(containers, container, holder, inside, force=force)
    if container.kept:
        with containers.locked(container):
            left = tuple([name for name in container.config.request.in_networks if name != network])
            _remember(container, left)
    return notes


def _leave(
    containers: Containers, container: Container, holder: Holder, inside: _Inside, *, force: bool
) -> tuple[str, ...]:  # fmt: skip
    try:
        inside.take(lambda slot, _: _unplug(containers, holder, slot, shared=bool(inside.shared)))
    except KistError:
        if not force:
            raise
    with database(containers.states) as db:
        db.leave(holder)
    if has_hosts(container.config.request):
        return hosts.leave(inside.root, _texts(holder.address4, holder.address6))
    return ()


def take_out(containers: Containers, id: str, network: str, lock: int) -> None:
    """What a command left that was killed while it connected or disconnected: see changing.py. Raises KistError."""
    container = containers.find(id)
    with database(containers.states) as db:
        network = db.network(network).name
        holder = next((h for h in db.holders(network) if h.container == id), None)
    if holder and container.running:
        with _Inside(container, lock) as inside:
            _leave(containers, container, holder, inside, force=True)


def _unplug(containers: Containers, holder: Holder, slot: int, *, shared: bool) -> list[tuple[NetlinkStep, str]]:
    with database(containers.states) as db:
        return list(_unplugged(db, holder, slot, shared=shared))


def _unplugged(db: Database, holder: Holder, slot: int, *, shared: bool) -> Iterator[tuple[NetlinkStep, str]]:
    yield compile_cable.unplug(holder.inside, slot)
    if not shared:
        return
    yield compile_egress.own(tuple([a for a in (holder.address4, holder.address6) if a]), slot, gone=True)
    internal = {h.network: db.network(h.network).internal for h in db.holders(container=holder.container)}
    if not internal.pop(holder.network) and all(internal.values()):
        yield compile_egress.way_out(slot, six=probe().ipv6, closed=True)


def _not_in(container: Container, network: str) -> NotFound:
    return NotFound(f"{container.name} is not in the network {network}", code="not-connected")


def limit(containers: Containers, container: Container, request: RunRequest) -> None:
    """Make its cables as fast as `request` says. Raises InvalidInput where there are none, Refused, Unsupported."""
    if not request.in_networks:
        raise InvalidInput(f"{container.name} has no cable that could be slow", path="--net-rate")
    if probe().ordinary:
        raise Refused("--net-rate: a relay has no limit", next="run as root", code="no-rate")
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
            ends = ("" if place.network in wires else place.outside, place.inside)
            inside.take(partial(_limit, ends, request.net_rate))


def _limit(ends: tuple[str, str], rate: NetRate, slot: int, _: int) -> Iterator[tuple[NetlinkStep, str]]:
    return compile_cable.limit(*ends, rate, slot, again=True)


def _texts(*addresses: bytes) -> tuple[str, ...]:
    return tuple([address_text(address) for address in addresses if address])


class _Plugged(Value):
    """What a place in a network comes to. `steps`: given slots, see _Inside.take."""

    network: Network
    addresses: tuple[bytes, ...]
    steps: Callable[[int, int], Iterable[tuple[NetlinkStep, str]]]
    notes: tuple[str, ...]
    listens: bool  # its programs ask the container's own name server from now on


def _place(
    db: Database, connection: Netlink | None, container: Container, name: str, inside: _Inside,
    asked: tuple[bytes, bytes, bytes, tuple[str, ...]],
) -> _Plugged:  # fmt: skip
    """Written down; without a connection on paper only."""
    ip, ip6, mac, aliases = asked
    id, request, record = container.id, container.config.request, container.record
    network = network_of(db, name)
    own = db.holders(container=id)
    if any(h.network == network.name for h in own):
        raise _already(container, network.name)
    names = (request.hostname or id[:12], *aliases)
    listens = network.name != DEFAULT and record is not None and bool(record.networks)
    place = Place(id, container.name, _free(own), ip, ip6, mac, names, not own, request.net_rate)
    cable, notes = plug(db, connection, network, place, shared=bool(inside.shared))
    closed = all(db.network(h.network).internal for h in own)
    addresses = tuple([a.local for a in cable.addresses])

    def steps(slot: int, bridges: int) -> Iterator[tuple[NetlinkStep, str]]:
        yield from compile_cable.plug(cable, slot, bridges)
        if inside.shared:
            yield compile_egress.own(addresses, slot)
            if closed and not network.internal:
                yield compile_egress.way_out(slot, six=probe().ipv6)
        elif listens:
            yield compile_cable.name_port(slot, again=True)

    return _Plugged(network, addresses, steps, notes, listens)


def _plug(
    containers: Containers, container: Container, name: str, inside: _Inside,
    asked: tuple[bytes, bytes, bytes, tuple[str, ...]],
) -> tuple[str, ...]:  # fmt: skip
    """Written down before it exists; taken back when it did not come to be."""
    states, id, request = containers.states, container.id, container.config.request
    with database(states) as db, inside.connection() as connection:
        db.bury_some()
        plugged = _place(db, connection, container, name, inside, asked)
    network, notes = plugged.network, plugged.notes
    try:
        inside.take(plugged.steps)
    except BaseException:
        with database(states) as db:
            for holder in db.holders(container=id):
                if holder.network == network.name:
                    db.leave(holder)
        raise
    if has_hosts(request):
        notes += hosts.enter(inside.root, _texts(*plugged.addresses), own_names(request, id))
    if plugged.listens:
        notes += hosts.answer_names(inside.root)
    elif network.name != DEFAULT:
        notes += (f"{container.name} began without a network: it asks for names of containers once it is started anew",)
    return notes


class _Pretended(Exception):
    pass


def explained(
    containers: Containers, container: Container, network: str, *, leaves: bool = False, ip: bytes = b"",
    ip6: bytes = b"", mac: bytes = b"", aliases: tuple[str, ...] = (),
) -> tuple[Plan, tuple[str, ...]]:  # fmt: skip
    """The plan of `connect`, or with `leaves` of `disconnect`, and what is not in it. Changes nothing.

    Raises as they do, and Conflict for a container that does not run."""
    if not container.running:
        raise Conflict(f"{container.name} does not run: nothing is done before it starts", code="not-running",
                       next=f"kist explain {container.name}")  # fmt: skip
    _check(container, container.config.request)
    hosts_file = f"/proc/{container.pid}/root/etc/hosts"
    found: tuple[Plan, tuple[str, ...]] | None = None
    try:
        with _Inside(container) as inside, database(containers.states) as db:
            inside.check()
            if leaves:
                network = db.network(network).name
                holder = next((h for h in db.holders(network) if h.container == container.id), None)
                if holder is None:
                    raise _not_in(container, network)
                leaving = partial(_unplugged, db, holder, shared=bool(inside.shared))
                plan = inside.plan(lambda slot, _: leaving(slot), containers)
                besides = [f"the lines of {', '.join(_texts(holder.address4, holder.address6))} leave {hosts_file}"]
            else:
                plugged = _place(db, None, container, network, inside, (ip, ip6, mac, aliases))
                plan = inside.plan(plugged.steps, containers)
                names = own_names(container.config.request, container.id)
                besides = [f"{hosts_file} gets: {address} {names}" for address in _texts(*plugged.addresses)]
                if plugged.listens:
                    besides.append(f"/proc/{container.pid}/root/etc/resolv.conf begins with: nameserver 127.0.0.11")
                besides.append(f"the bridge {plugged.network.bridge} is made, unless it is there")
            found = plan, tuple(besides)
            raise _Pretended
    except _Pretended:
        pass
    assert found
    return found


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
    `shared`: where the bridges of an ordinary user are. `lock`: what a launcher is to keep open. Raises Conflict."""

    def __init__(self, container: Container, *lock: int) -> None:
        self._container, self._lock = container, lock
        self._opened: list[int] = []
        self.shared: Shared | None = None
        record = container.record
        try:
            for name, flags in (("ns/net", os.O_RDONLY), ("root", os.O_PATH)):
                self._opened.append(os.open(f"/proc/{container.pid}/{name}", flags | os.O_CLOEXEC))
            if not container.states.is_locked(container.id):
                raise FileNotFoundError
            if record and record.shared:
                with database(container.states):
                    self.shared = shared.find(container.states)
        except FileNotFoundError as e:
            self.close()
            raise Conflict(f"{container.name} does not run any more", code="not-running") from e
        self.namespace, self.root = self._opened

    def check(self) -> None:
        """Whether cables can be plugged in. Raises Conflict."""
        if probe().ordinary and not self.shared:
            name = self._container.name
            raise Conflict(f"{name} can be connected when it does not run", code="no-cables",
                           why="an ordinary user's containers share bridges if they were started in a network",
                           next=f"kist stop {name}, connect it and start it")  # fmt: skip

    @contextmanager
    def connection(self) -> Iterator[Netlink]:
        """To where bridges are."""
        if self.shared:
            yield self.shared.connection
        else:
            with Netlink() as connection:
                yield connection

    def __enter__(self) -> _Inside:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.shared:
            self.shared.close()
        for fd in self._opened:
            os.close(fd)

    def take(self, steps: Callable[[int, int], Iterable[tuple[NetlinkStep, str]]]) -> None:
        """Given slots: the container's network namespace, and where the bridges are."""
        path = f"/proc/self/fd/{self.namespace}"
        if self.shared:
            from kist.plan.compile_shared import alone

            plan = alone(path, self.shared.net_path, self.shared.user_path, steps)
            run_steps(plan, self.namespace, self.shared.net, self.shared.user, *self._lock)
        else:
            run_steps(compile_cable.alone(path, lambda slot: steps(slot, 0)), self.namespace, *self._lock)

    def plan(self, steps: Callable[[int, int], Iterable[tuple[NetlinkStep, str]]], containers: Containers) -> Plan:
        """What `take` does, by paths that other programs can open."""
        path = f"/proc/{self._container.pid}/ns"
        if self.shared:
            from kist.plan.compile_shared import alone

            return alone(f"{path}/net", shared.place(containers.states)[0], f"{path}/user", steps)
        return compile_cable.alone(f"{path}/net", lambda slot: steps(slot, 0))


def _remember(container: Container, networks: tuple[str, ...]) -> None:
    first, *more = networks or ("none",)
    request = replace(container.config.request, network=first, more_networks=tuple(more))
    container.write("config", replace(container.config, request=request))
