"""The fields of tar headers as values: numbers, PAX records, sparse maps. Pure; `at` is the archive offset in bytes.

Sources: POSIX.1-2017 pax(1), "pax Extended Header"; GNU tar manual, appendix "Tar Internals"; star(5) for SCHILY.xattr.
"""

from __future__ import annotations

from functools import lru_cache

from kist.errors import InvalidInput
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

Segments = tuple[tuple[int, int], ...]

ID_MAX = (
    2**32 - 2
)  # 2**32 - 1 is (uid_t)-1, which chown(2) takes as "leave it": the owner would stay root (CVE-2024-40635)
SECONDS_MAX = 2**40  # some 35,000 years either way; every file system clamps far earlier
SUM = 65521  # zlib.adler32 calculates modulo this
_SIZE_MAX = 2**63 - 1  # off_t


def damaged(what: str, at: int) -> InvalidInput:
    return InvalidInput(f"the tar archive is damaged at byte {at}: {what}", code="tar-corrupt")


def cut_off(at: int) -> InvalidInput:
    return InvalidInput(
        f"the tar archive is cut off at byte {at}", next="get or make the file again", code="tar-truncated"
    )


def beyond(what: str, at: int) -> InvalidInput:
    return InvalidInput(f"the tar archive asks for too much near byte {at}: {what}", code="tar-limit")


def number(field: bytes, what: str, at: int) -> int:
    """A numeric header field: octal digits between spaces and NULs, or GNU base-256 (first bit set). Empty is 0."""
    value = parsed(field)
    if value is None:
        raise damaged(f"its {what} field is {field!r}", at)
    return value


@lru_cache(8192)
def identity(field: bytes) -> tuple[int, int, int] | None:
    """The fields mode, uid and gid together, few of which differ; None when one is damaged or out of range."""
    mode, uid, gid = parsed(field[:8]), parsed(field[8:16]), parsed(field[16:])
    if mode is None or uid is None or gid is None or not (0 <= uid <= ID_MAX and 0 <= gid <= ID_MAX):
        return None
    return mode, uid, gid


@lru_cache(8192)  # most fields of an archive are like those of other entries
def parsed(field: bytes) -> int | None:
    """See number; None when it is damaged."""
    if field[0] >= 0x80:
        # Two's complement big-endian; the first byte's top bit is only the mark, the next one the sign.
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit():  # int() also takes signs, underscores and 0o
        digits = digits.partition(b"\0")[0].rstrip(b" ")
    try:
        return int(digits, 8) if digits.isdigit() else None
    except ValueError:
        return None


@lru_cache(8192)
def checksum(field: bytes, *, signed: bool = False) -> int:
    """What all bytes of a header should come to, modulo SUM, by its checksum field, which counts as spaces; -1 when
    that is damaged."""
    stored = parsed(field)
    if stored is None:
        return -1
    return (stored - 8 * 0x20 + sum(field) - (256 * sum(byte >= 0x80 for byte in field) if signed else 0)) % SUM


def size(value: int, at: int) -> int:
    if not 0 <= value <= _SIZE_MAX:
        raise damaged(f"a size of {value}", at)
    return value


def owner(value: int, at: int) -> int:
    if not 0 <= value <= ID_MAX:
        raise InvalidInput(
            f"the tar entry at byte {at} belongs to id {value}",
            why=f"user and group ids go from 0 to {ID_MAX}",
            code="tar-corrupt",
        )
    return value


def nanoseconds(seconds: int, at: int) -> int:
    if abs(seconds) > SECONDS_MAX:
        raise damaged(f"a modification time of {seconds} s", at)
    return seconds * 1_000_000_000


