"""A streaming tar reader: v7, ustar, star, GNU and PAX archives, plain or compressed, from anything that can be read.

Ours and not `tarfile`: names stay bytes, every number and length is bounded, memory is bounded, damage is told with its
byte offset, and the digest of the uncompressed stream (the OCI "diff id") falls out of the one pass.

Sources: POSIX.1-2017 pax(1) "ustar Interchange Format" and "pax Header Block"; tar(5) of libarchive; GNU tar
manual, appendix "Tar Internals" (sparse formats, base-256). Where readers
differ, we read as Go's archive/tar does, which Docker and podman use.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from zlib import adler32

from kist.errors import InvalidInput, Unsupported
from kist.store import tar_headers as headers
from kist.store.ahead import CHUNK_BYTES, Chunks
from kist.store.compression import open_source
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal, Self

    from kist.store.library import Plain
    from kist.store.source import Source

    Kind = Literal[b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"s"]

REGULAR: Literal[b"0"] = b"0"
HARDLINK: Literal[b"1"] = b"1"
SYMLINK: Literal[b"2"] = b"2"
CHAR_DEVICE: Literal[b"3"] = b"3"
BLOCK_DEVICE: Literal[b"4"] = b"4"
DIRECTORY: Literal[b"5"] = b"5"
FIFO: Literal[b"6"] = b"6"
SOCKET: Literal[b"s"] = b"s"  # no tar format has it; some writers leave S_IFSOCK in the mode of an empty file

BLOCK = 512  # CHUNK_BYTES is a multiple of it, so a header never lies across two chunks
_ZERO_BLOCK = bytes(BLOCK)
_EMPTY = memoryview(b"")
_NO_PAX = headers.Pax()
_ONLY_TIMES = {b"mtime"}
_NO_XATTRS: dict[bytes, bytes] = {}
_TRAILING_MAX = 64 << 20  # padding after the end, as on tapes; /dev/zero has no end
_MAX_EXTENSIONS = 32  # headers in a row that only describe the next entry

# name mode+uid+gid size mtime checksum type linkname magic+version devmajor devminor prefix; uname, gname not used
_HEADER = struct.Struct("100s24s12s12s8sc100s8s64x8s8s155s12x")
_Fields = tuple[bytes, ...]
_KINDS: dict[bytes, Kind] = {
    b"0": REGULAR, b"7": REGULAR, b"S": REGULAR,
    b"1": HARDLINK, b"2": SYMLINK, b"3": CHAR_DEVICE, b"4": BLOCK_DEVICE, b"5": DIRECTORY, b"6": FIFO, b"D": DIRECTORY,
}  # fmt: skip
_HAS_DATA = (b"0", b"\0", b"7", b"S", b"D")  # all other types have none, whatever their size field says
_EXTENSIONS = (b"x", b"X", b"g", b"L", b"K", b"V", b"A", b"N")


class Limits(Value):
    """What an archive may ask of us. Beyond it reading stops with InvalidInput, code tar-limit."""

    entries: int = 1_000_000
    total_bytes: int = 256 << 30  # of the uncompressed archive, and of all files in it with their holes
    pax_bytes: int = 1 << 20  # one extended header; also all global headers together
    name_bytes: int = 4096  # PATH_MAX, linux/limits.h
    sparse_segments: int = 262_144  # about 40 MB of memory


class Entry(Value):
    """One member of the archive. Names are bytes as stored: nothing is decoded, joined or cleaned."""

    name: bytes
    kind: Kind
    mode: int  # permission bits, 0 to 0o7777
    uid: int
    gid: int
    size: int  # bytes of the file, holes included
    mtime_ns: int  # since 1970, may be negative
    offset: int  # where in the uncompressed archive the stored content begins
    stored_size: int  # bytes of content in the archive
    linkname: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    xattrs: dict[bytes, bytes] = _NO_XATTRS
    sparse: tuple[tuple[int, int], ...] | None = None  # (offset, length) of the stored parts, ascending; None: no holes


class TarReader:
    """Iterate over the entries; between two steps read the content of the current one with `piece` or `segments`.

    A context manager. What is not read of an entry is skipped. After the last entry `size_bytes` covers the whole
    uncompressed stream, and `digest` too if an `algorithm` is given; `copy` gets all of it, piece by piece, in another
    thread. `ahead`: see Chunks. `plain` gets the entries that it can take, which are left out here. Holds eight pieces
    of CHUNK_BYTES.
    Raises InvalidInput (tar-truncated, tar-corrupt, tar-limit, tar-bomb, tar-empty, not-a-tar) and Unsupported.
    """

    def __init__(
        self,
        stream: Source,
        limits: Limits,
        copy: Callable[[memoryview], object] | None = None,
        algorithm: str = "",
        *,
        ahead: bool = False,
        plain: Plain | None = None,
    ) -> None:
        self._copy = copy
        self._plain = plain
        self._limits = limits
        self._hash = hashlib.new(algorithm) if algorithm else None
        self._chunks = Chunks(open_source(stream), self._take if copy or algorithm else None, ahead=ahead)
        self._buffer = _EMPTY
        self._base = 0  # archive offset of the buffer's first byte
        self._pos = self._end = 0  # the unread part of the buffer
        self._left = 0  # stored content of the current entry not read yet
        self._padding = 0  # after it, up to the next block
        self._entries = 0
        self._file_bytes = 0
        self._globals: dict[bytes, bytes] = {}
        self._done = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._chunks.close()

    @property
    def digest(self) -> str:
        """ALGORITHM:HEX of the uncompressed archive; "" without an algorithm."""
        return f"{self._hash.name}:{self._hash.hexdigest()}" if self._hash else ""

    @property
    def size_bytes(self) -> int:
        """Length of the uncompressed archive."""
        return self._base + self._end

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        if self._done:
            raise StopIteration
        if self._plain is not None:
            self._skip()
            while self._absorb(self._plain):
                self._skip()
        return self._any()

    def _absorb(self, plain: Plain) -> bool:
        """Let it take what it can of what is in the buffer. Whether that was anything."""
        limits = self._limits
        if self._globals or self._pos == self._end:
            return False
        entries, file_bytes = plain.entries, plain.file_bytes
        left = limits.entries - self._entries, limits.total_bytes - self._file_bytes
        taken = plain.take(self._buffer, self._pos, self._base, *left)
        if taken is None:
            return False
        self._pos = taken[0]
        self._begin(taken[1])
        self._entries += plain.entries - entries
        self._file_bytes += plain.file_bytes - file_bytes
        return True

    def _any(self) -> Entry:
        self._skip()
        extension = _NO_PAX
        long: dict[bytes, bytes] = {}
        for _ in range(_MAX_EXTENSIONS):
            at = self._base + self._pos
            fields = self._header(at)
            if fields is None:
                if extension.records or long:
                    raise headers.cut_off(self.size_bytes)
                self._drain()
                raise StopIteration
            kind = fields[5]
            if kind not in _EXTENSIONS:
                if long or self._globals:
                    extension = headers.Pax({**self._globals, **extension.records, **long}, extension.sparse_pairs)
                return self._entry(fields, at, extension)
            size = headers.size(headers.number(fields[2], "size", at), at)
            if kind in b"xX":
                extension = headers.parse_pax(self._extension(size, self._limits.pax_bytes, at), at)
            elif kind == b"g":
                self._globals |= headers.parse_pax(self._extension(size, self._limits.pax_bytes, at), at).records
                if sum(len(key) + len(value) for key, value in self._globals.items()) > self._limits.pax_bytes:
                    raise headers.beyond(f"global headers of more than {self._limits.pax_bytes} bytes", at)
            elif kind in b"LK":  # a GNU name goes before a PAX one, as in Go
                key = b"path" if kind == b"L" else b"linkpath"
                long[key] = self._extension(size, self._limits.name_bytes + BLOCK, at).partition(b"\0")[0]
            else:  # volume label, Solaris ACL, names of a GNU tar before 1.11: nothing that we would apply
                self._begin(size)
                self._skip()
        raise headers.beyond(f"more than {_MAX_EXTENSIONS} extension headers in a row", at)

    def piece(self, at_most: int = CHUNK_BYTES) -> memoryview:
        """The next part of the entry's stored content, up to CHUNK_BYTES; empty at its end."""
        left = self._left
        if not left:
            return _EMPTY
        if self._pos == self._end:
            self._fill()
            if not self._end:
                raise headers.cut_off(self._base)
        start = self._pos
        self._pos = stop = min(start + left, start + at_most, self._end)
        self._left = left - (stop - start)
        return self._buffer[start:stop]

    def segments(self, entry: Entry) -> Iterator[tuple[int, memoryview]]:
        """The current entry's content as (offset in the file, bytes), holes left out."""
        for offset, length in entry.sparse if entry.sparse is not None else ((0, entry.size),):
            position = offset
            while position < offset + length:
                piece = self.piece(offset + length - position)
                yield position, piece
                position += len(piece)

    def _fill(self) -> None:
        """Put the next chunk in place of the spent one, full unless the stream ends. An empty one means the end."""
        self._base += self._end
        self._buffer = self._chunks.next()
        self._pos, self._end = 0, len(self._buffer)
        if self._base + self._end > self._limits.total_bytes:
            raise headers.beyond(f"more than {self._limits.total_bytes} bytes", self._base + self._end)

    def _take(self, chunk: memoryview) -> None:
        if self._hash is not None:
            self._hash.update(chunk)
        if self._copy is not None:
            self._copy(chunk)

    def _begin(self, stored_size: int) -> None:
        self._left = stored_size
        self._padding = -stored_size % BLOCK

    def _skip(self) -> None:
        """Go to the next header. Padding that is missing at the very end of the stream is forgiven."""
        whole = self._left + self._padding
        if whole <= self._end - self._pos:
            self._pos += whole
            self._left = self._padding = 0
            return
        while self._left:
            self.piece()
        skip = min(self._padding, self._end - self._pos)
        self._pos += skip
        if skip < self._padding and self._pos == self._end:  # chunks end on a block's end, but for the last one
            self._fill()
        self._padding = 0

    def _block(self) -> memoryview | None:
        """The next 512 bytes; None at the end of the stream."""
        if self._pos == self._end:
            self._fill()
            if not self._end:
                return None
        start = self._pos
        if self._end - start < BLOCK:
            raise headers.cut_off(self.size_bytes) if self._base + start else _not_tar()
        self._pos = start + BLOCK
        return self._buffer[start : start + BLOCK]

    def _header(self, at: int) -> _Fields | None:
        """The next header, checksum verified; None at the end of the archive, which may lack its two zero blocks."""
        block = self._block()
        if block is None:
            if not at:
                raise InvalidInput("the tar archive is empty (0 bytes)", code="tar-empty")
            return None
        fields: _Fields = _HEADER.unpack(block)
        # adler32 from 0 sums bytes, modulo 65521, in its lower half: 5 times as fast as sum()
        if adler32(block, 0) & 0xFFFF == headers.checksum(fields[4]):
            return fields
        if block == _ZERO_BLOCK:
            following = self._block()
            if following is not None and following != _ZERO_BLOCK:
                raise headers.damaged("one zero block, where two end an archive", at)
            return None
        signed = sum(block) - 256 * sum(byte >= 0x80 for byte in block)  # as some old tars did
        if signed % headers.SUM != headers.checksum(fields[4], signed=True):
            raise headers.damaged("a header's checksum is wrong", at) if at else _not_tar()
        return fields

    def _extension(self, size: int, limit: int, at: int) -> bytes:
        """The content of a header that describes the next entry."""
        if size > limit:
            raise headers.beyond(f"an extended header of {size} bytes (at most {limit})", at)
        self._begin(size)
        content = bytes(self.piece())
        while piece := self.piece():
            content += piece
        self._skip()
        return content

    def _entry(self, fields: _Fields, at: int, pax: headers.Pax) -> Entry:
        raw_name, raw_ids, raw_size, raw_mtime, _, flag, raw_link, magic, major, minor, prefix = fields
        name = raw_name.partition(b"\0")[0]
        if prefix[0] and magic[:6] == b"ustar\0":
            # star keeps times in the last 24 bytes and signs with "tar" (star(5))
            prefix = prefix[:131] if bytes(self._last_block()[508:512]) == b"tar\0" else prefix
            name = prefix.partition(b"\0")[0] + b"/" + name
        link = raw_link.partition(b"\0")[0]
        mode, uid, gid = headers.identity(raw_ids) or self._odd_identity(raw_ids, pax, at)
        stored = headers.number(raw_size, "size", at)
        mtime_ns = headers.nanoseconds(headers.number(raw_mtime, "mtime", at), at)
        xattrs, sparse_pax = _NO_XATTRS, False
        if pax.records or pax.sparse_pairs:
            mtime_ns = pax.mtime_ns(mtime_ns, at)
            if pax.sparse_pairs or pax.records.keys() != _ONLY_TIMES:
                name, link = pax.records.get(b"path") or name, pax.records.get(b"linkpath") or link
                uid = headers.owner(pax.decimal(b"uid", uid, at), at)
                gid = headers.owner(pax.decimal(b"gid", gid, at), at)
                stored = pax.decimal(b"size", stored, at)
                xattrs, sparse_pax = pax.xattrs(at), pax.is_sparse
        if flag == b"\0":  # v7: a directory is a name with a slash
            flag = DIRECTORY if name.endswith(b"/") else REGULAR
        kind = _KINDS.get(flag)
        if kind is None:
            raise Unsupported(f"the tar entry at byte {at} has the unknown type {flag!r}")
        self._begin(headers.size(stored, at) if flag in _HAS_DATA else 0)
        size, sparse = self._left, None
        if flag == b"S":
            size, sparse = self._old_sparse(self._last_block(), at)
        elif kind == REGULAR:
            if stat.S_ISSOCK(mode & 0o177777):  # the field may hold more
                kind = SOCKET
            if sparse_pax:
                name = pax.records.get(b"GNU.sparse.name") or name
                size, sparse = self._pax_sparse(pax, at)
        self._check(name, link, size, at)
        device = kind in (CHAR_DEVICE, BLOCK_DEVICE)
        return Entry(
            name,
            kind,
            mode & 0o7777,
            uid,
            gid,
            size,
            mtime_ns,
            self._base + self._pos,
            self._left,
            link,
            headers.number(major, "device", at) if device else 0,
            headers.number(minor, "device", at) if device else 0,
            xattrs,
            sparse,
        )

    def _last_block(self) -> memoryview:
        return self._buffer[self._pos - BLOCK : self._pos]

    def _odd_identity(self, field: bytes, pax: headers.Pax, at: int) -> tuple[int, int, int]:
        """Mode, uid and gid that are not all well: an id out of range counts only if no record replaces it."""
        mode, uid, gid = (
            headers.number(field[i : i + 8], what, at) for i, what in ((0, "mode"), (8, "uid"), (16, "gid"))
        )
        uid, gid = pax.decimal(b"uid", uid, at), pax.decimal(b"gid", gid, at)
        return mode, headers.owner(uid, at), headers.owner(gid, at)

    def _check(self, name: bytes, link: bytes, size: int, at: int) -> None:
        limits = self._limits
        self._entries += 1
        self._file_bytes += size
        if self._entries > limits.entries:
            raise headers.beyond(f"more than {limits.entries} entries", at)
        if self._file_bytes > limits.total_bytes:
            raise headers.beyond(f"files of more than {limits.total_bytes} bytes together", at)
        if len(name) > limits.name_bytes or len(link) > limits.name_bytes:
            raise headers.beyond(f"a name of more than {limits.name_bytes} bytes", at)
        if not name:
            raise headers.damaged("an entry without a name", at)

    def _old_sparse(self, block: memoryview, at: int) -> tuple[int, headers.Segments]:
        """Old GNU format: four parts in the header, then blocks of 21 while a flag says so; the size at 483."""
        segments = list(headers.old_sparse_map(bytes(block[386:482]), at))
        size = headers.size(headers.number(bytes(block[483:495]), "real size", at), at)
        more = block[482]
        stored = self._left
        while more:
            extension = self._block()
            if extension is None:
                raise headers.cut_off(self.size_bytes)
            segments += headers.old_sparse_map(bytes(extension[:504]), at)
            more = extension[504]
            self._check_segments(len(segments), at)
        self._begin(stored)
        return size, headers.check_sparse(segments, size, stored, at)

    def _pax_sparse(self, pax: headers.Pax, at: int) -> tuple[int, headers.Segments]:
        """GNU formats 0.0 (repeated records), 0.1 (one record) and 1.0 (the map opens the stored content)."""
        numbers: list[bytes]
        if pax.records.get(b"GNU.sparse.major") == b"1":
            size = pax.decimal(b"GNU.sparse.realsize", -1, at)
            numbers = self._stored_map(at)
        else:
            size = pax.decimal(b"GNU.sparse.size", -1, at)
            joined = pax.records.get(b"GNU.sparse.map", b"")
            numbers = joined.split(b",") if joined else [text for pair in pax.sparse_pairs for text in pair]
            self._check_segments(len(numbers) // 2, at)
        segments = headers.sparse_map(numbers, at)
        return headers.size(size, at), headers.check_sparse(segments, size, self._left, at)

    def _stored_map(self, at: int) -> list[bytes]:
        """Format 1.0: lines of decimal numbers, first how many pairs follow, filled up to a whole block."""
        lines: list[bytes] = []
        rest = b""
        wanted = 1
        while len(lines) < wanted:
            piece = self.piece(BLOCK)
            if len(piece) < BLOCK:
                raise headers.damaged("a sparse map that is not whole", at)
            *whole, rest = (rest + bytes(piece)).split(b"\n")
            lines += whole
            if lines and wanted == 1:
                count = headers.decimal(lines[0], b"GNU.sparse.map", at)
                self._check_segments(count, at)
                wanted = 1 + 2 * count
            if len(rest) > BLOCK:
                raise headers.damaged("a sparse map without numbers", at)
        return lines[1:wanted]

    def _check_segments(self, count: int, at: int) -> None:
        if count > self._limits.sparse_segments:
            raise headers.beyond(f"a sparse file of more than {self._limits.sparse_segments} parts", at)

    def _drain(self) -> None:
        """Read what follows the archive's end, so that the digest covers the whole stream."""
        self._done = True
        end = self._base + self._pos
        while self._end:
            self._fill()
            if self.size_bytes > end + _TRAILING_MAX:
                raise headers.beyond(f"more than {_TRAILING_MAX} bytes after its end", end)
        self._chunks.finish()


def _not_tar() -> InvalidInput:
    return InvalidInput(
        "this is not a tar archive",
        why="its first 512 bytes are no tar header, and it starts like no compression that kist knows",
        code="not-a-tar",
    )
