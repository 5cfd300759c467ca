"""What the library of launcher/layers.c does, without Python's lock: the threads beside go on meanwhile.

Above all it takes apart entries of an archive that are as most are. What it does not know it leaves to store/tar.py,
which takes the same for good. The module ctypes is 5 ms of a start, so this is imported by functions that need it.
"""

from __future__ import annotations

import os
from array import array
from ctypes import (
    CDLL,
    POINTER,
    Structure,
    addressof,
    byref,
    c_char,
    c_char_p,
    c_int,
    c_uint32,
    c_uint64,
    c_void_p,
    create_string_buffer,
)

from kist.store.ahead import CHUNK_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kist.store.changes import Writer
    from kist.store.layers import Files
    from kist.store.tar import Limits

_ROOM_BYTES = 512 << 10  # enough for what CHUNK_BYTES hold: 2,048 records of at most 248 bytes
_ENTRIES_MAX = CHUNK_BYTES // 512
_BLOCK = 512  # of erofs.py
_NONE = (1 << 64) - 1
_RECORD_MIN = 8  # bytes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


class _Plain(Structure):
    """As in launcher/layers.c."""

    _fields_ = (
        ("buffer", c_void_p), ("at", c_uint64), ("end", c_uint64), ("base", c_uint64), ("records", c_void_p),
        ("room", c_uint64), ("used", c_uint64), ("entries", c_uint64), ("bytes", c_uint64), ("name_bytes", c_uint64),
        ("number", c_uint64), ("layer", c_uint64), ("stored", c_uint64), ("runs", c_void_p), ("runs_used", c_uint64),
        ("first", c_uint64), ("count", c_uint64), ("files", c_int), ("mask", c_uint32), ("chown", c_uint32),
        ("uid", c_uint32), ("gid", c_uint32), ("head_size", c_uint32), ("head", c_char * 100),
    )  # fmt: skip


_LIBRARY = CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), "_layers.so"))
_take = _LIBRARY.kist_plain
_take.argtypes, _take.restype = (POINTER(_Plain),), None
_move = _LIBRARY.kist_move
_move.argtypes, _move.restype = (c_int, c_int, c_char_p, c_uint64), c_uint64
_inodes = _LIBRARY.kist_inodes
_inodes.argtypes = (c_char_p, c_uint64, c_uint64, c_uint64, c_void_p, c_char_p, c_void_p)
_inodes.restype = c_uint64
_runs = _LIBRARY.kist_runs
_runs.argtypes = (c_char_p, c_uint64, c_uint64, c_uint64, c_void_p, c_void_p, c_void_p, POINTER(c_uint64))
_runs.restype = c_uint64
_dirents = _LIBRARY.kist_dirents
_dirents.argtypes = (c_void_p, c_uint64, c_char_p, c_void_p, c_char_p, c_void_p, c_char_p, c_void_p)
_dirents.restype = c_uint64


def keep_memory() -> None:
    """What is freed stays with this process for its next use: each page that comes anew is a fault, and filled with
    zeros. For a program, not a module: it holds for all of the process. mallopt(3); nothing without glibc."""
    libc = CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 8 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)


