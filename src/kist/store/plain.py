"""Entries of an archive that are as most are, taken apart by the library of launcher/layers.c, without Python's lock.

The threads beside go on meanwhile. What it does not know it leaves to store/tar.py, which takes the same for good. The
module ctypes is 5 ms of a start, so whoever reads a layer imports this.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, addressof, byref, c_char, c_int, c_uint32, c_uint64, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.store.changes import Writer
    from kist.store.layers import Files
    from kist.store.tar import Limits

_LIBRARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_layers.so")
_ROOM_BYTES = 256 << 10  # enough for what CHUNK_BYTES hold, 1,024 records of at most 248 bytes


class _Plain(Structure):
    """As in launcher/layers.c."""

    _fields_ = (
        ("buffer", c_void_p), ("at", c_uint64), ("end", c_uint64), ("base", c_uint64), ("records", c_void_p),
        ("room", c_uint64), ("used", c_uint64), ("entries", c_uint64), ("bytes", c_uint64), ("name_bytes", c_uint64),
        ("number", c_uint64), ("layer", c_uint64), ("stored", c_uint64), ("files", c_int), ("mask", c_uint32),
        ("chown", c_uint32), ("uid", c_uint32), ("gid", c_uint32),
    )  # fmt: skip


def library() -> ctypes.CDLL:
    lib = ctypes.CDLL(_LIBRARY)
    lib.kist_plain.argtypes = (POINTER(_Plain),)
    lib.kist_plain.restype = None
    return lib


class Plain:
    """Gives them to a layer's books; `files`: where their contents go, None if they stay in the archive."""

    def __init__(self, writer: Writer, files: Files | None, limits: Limits) -> None:
        self._take = library().kist_plain
        self._writer = writer
        self._records = ctypes.create_string_buffer(_ROOM_BYTES)
        self._given = given = _Plain(files=-1, layer=writer.layer, name_bytes=limits.name_bytes, room=_ROOM_BYTES)
        given.records = addressof(self._records)
        if files is not None:
            given.files, given.mask = files.directory, files.mode
            given.chown = files.owners
            # Nobody has the id -1.
            given.uid, given.gid = files.own or (-1, -1)
        self.entries = self.file_bytes = 0  # taken so far

    def take(self, buffer: memoryview, at: int, base: int, entries: int, file_bytes: int) -> tuple[int, int] | None:
        """Take those whose headers are in this part of the archive, which begins there at `base`, from the header at
        `at` on; at most so many, with so many bytes. (where the last one's content begins, its size); None for none.

        Raises OSError when its books cannot be written.
        """
        given = self._given
        given.buffer = addressof(c_char.from_buffer(buffer))
        given.at, given.end, given.base = at, len(buffer), base
        given.entries, given.bytes, given.number = entries, file_bytes, self._writer.count
        self._take(byref(given))
        if not given.entries:
            return None
        self.entries += given.entries
        self.file_bytes += given.bytes
        self._writer.add_packed(self._records.raw[: given.used], given.entries)
        return given.at, given.stored
