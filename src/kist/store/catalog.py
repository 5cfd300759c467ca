"""What the files say, in SQLite: for questions about many images at once.

The truth is index.json and images/; whoever asks first brings the catalog up to date, when index.json is another than
the one it was made from. A catalog that is damaged, or of another version, is made anew; one that cannot be written is
made in memory. So nothing is lost with it, and a commit need not reach the disk.
"""

from __future__ import annotations

import os
import sqlite3

from kist.codec import decode_text, dumps
from kist.errors import CorruptStore, InvalidInput, NotFound
from kist.store import locks
from kist.store.data import disk_error
from kist.store.images import Image, image_of
from kist.store.layout import read_layout
from kist.store.locks import Lock
from kist.store.records import read_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from kist.store.layout import Named

_VERSION = 1
_TABLES = """
CREATE TABLE stamp (inode INTEGER, mtime_ns INTEGER, size INTEGER);
CREATE TABLE image (digest TEXT PRIMARY KEY, id TEXT, created TEXT, size_bytes INTEGER, document TEXT) WITHOUT ROWID;
CREATE TABLE name (name TEXT PRIMARY KEY, digest TEXT) WITHOUT ROWID;
CREATE TABLE layer (digest TEXT, number INTEGER, blob TEXT, diff_id TEXT, file_bytes INTEGER,
                    PRIMARY KEY (digest, number)) WITHOUT ROWID;
CREATE INDEX layer_of ON layer (diff_id, digest);
"""


class Catalog:
    """The catalog of one data directory, up to date; a context manager. Raises KistError, CorruptStore, OSError."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir
        self.damaged: list[str] = []  # what is wrong with images that were left out
        try:
            self._db = self._open(f"{data_dir}/catalog.db")
            self._update()
        except sqlite3.OperationalError as e:  # locked for long, disk full, read-only
            self._db = self._open(":memory:")
            try:
                self._update()
            except sqlite3.Error:
                raise disk_error("cannot read the catalog", OSError(5, str(e))) from e
        except sqlite3.DatabaseError:
            remove_catalog(data_dir)
            self._db = self._open(f"{data_dir}/catalog.db")
            self._update()

    def _open(self, path: str) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("BEGIN IMMEDIATE")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"version {version}")
            if not version:
                for statement in _TABLES.split(";")[:-1]:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _update(self) -> None:
        if self._is_current(self._stamp()):
            return
        with Lock(self._data_dir, locks.NAMES):
            stamp, entries = self._stamp(), read_layout(self._data_dir)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if not self._is_current(stamp):
                    self._fill(entries)
                    self._db.execute("DELETE FROM stamp")
                    self._db.execute("INSERT INTO stamp VALUES (?, ?, ?)", stamp)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def _stamp(self) -> tuple[int, int, int]:
        try:
            status = os.stat(f"{self._data_dir}/index.json")
        except FileNotFoundError:
            return (0, 0, 0)
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _is_current(self, stamp: tuple[int, int, int]) -> bool:
        return bool(self._db.execute("SELECT * FROM stamp").fetchall() == [stamp])

    def _fill(self, entries: Sequence[Named]) -> None:
        db = self._db
        db.execute("DELETE FROM name")
        by_manifest: dict[str, list[Named]] = {}
        for entry in entries:
            by_manifest.setdefault(entry.manifest, []).append(entry)
            if entry.name:
                db.execute("INSERT OR REPLACE INTO name VALUES (?, ?)", (entry.name, entry.manifest))
        for table in ("image", "layer"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608 a constant
        for manifest, named in by_manifest.items():
            try:
                self._insert(image_of(named, read_record(self._data_dir, manifest)))
            except (CorruptStore, NotFound) as e:
                self.damaged.append(str(e))

    def _insert(self, image: Image) -> None:
        row = (image.manifest, image.id, image.created, image.size_bytes, dumps(image))
        self._db.execute("INSERT OR REPLACE INTO image VALUES (?, ?, ?, ?, ?)", row)
        rows = [(image.manifest, i, la.digest, la.diff_id, la.file_bytes) for i, la in enumerate(image.layers)]
        self._db.executemany("INSERT INTO layer VALUES (?, ?, ?, ?, ?)", rows)

    # --- questions

    def images(self) -> list[Image]:
        """All of them, the last one made first."""
        rows = self._db.execute("SELECT document FROM image ORDER BY created DESC, digest")
        try:
            return [decode_text(Image, row[0], "the catalog") for row in rows]
        except InvalidInput as e:
            raise CorruptStore("the catalog is damaged", why=str(e), next="kist store rebuild") from e

    def shared_bytes(self) -> dict[str, int]:
        """For each image, by its manifest's digest: bytes of files in layers that other images have too."""
        rows = self._db.execute(
            "SELECT digest, SUM(file_bytes) FROM layer WHERE diff_id IN"
            " (SELECT diff_id FROM layer GROUP BY diff_id HAVING COUNT(DISTINCT digest) > 1) GROUP BY digest"
        )
        return dict(rows.fetchall())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()


def last_known_names(data_dir: str) -> dict[str, str]:
    """Name -> manifest's digest, as the catalog has them, up to date or not: when index.json is lost. Raises
    sqlite3.Error."""
    db = sqlite3.connect(f"file:{data_dir}/catalog.db?mode=ro", uri=True, timeout=30)
    try:
        return dict(db.execute("SELECT name, digest FROM name").fetchall())
    finally:
        db.close()


def remove_catalog(data_dir: str) -> None:
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        try:
            os.unlink(f"{data_dir}/{name}")
        except FileNotFoundError:
            continue
