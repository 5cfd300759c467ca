"""What one layer changes, kept beside the layer: its archive without the contents, in a form that is read fast.

    changes     KISTCHG1, then for each entry: u16 length of the name, u16 of the link, u32 of the inode, and the three
    whiteouts   the names of its whiteout files, NUL after each

All little endian. An entry without an inode is a hard link.
"""

from __future__ import annotations

import stat
from struct import Struct

from kist.errors import CorruptStore, InvalidInput
from kist.store.data import write_all
from kist.store.view import INODE, Inode, Layer, Run
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from kist.store.view import View

_MAGIC = b"KISTCHG1"
_HEAD = Struct("<HHI")
_BUFFER_BYTES = 1 << 16
_BATCH_BYTES = 1 << 14  # less, and the threads beside wait for the interpreter more often


class Change(Value):
    """One entry of the archive: an inode under a name, or another name for what `link` names."""

    name: bytes
    inode: Inode | None
    link: bytes = b""


class Writer:
    """The two files, being written. A context manager.

    `view` is what they make of the view `below`; None if that has to wait until all whiteouts are known, or fails.
    """

    def __init__(self, directory: str, below: View | None = None) -> None:
        self._applied = Layer(below) if below else None
        self.layer = below.layers if below else 0
        self._changes: BinaryIO = open(f"{directory}/changes", "xb", 0)  # noqa: SIM115
        self._whiteouts: BinaryIO = open(f"{directory}/whiteouts", "xb")  # noqa: SIM115
        self._waiting = [_MAGIC]
        self._waiting_bytes = 0
        self.count = 0  # entries so far

    def add(self, change: Change) -> None:
        name, inode, link = change.name, change.inode, change.link
        data = inode or b""
        self.add_packed(b"".join((_HEAD.pack(len(name), len(link), len(data)), name, link, data)), 1)

    def add_packed(self, records: bytes, count: int) -> None:
        """So many entries as they are in the file."""
        self._waiting.append(records)
        self._waiting_bytes += len(records)
        self.count += count
        if self._waiting_bytes >= _BATCH_BYTES:
            self._pass_on()

    def _pass_on(self) -> None:
        """Write what waits, and apply it."""
        records, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        write_all(self._changes.fileno(), records)
        if self._applied is not None:
            try:
                self._applied.add_all(taken_apart(records.removeprefix(_MAGIC), self.layer, None)[1])
            except InvalidInput:  # whoever needs it gets to know
                self._applied = None

    @property
    def view(self) -> View | None:
        """When all is written."""
        return self._applied.view if self._applied else None

    def hide(self, name: bytes) -> None:
        self._applied = None
        self._whiteouts.write(name + b"\0")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        try:
            if kind is None:
                self._pass_on()
        finally:
            self._changes.close()
            self._whiteouts.close()  # which writes what is left, and may fail


def taken_apart(records: bytes, layer: int, number: int | None) -> tuple[int, list[Change | Run], int]:
    """(bytes of the records that are whole, what they say, how many they are). The inodes are told that they came with
    `layer`; unless `number` is None, that of the first entry, their place is their number, not where their content is.

    Raises ValueError for what is no record.
    """
    from kist.store import library

    taken = library.runs(records, layer, number)
    if taken is None:
        raise ValueError
    end, names, inodes, runs = taken
    found: list[Change | Run] = []
    done = count = 0  # entries that stand in runs, all entries
    for at, size in zip(runs[::2], runs[1::2], strict=True):
        name_size, link_size, inode_size = _HEAD.unpack_from(records, at)
        begin = at + _HEAD.size
        middle = begin + name_size + link_size
        name, link = records[begin : begin + name_size], records[begin + name_size : middle]
        if size:
            packed = [
                Inode(inodes[i : i + INODE.size])
                for i in range(done * INODE.size, (done + size) * INODE.size, INODE.size)
            ]
            found.append(Run(name.rpartition(b"/")[0], names[done : done + size], packed))
            done += size
        else:
            inode = records[middle : middle + inode_size]
            if inode:
                place = inode[32:40]
                if number is not None and stat.S_ISREG(inode[0] | inode[1] << 8):
                    place = (number + count).to_bytes(8, "little")
                inode = b"".join((inode[:2], layer.to_bytes(2, "little"), inode[4:32], place, inode[40:]))
            found.append(Change(name, Inode(inode) if inode else None, link))
        count += size or 1
    return end, found, count


def read(directory: str, layer: int, *, by_number: bool) -> tuple[list[bytes], Iterator[Change | Run]]:
    """(names of whiteout files, all entries in order). The inodes are told that they came with `layer`.

    `by_number`: an entry's place is its number in the archive, not where its content is. Raises OSError, CorruptStore.
    """
    try:
        with open(f"{directory}/whiteouts", "rb") as file:
            whiteouts = file.read().split(b"\0")[:-1]
    except FileNotFoundError as e:
        raise _damaged(directory) from e
    return whiteouts, _read(directory, layer, by_number=by_number)


def _read(directory: str, layer: int, *, by_number: bool) -> Iterator[Change | Run]:
    try:
        file = open(f"{directory}/changes", "rb", _BUFFER_BYTES)  # noqa: SIM115
    except FileNotFoundError as e:
        raise _damaged(directory) from e
    with file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise _damaged(directory)
        number, rest = 0, b""
        while block := file.read(_BUFFER_BYTES):
            data = rest + block
            try:
                end, found, count = taken_apart(data, layer, number if by_number else None)
            except ValueError as e:
                raise _damaged(directory) from e
            yield from found
            rest = data[end:]
            number += count
        if rest:
            raise _damaged(directory)


def _damaged(directory: str) -> CorruptStore:
    return CorruptStore(f"{directory}/changes is damaged", next="kist store check --repair")