class Plain:
    """Gives plain entries to a layer's books; `files`: where their contents go, None if they stay in the archive."""

    def __init__(self, writer: Writer, files: Files | None, limits: Limits) -> None:
        self._writer = writer
        self._records = create_string_buffer(_ROOM_BYTES)
        self._given = given = _Plain(files=-1, layer=writer.layer, name_bytes=limits.name_bytes, room=_ROOM_BYTES)
        given.records = addressof(self._records)
        self._placed = array("Q", bytes(16 * _ENTRIES_MAX))
        given.runs, self._files = _address(self._placed), files
        self.entries = self.file_bytes = 0  # taken so far
        if files is not None:
            given.files, given.mask, given.chown = files.directory, files.mode, files.owners
            given.uid, given.gid = files.own or (-1, -1)  # nobody has these

    def take(self, buffer: memoryview, at: int, base: int, entries: int, file_bytes: int) -> tuple[int, int] | None:
        """Take those whose headers are in this part of the archive, which begins there at `base`, from the header at
        `at` on; at most so many, with so many bytes. (where the last one's content begins, its size); None for none.

        Raises OSError when its books cannot be written.
        """
        given, files = self._given, self._files
        if files is not None:
            given.first, given.count, head = files.staged.last
            given.head, given.head_size = head[:100], len(head)  # longer than any that it takes: another one
        given.buffer = addressof(c_char.from_buffer(buffer))
        given.at, given.end, given.base = at, len(buffer), base
        given.entries, given.bytes, given.number = min(entries, _ENTRIES_MAX), file_bytes, self._writer.count
        _take(byref(given))
        if not given.entries:
            return None
        self.entries += given.entries
        self.file_bytes += given.bytes
        if files is not None and given.runs_used:
            files.staged.add(self._placed[: 2 * given.runs_used], given.head[: given.head_size])
        self._writer.add_packed(memoryview(self._records)[: given.used].tobytes(), given.entries)
        return given.at, given.stored


def move(source: int, target: int, names: Sequence[bytes]) -> int:
    """Move files between two open directories; names alternate, old and new. How many were moved before one failed."""
    return int(_move(source, target, b"\0".join(names), len(names) // 2))


def runs(records: bytes, layer: int, number: int | None) -> tuple[int, list[bytes], bytes, array[int]] | None:
    """Records of changes.py taken apart: how many bytes of them are whole; names of files that stand beside each other,
    and their inodes; for each run of those where its first record begins, and how many they are: 0 for a record that
    stands alone. The inodes are told that they came with `layer`, and, unless `number` is None, their numbers from it
    on. None for what is no record."""
    room = len(records) // _RECORD_MIN + 1
    names, inodes = array("B", b"\0") * len(records), array("B", b"\0") * len(records)
    found, count = array("Q", (0,)) * (2 * room), c_uint64(room)
    number = _NONE if number is None else number
    end = _runs(records, len(records), layer, number, _address(names), _address(inodes), _address(found), byref(count))
    if end == _NONE:
        return None
    del found[2 * count.value :]
    total = sum(found[1::2])
    return end, names.tobytes().split(b"\0", total)[:total], inodes[: 40 * total].tobytes(), found


def inodes(packed: Sequence[bytes], at: int, last: int, bases: array[int]) -> tuple[bytes, array[int]]:
    """For erofs.py: the inodes of plain regular files, to be written at `at`, and their numbers."""
    numbers = array("Q", bytes(8 * len(packed)))
    out = create_string_buffer(len(packed) * (64 + 8) + 64)
    size = _inodes(b"".join(packed), len(packed), at, last, _address(bases), out, _address(numbers))
    return memoryview(out)[:size].tobytes(), numbers


def dirents(
    counts: array[int], names: Sequence[bytes], numbers: array[int], kinds: bytes, plain: array[int]
) -> tuple[bytes, array[int]]:
    """For erofs.py: whole blocks of directories with so many names each, ascending, and the sizes of the directories.
    The number 0 stands for the next one of `plain`."""
    sizes, joined = array("Q", bytes(8 * len(counts))), b"\0".join(names)
    # A block, but for a directory's last, lacks less than a name of 255 bytes and its head.
    room = _BLOCK * ((len(joined) + 12 * len(names)) // (_BLOCK - 267) + len(counts) + 1)
    out = create_string_buffer(room)
    size = _dirents(
        _address(counts), len(counts), joined, _address(numbers), kinds, _address(plain), out, _address(sizes)
    )
    return memoryview(out)[:size].tobytes(), sizes


def _address(numbers: array[int]) -> int:
    """Good as long as the array is neither changed in size nor forgotten."""
    return numbers.buffer_info()[0]
