"""What one layer changes, kept beside the layer: its archive without the contents, in a form that is read fast.

    changes     KISTCHG1, then for each entry: u16 length of the name, u16 of the link, u32 of the inode, and the three
    whiteouts   the names of its whiteout files, NUL after each

All little endian. An entry without an inode is a hard link.
"""

from __future__ import annotations

import stat
from struct import Struct
from typing import NamedTuple

from kist.errors import CorruptStore, InvalidInput
from kist.store.view import INODE, Inode, Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from kist.store.view import View

_MAGIC = b"KISTCHG1"
_HEAD = Struct("<HHI")
_BUFFER_BYTES = 1 << 18  # less, and threads are woken for nothing


class Change(NamedTuple):
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
        self._changes: BinaryIO = open(f"{directory}/changes", "xb", _BUFFER_BYTES)  # noqa: SIM115
        self._whiteouts: BinaryIO = open(f"{directory}/whiteouts", "xb")  # noqa: SIM115
        self._changes.write(_MAGIC)
        self.count = 0  # entries so far

    def add(self, change: Change) -> None:
        name, inode, link = change
        data = inode or b""
        self._changes.write(b"".join((_HEAD.pack(len(name), len(link), len(data)), name, link, data)))
        self.count += 1
        if self._applied is not None:
            try:
                self._applied.add(change)
            except InvalidInput:  # whoever needs it gets to know
                self._applied = None

    def add_packed(self, records: bytes, count: int) -> None:
        """So many entries that are no hard links, as they are in the file."""
        self._changes.write(records)
        self.count += count
        if self._applied is not None:
            try:
                for change in _unpacked(records):
                    self._applied.add(change)
            except InvalidInput:
                self._applied = None

    @property
    def view(self) -> View | None:
        return self._applied.view if self._applied else None

    def hide(self, name: bytes) -> None:
        self._applied = None
        self._whiteouts.write(name + b"\0")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._changes.close()  # which writes what is left, and may fail
        finally:
            self._whiteouts.close()


def _unpacked(records: bytes) -> Iterator[Change]:
    at, unpack = 0, _HEAD.unpack_from
    while at < len(records):
        name_size, _, inode_size = unpack(records, at)
        begin = at + _HEAD.size
        end = begin + name_size
        at = end + inode_size
        yield Change(records[begin:end], Inode(records[end:at]))


def read(directory: str, layer: int, *, by_number: bool) -> tuple[list[bytes], Iterator[Change]]:
    """(names of whiteout files, all entries in order). The inodes are told that they came with `layer`.

    `by_number`: an entry's place is its number in the archive, not where its content is. Raises OSError, CorruptStore.
    """
    try:
        with open(f"{directory}/whiteouts", "rb") as file:
            whiteouts = file.read().split(b"\0")[:-1]
    except FileNotFoundError as e:
        raise _damaged(directory) from e
    return whiteouts, _read(directory, layer.to_bytes(2, "little"), by_number=by_number)


def _read(directory: str, layer: bytes, *, by_number: bool) -> Iterator[Change]:
    try:
        file = open(f"{directory}/changes", "rb", _BUFFER_BYTES)  # noqa: SIM115
    except FileNotFoundError as e:
        raise _damaged(directory) from e
    with file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise _damaged(directory)
        number, rest = 0, b""
        while block := file.read(_BUFFER_BYTES):
            data, at = rest + block, 0
            while len(data) - at >= _HEAD.size:
                name_size, link_size, inode_size = _HEAD.unpack_from(data, at)
                begin = at + _HEAD.size + name_size
                middle = begin + link_size
                end = middle + inode_size
                if end > len(data):
                    break
                if 0 < inode_size < INODE.size:
                    raise _damaged(directory)
                inode = data[middle:end]
                if inode:
                    place = inode[32:40]
                    if by_number and stat.S_ISREG(inode[0] | inode[1] << 8):
                        place = number.to_bytes(8, "little")
                    inode = Inode(b"".join((inode[:2], layer, inode[4:32], place, inode[40:])))
                yield Change(data[at + _HEAD.size : begin], inode or None, data[begin:middle])
                at = end
                number += 1
            rest = data[at:]
        if rest:
            raise _damaged(directory)


def _damaged(directory: str) -> CorruptStore:
    return CorruptStore(f"{directory}/changes is damaged", next="kist store check --repair")
