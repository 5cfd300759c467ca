"""Who holds which address: state.db, also as older kists left it."""

import os
import signal
import sqlite3
from pathlib import Path

import pytest

from kist.errors import CorruptStore
from kist.network.database import Database, Holder
from kist.network.network import Network, Subnet
from kist.plan.ports import Port

OLD = (
    "CREATE TABLE networks (name TEXT PRIMARY KEY, bridge TEXT UNIQUE, record TEXT, last4 INTEGER, last6 INTEGER)",
    "CREATE TABLE holders (container TEXT, network TEXT, name TEXT, address4 BLOB, address6 BLOB, mac BLOB,"
    "outside TEXT, aliases TEXT{}, PRIMARY KEY (container, network),"
    "UNIQUE (network, address4), UNIQUE (network, address6))",
    "CREATE TABLE ports (container TEXT, protocol TEXT, address BLOB, port INTEGER, target BLOB, target_port INTEGER,"
    "PRIMARY KEY (protocol, address, port))",
)  # fmt: skip
NUMBERS = ("CREATE INDEX macs ON holders (network, mac)", "CREATE INDEX numbers ON ports (protocol, port)")
ADDRESS = bytes((10, 0, 0, 2))
PORT = Port("tcp", bytes(4), 80, ADDRESS, 8080)
HOLDER = Holder(
    container="c", network="n", name="box", address4=ADDRESS, mac=b"123456", outside="kistc", aliases=("a",)
)
NETWORK = Network(
    name="n", id="0" * 64, bridge="kist1", subnets=(Subnet(bytes((10, 0, 0, 0)), 24, bytes((10, 0, 0, 1))),)
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KIST_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "a%3f?b#"  # no character of a path means anything


def _open(run: Path) -> Database:
    return Database(str(run), lambda _: True, lambda _: None)


def _fill(db: Database) -> None:
    db.add_network(NETWORK)
    db.hold(HOLDER)
    db.hold_port("c", PORT)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_an_older_kist_wrote_is_kept(run: Path, version: int) -> None:
    (run / ".network").mkdir(parents=True)
    old = sqlite3.connect(run / ".network" / "state.db")
    for statement in (*OLD, *(NUMBERS if version == 3 else ())):
        old.execute(statement.format("" if version == 1 else ", inside TEXT DEFAULT 'eth0'"))
    columns = "container, network, name, address4, mac, outside, aliases"
    values = ("c", "n", "box", ADDRESS, b"123456", "kistc", "a")
    old.execute(f"INSERT INTO holders ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    old.execute("INSERT INTO ports VALUES ('c', 'tcp', ?, 80, ?, 8080)", (bytes(4), ADDRESS))
    old.execute(f"PRAGMA user_version = {version}")
    old.commit()
    old.close()
    for _ in range(2):
        with _open(run) as db:
            assert db.holders() == [HOLDER] and db.ports() == [PORT]


def test_what_was_half_written_is_taken_back(run: Path) -> None:
    with _open(run) as db:
        _fill(db)
    if not (child := os.fork()):
        with _open(run) as db:
            for i in range(2000):  # more than its memory keeps: pages are in the file already
                db.hold(
                    Holder(container=f"{i}", network="n", address4=i.to_bytes(4), mac=i.to_bytes(6), name="x" * 3000)
                )
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    size = (run / ".network" / "state.db").stat().st_size
    assert size > 1 << 20
    with _open(run) as db:
        assert db.holders() == [HOLDER] and db.ports() == [PORT] and db.networks() == [NETWORK]


def test_addresses_go_on_where_they_were(run: Path) -> None:
    given = []
    for _ in range(3):
        with _open(run) as db:
            if not given:
                db.add_network(NETWORK)
            given += [db.free_address(NETWORK, 4, b"")[3] for _ in range(2)]
    assert given == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("newer", [True, False])
def test_what_cannot_be_read(run: Path, newer: bool) -> None:
    with _open(run):
        pass
    path = run / ".network" / "state.db"
    if newer:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(os.urandom(9000))
    before = path.read_bytes()
    with pytest.raises(CorruptStore, match=r"state\.db"), _open(run):
        pass
    assert path.read_bytes() == before
    path.unlink()
    with _open(run):
        pass
