"""Where the containers are that run: their networks, addresses and published ports. Changes nothing."""

from __future__ import annotations

import os

from kist.network.attach import database
from kist.network.database import DIRECTORY, Holder
from kist.network.network import Network
from kist.plan.ports import Port
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kist.network.attach import Published, States


class Place(Value):
    """Of one container: its places in networks, each with the network itself, and what of the host leads to it."""

    holders: tuple[tuple[Holder, Network], ...] = ()
    ports: tuple[Port, ...] = ()


def places(states: States, records: Iterable[Published] | None = None) -> Mapping[str, Place]:
    """By id. Who has no network of kist's is not in it. `records`: of all that run, where they were read already."""
    records = states.records() if records is None else records
    relayed = {record.id: Place(ports=tuple(map(_port, record.ports))) for record in records if record.ports}
    if not os.path.exists(f"{states.base}/{DIRECTORY}/state.db"):
        return relayed
    with database(states) as db:
        networks = {network.name: network for network in db.networks()}
        holders: dict[str, list[tuple[Holder, Network]]] = {}
        for holder in db.holders():
            if states.holds(holder.container) and holder.network in networks:
                holders.setdefault(holder.container, []).append((holder, networks[holder.network]))
        for id, found in holders.items():
            ports = relayed[id].ports if id in relayed else tuple(db.ports_of(id))
            relayed[id] = Place(tuple(found), ports)
    return relayed


def _port(words: str) -> Port:
    protocol, address, port, target = words.split(" ")
    return Port(protocol, bytes.fromhex(address), int(port), b"", int(target))
