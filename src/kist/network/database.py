"""What is true of networks until the host is rebooted: RUN/.network/state.db, on tmpfs as the run directory is.

    networks   how each was made
    holders    which container holds which address of which network
    ports      which published port leads where

A row of a container's is written before the kernel hears of it and is dead when the container's directory is: the
container's end needs no database. Whoever shows anything buries the dead first; who adds something, a few of them, and
those whose place is wanted, so that it costs the same beside a thousand others. One lock for all, held for moments;
SQLite is for what SIGKILL leaves half done. `_sqlite3` is what the module sqlite3 wraps, without 10 ms of import.
"""

from __future__ import annotations

import fcntl
import os

from kist.codec import decode_text, dumps
from kist.errors import Conflict, CorruptStore, InvalidInput, NotFound
from kist.network import durable
from kist.network.names import Names
from kist.network.network import Network
from kist.plan.ports import Port
from kist.plan.rtnetlink import address_text
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY = ".network"
# Few indexes, and tables that are their own: what is added costs a read and four writes for each of their pages.
_HOLDERS = (
    """CREATE TABLE holders (container TEXT, network TEXT, name TEXT, address4 BLOB, address6 BLOB, mac BLOB,
       outside TEXT, aliases TEXT, inside TEXT DEFAULT 'eth0', PRIMARY KEY (container, network),
       UNIQUE (network, address4)) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX sixes ON holders (network, address6) WHERE address6 IS NOT NULL",
    "CREATE INDEX macs ON holders (network, mac)",
)
_PORTS = """CREATE TABLE ports (container TEXT, protocol TEXT, address BLOB, port INTEGER, target BLOB,
            target_port INTEGER, PRIMARY KEY (protocol, port, address)) WITHOUT ROWID"""
_SCHEMA = (
    "CREATE TABLE networks (name TEXT PRIMARY KEY, bridge TEXT UNIQUE, record TEXT, last4 INTEGER, last6 INTEGER)",
    *_HOLDERS,
    _PORTS,
    "PRAGMA user_version = 4",
)
_FROM_1 = ("ALTER TABLE holders ADD COLUMN inside TEXT DEFAULT 'eth0'",)
_FROM_2 = (
    "ALTER TABLE holders RENAME TO old_holders",
    "ALTER TABLE ports RENAME TO old_ports",
    "DROP INDEX IF EXISTS macs",
    *_HOLDERS,
    _PORTS,
    "INSERT INTO holders SELECT * FROM old_holders",
    "INSERT INTO ports SELECT * FROM old_ports",
    "DROP TABLE old_holders",
    "DROP TABLE old_ports",
    _SCHEMA[-1],
)
_STEPS = (_SCHEMA, (*_FROM_1, *_FROM_2), _FROM_2, _FROM_2, ())  # by the version that is there


class Holder(Value):
    """A container's place in a network."""

    container: str
    network: str
    name: str = ""
    address4: bytes = b""
    address6: bytes = b""
    mac: bytes = b""
    outside: str = ""  # the cable's end in the bridge
    inside: str = "eth0"  # and the one in the container
    aliases: tuple[str, ...] = ()


class Database:
    """Open and locked: a context manager; leaving it without an exception commits.

    `alive` says whether a container's directory is still somebody's; `bury` takes published ports out of the kernel.
    """

    def __init__(self, run: str, alive: Callable[[str], bool], bury: Callable[[tuple[Port, ...]], None]) -> None:
        self._directory, self._alive, self._bury = f"{run}/{DIRECTORY}", alive, bury
        self._names, self._changes = Names(run), list[tuple[bool, Holder]]()
        self._last: dict[tuple[str, int], int] = {}  # offsets given last, by network and family

    def __enter__(self) -> Database:
        from _sqlite3 import DatabaseError, OperationalError, connect

        os.makedirs(self._directory, 0o700, exist_ok=True)
        self._lock = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            path = self._directory.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
            # The lock is ours, so SQLite needs none, and finds a journal that is left over all the same.
            self._db = connect(f"file:{path}/state.db?vfs=unix-none", isolation_level=None, uri=True)
            self._db.execute("PRAGMA synchronous = OFF")  # tmpfs: there is nothing to wait for
            self._db.execute("PRAGMA journal_mode = PERSIST")
            self._db.execute("BEGIN IMMEDIATE")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version >= len(_STEPS):
                raise self._corrupt(f"it is of a newer kist (version {version})")
            for statement in _STEPS[version]:
                self._db.execute(statement)
            if not version:
                for network in durable.networks():
                    self.add_network(network)
        except BaseException as e:
            os.close(self._lock)
            if isinstance(e, DatabaseError) and not isinstance(e, OperationalError):
                raise self._corrupt(str(e)) from e
            raise
        return self

    def _corrupt(self, why: str) -> CorruptStore:
        return CorruptStore(
            f"cannot read {self._directory}/state.db, who has which address and port", why=why,
            next="stop the containers that have networks, and remove it: it is made again",
        )  # fmt: skip

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if not kind:  # names that go do so first, and those that come last: a row that is there will go with them
                self._names.write([change for change in self._changes if not change[0]])
            self._db.execute("ROLLBACK" if kind else "COMMIT")
            self._db.close()
            if not kind:
                self._names.write([change for change in self._changes if change[0]])
        finally:
            os.close(self._lock)

    # --- networks

    def networks(self) -> list[Network]:
        rows = self._db.execute("SELECT record, name FROM networks ORDER BY name")
        return [decode_text(Network, record, name) for record, name in rows]

    def network(self, name_or_id: str) -> Network:
        """By name, id, or the beginning of an id that only one has. Raises NotFound, Conflict."""
        query = "SELECT record, last4, last6 FROM networks WHERE name = ?"
        row = self._db.execute(query, (name_or_id,)).fetchone()
        if row:
            self._last |= {(name_or_id, 4): row[1], (name_or_id, 6): row[2]}
            return decode_text(Network, row[0], name_or_id)
        found = [n for n in self.networks() if name_or_id and n.id.startswith(name_or_id)]
        if len(found) > 1:
            raise Conflict(f"{name_or_id!r} may mean {len(found)} networks", next="write more of the id")
        if not found:
            raise NotFound(f"no network {name_or_id!r}", next=f"kist network create {name_or_id}", code="no-network")
        return found[0]

    def add_network(self, network: Network) -> None:
        record = dumps(network)
        self._db.execute("INSERT INTO networks VALUES (?, ?, ?, 0, 0)", (network.name, network.bridge, record))

    def remove_network(self, network: Network) -> None:
        self._db.execute("DELETE FROM networks WHERE name = ?", (network.name,))

    # --- containers

    def holders(self, network: str = "", container: str = "") -> list[Holder]:
        """All, or those of one network or container; after `bury_dead`, of the living."""
        column, value = ("network", network) if network else ("container", container)
        where = f"WHERE {column} = ?" if value else ""
        query = f"SELECT * FROM holders {where} ORDER BY name, container"  # noqa: S608
        rows = self._db.execute(query, (value,) if value else ())
        return [
            Holder(
                container=row[0], network=row[1], name=row[2], address4=row[3] or b"", address6=row[4] or b"",
                mac=row[5], outside=row[6], aliases=tuple(row[7].split()), inside=row[8],
            )
            for row in rows
        ]  # fmt: skip

    def ports(self) -> list[Port]:
        rows = self._db.execute("SELECT protocol, address, port, target, target_port FROM ports")
        return [Port(*row) for row in rows]

    def ports_of(self, container: str) -> list[Port]:
        query = "SELECT protocol, address, port, target, target_port FROM ports WHERE container = ?"
        return [Port(*row) for row in self._db.execute(query, (container,))]

    def bury_dead(self) -> None:
        """Give back what containers held whose directories are gone."""
        self._bury_of("SELECT container FROM holders UNION SELECT container FROM ports")

    def bury_some(self) -> None:
        """Look at eight from a random id on: as one is added each time, no more than one in eight stays dead."""
        query = "SELECT container FROM holders WHERE container >= ? ORDER BY container LIMIT 8"
        self._bury_of(query, os.urandom(4).hex())

    def _bury_of(self, query: str, *values: object) -> str:
        """The first of the containers that lives, or ""; those that don't are buried."""
        living = ""
        for (container,) in self._db.execute(query, values).fetchall():
            if self._alive(container):
                living = living or container
            else:
                self.release(container)
        return living

    def release(self, container: str, *, pretend: bool = False) -> None:
        """Give back all that a container holds; with `pretend`, on paper."""
        ports = tuple(self.ports_of(container))
        if ports and not pretend:
            self._bury(ports)
        self._changes += [(False, h) for h in self.holders(container=container)]
        self._db.execute("DELETE FROM ports WHERE container = ?", (container,))
        self._db.execute("DELETE FROM holders WHERE container = ?", (container,))

    def free_address(self, network: Network, family: int, asked: bytes) -> bytes:
        """One that nobody has: the one asked for, else the next behind the one given last, so that one which came back
        rests for as long as possible. b"" if the network has none of the family. Raises InvalidInput, Conflict."""
        subnet = network.subnet(family)
        if subnet is None:
            if asked:
                raise InvalidInput(f"the network {network.name} has no IPv{family} addresses", path=_FLAGS[family])
            return b""
        taken = f"SELECT container FROM holders WHERE network = ? AND address{family} = ?"  # noqa: S608
        first, last = subnet.range
        if asked:
            if not 0 < subnet.offset(asked) <= subnet.size - 2 or asked == subnet.gateway:
                what = "is the gateway of" if asked == subnet.gateway else "is not in"
                raise InvalidInput(f"{address_text(asked)} {what} {subnet}", path=_FLAGS[family])
            if self._bury_of(taken, network.name, asked):
                raise Conflict(f"the address {address_text(asked)} is taken", next="kist network inspect shows by whom")
            return asked
        if (network.name, family) not in self._last:
            self.network(network.name)
        previous = max(self._last[network.name, family], first - 1)
        for i in range(min(last - first + 1, 1 << 16)):
            offset = first + (previous - first + 1 + i) % (last - first + 1)
            address = subnet.address(offset)
            if address != subnet.gateway and not self._bury_of(taken, network.name, address):
                update = f"UPDATE networks SET last{family} = ? WHERE name = ?"  # noqa: S608
                self._db.execute(update, (offset, network.name))
                self._last[network.name, family] = offset
                return address
        raise Conflict(f"the network {network.name} has no free address", next="a network with a larger --subnet")

    def hold(self, h: Holder) -> None:
        """Raises Conflict when the MAC address is another container's there."""
        query = "SELECT container FROM holders WHERE network = ? AND mac = ?"
        if h.mac and self._bury_of(query, h.network, h.mac):
            raise Conflict(f"the MAC address {h.mac.hex(':')} is taken in the network {h.network}")
        self._changes.append((True, h))
        row = (h.container, h.network, h.name, h.address4 or None, h.address6 or None, h.mac, h.outside)
        values = (*row, " ".join(h.aliases), h.inside)
        self._db.execute("INSERT INTO holders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def leave(self, h: Holder) -> None:
        """Give one place back."""
        self._changes.append((False, h))
        self._db.execute("DELETE FROM holders WHERE container = ? AND network = ?", (h.container, h.network))

    def hold_port(self, container: str, port: Port) -> None:
        """Raises Conflict."""
        query = """SELECT container FROM ports WHERE protocol = ? AND port = ? AND length(address) = ?
                   AND (address IN (?, ?) OR ?)"""
        every = bytes(len(port.address))
        asked = (port.protocol, port.port, len(every), port.address, every, port.address == every)
        if other := self._bury_of(query, *asked):
            raise Conflict(f"the port {port} is taken", why=f"the container {other[:12]} has it", code="port-taken")
        fields = (port.protocol, port.address, port.port, port.target, port.target_port)
        self._db.execute("INSERT INTO ports VALUES (?, ?, ?, ?, ?, ?)", (container, *fields))


_FLAGS = {4: "--ip", 6: "--ip6"}