class Pax(Value):
    """The records of an extended header. An empty value takes back a global one; GNU sparse 0.0 repeats keys."""

    records: dict[bytes, bytes] = {}
    sparse_pairs: tuple[tuple[bytes, bytes], ...] = ()

    def decimal(self, key: bytes, default: int, at: int) -> int:
        """A non-negative decimal integer; `default` when the record is absent or empty."""
        value = self.records.get(key)
        return decimal(value, key, at) if value else default

    def mtime_ns(self, default: int, at: int) -> int:
        """Seconds with any number of decimals, cut to nanoseconds towards the past as kernels do."""
        text = self.records.get(b"mtime")
        if not text:
            return default
        whole, _, fraction = text.partition(b".")
        if len(fraction) == 9 and len(whole) < 12 and (digits := whole + fraction).isdigit():  # as all writers do it
            return int(digits)
        negative = whole.startswith(b"-")
        whole = whole.removeprefix(b"-")
        if not (whole + fraction).isdigit():
            raise damaged(f"its mtime record is {text[:40]!r}", at)
        ns = nanoseconds(decimal(whole or b"0", b"mtime", at), at) + int(fraction[:9].ljust(9, b"0"))
        return -ns - bool(fraction[9:].strip(b"0")) if negative else ns

    @property
    def is_sparse(self) -> bool:
        return bool(self.sparse_pairs) or any(key.startswith(b"GNU.sparse.") for key in self.records)

    def xattrs(self, at: int) -> dict[bytes, bytes]:
        """Extended attributes: star's raw form (GNU tar, Docker) before libarchive's (URL-encoded, base64)."""
        found: dict[bytes, bytes] = {}
        for key, value in self.records.items():
            if key.startswith(b"LIBARCHIVE.xattr."):
                name, content = _libarchive_xattr(key.removeprefix(b"LIBARCHIVE.xattr."), value, at)
                found.setdefault(name, content)
            elif key.startswith(b"SCHILY.xattr."):
                found[key.removeprefix(b"SCHILY.xattr.")] = value
        if found and any(b"\0" in name or not name for name in found):
            raise damaged("the name of an extended attribute has a NUL or is empty", at)
        return found


def decimal(text: bytes, key: bytes, at: int) -> int:
    if not text.isdigit() or len(text) > 20:
        raise damaged(f"its {key.decode(errors='replace')} record is {text[:40]!r}", at)
    return int(text)


def _libarchive_xattr(name: bytes, value: bytes, at: int) -> tuple[bytes, bytes]:
    from binascii import Error, a2b_base64
    from urllib.parse import unquote_to_bytes

    try:
        return unquote_to_bytes(name), a2b_base64(value + b"=" * (-len(value) % 4))
    except Error as e:
        raise damaged(f"the value of LIBARCHIVE.xattr.{name.decode(errors='replace')} is not base64", at) from e


def parse_pax(data: bytes, at: int) -> Pax:
    """Records `LENGTH KEY=VALUE\\n`, LENGTH counting the whole record in decimal. Of equal keys the last one counts."""
    records: dict[bytes, bytes] = {}
    offsets: list[bytes] = []
    lengths: list[bytes] = []
    pos = 0
    while pos < len(data):
        space = data.find(b" ", pos, pos + 8)  # a record of at most 1 MiB: seven digits
        digits = data[pos:space] if space > pos else b""
        end = pos + int(digits) if digits.isdigit() else 0
        if not pos < space < end <= len(data) or data[end - 1] != 0x0A:
            if not data[pos:].strip(b"\0"):
                break  # padding inside the header's own size, written by some
            raise damaged(f"an extended header has no record at its byte {pos}", at)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise damaged(f"an extended header's record at its byte {pos} has no key", at)
        if key == b"GNU.sparse.offset":
            offsets.append(value)
        elif key == b"GNU.sparse.numbytes":
            lengths.append(value)
        elif b"\0" in value and not key.startswith((b"SCHILY.xattr.", b"SCHILY.acl.")):
            raise damaged(f"the record {key[:40]!r} has a NUL in its value", at)
        else:
            records[key] = value
        pos = end
    if len(offsets) != len(lengths):
        raise damaged("a sparse map with an offset but no length", at)
    return Pax(records, tuple(zip(offsets, lengths, strict=True)))


def sparse_map(numbers: Iterable[bytes], at: int) -> Segments:
    """Decimal numbers, alternately offset and length (GNU sparse formats 0.0, 0.1 and 1.0)."""
    values = [decimal(text, b"GNU.sparse.map", at) for text in numbers]
    if len(values) % 2:
        raise damaged("a sparse map with an offset but no length", at)
    return tuple(zip(values[::2], values[1::2], strict=True))


def old_sparse_map(block: bytes, at: int) -> Segments:
    """The (offset, length) pairs of an old GNU header or extension block, up to the first empty one."""
    segments = []
    for start in range(0, len(block), 24):
        if not block[start : start + 24].strip(b"\0"):
            break
        offset, length = block[start : start + 12], block[start + 12 : start + 24]
        segments.append((number(offset, "sparse", at), number(length, "sparse", at)))
    return tuple(segments)


def check_sparse(segments: Iterable[tuple[int, int]], size_bytes: int, stored_bytes: int, at: int) -> Segments:
    """The map without its empty parts. They must ascend, lie in the file, and be all of the stored content."""
    end = 0
    for offset, length in segments:
        if length < 0 or offset < end or offset + length > size_bytes:
            raise damaged("the parts of a sparse file overlap or lie outside it", at)
        end = offset + length
    if sum(length for _, length in segments) != stored_bytes:
        raise damaged("the parts of a sparse file are not as long as its stored content", at)
    return tuple(segment for segment in segments if segment[1])
