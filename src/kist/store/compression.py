"""What a tar stream is wrapped in: told by its first bytes, undone with bounded memory and bounded growth.

gzip, bzip2 and xz come with Python; zstd needs Python 3.14, an optional module or libzstd; gzip is undone twice as fast
by the module isal, where that is installed. The modules are imported when a stream needs them.
"""

from __future__ import annotations

from kist.errors import InvalidInput, Unsupported
from kist.store.source import Prefixed, Source, read_some, take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol
else:
    Protocol = object

# A real root file system shrinks 3 to 5 times, one with a large file of zeros some 20 times; deflate can do 1,032
# times, bzip2, xz and zstd far more. So: this much for nothing, then 200 bytes out for each byte in.
FREE_OUTPUT_BYTES = 256 << 20
MAX_RATIO = 200

_READ_BYTES = 512 << 10
_XZ_MEMORY_BYTES = 256 << 20  # `xz -9` asks for 65 MiB to decompress; a hostile header may ask for 4 GiB
_ZSTD_WINDOW_LOG = 27  # 128 MiB, the most that zstd(1) itself accepts without --long=31


_Bytes = bytes | memoryview


class _Codec(Protocol):
    """The shape of bz2.BZ2Decompressor: one member (frame, stream) per object."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: _Bytes, max_length: int = -1) -> bytes: ...


def open_source(stream: Source) -> Source:
    """The plain bytes of `stream`, whatever it is compressed with; a stream that is not compressed passes through.

    Raises Unsupported for a compression that this Python cannot undo. Reading raises InvalidInput on damaged or cut off
    data (code tar-corrupt, tar-truncated) and on a decompression bomb (tar-bomb).
    """
    head = take(stream, 6)
    whole = Prefixed(head, stream)
    if head.startswith(b"\x1f\x8b"):
        return _gzip(whole)
    if head.startswith(b"BZh"):
        return _Decompressed(whole, "bzip2", (b"BZh",), _bzip2())
    if head.startswith(b"\xfd7zXZ\0"):
        return _Decompressed(whole, "xz", (b"\xfd7zXZ\0",), _xz())
    if _is_zstd(head):
        # Skippable frames (pzstd puts them first, zstd:chunked last): 0x184D2A50 to 0x184D2A5F, RFC 8878
        skippable = tuple(bytes((0x50 + i,)) + b"\x2a\x4d\x18" for i in range(16))
        return _Decompressed(whole, "zstd", (b"\x28\xb5\x2f\xfd", *skippable), _zstd())
    for magic, name, tool in _FOREIGN:
        if head.startswith(magic):
            raise Unsupported(
                f"kist cannot read {name} data",
                why="it reads tar archives that are plain or compressed with gzip, bzip2, xz or zstd",
                next=f"decompress it first: {tool} FILE | kist import - NAME",
            )
    return whole


_FOREIGN = (
    (b"\x1f\x9d", "compress (.Z)", "zcat"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
    (b"LZIP", "lzip", "lzip -dc"),
    (b"PK\x03\x04", "zip", "bsdtar -cf - @"),
)


def _is_zstd(head: bytes) -> bool:
    return head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F)


class _Compressed:
    """The bytes of a compressed stream, counted."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self.name = name
        self.count = 0

    def readinto(self, buffer: memoryview, /) -> int:
        count = read_some(self._source, buffer)
        self.count += count
        return count

    read = readinto  # isal looks whether there is one, to tell files from bytes

    def check(self, out_bytes: int) -> None:
        """Refuse what grew to so much."""
        if out_bytes > FREE_OUTPUT_BYTES + MAX_RATIO * self.count:
            raise InvalidInput(
                f"{self.count} bytes of {self.name} data grew to more than {out_bytes} bytes",
                why=f"it may be a bomb: past {FREE_OUTPUT_BYTES >> 20} MiB kist takes {MAX_RATIO} times the input",
                next="if you trust it, decompress it first and import the plain tar",
                code="tar-bomb",
            )

    def damaged(self, why: Exception) -> InvalidInput:
        return InvalidInput(f"the {self.name} data is damaged near byte {self.count}", why=str(why), code="tar-corrupt")

    def cut_off(self) -> InvalidInput:
        return InvalidInput(f"the {self.name} data is cut off after {self.count} bytes", code="tar-truncated")


class _Igzip:
    """gzip undone by isal: straight into the buffer, and without the GIL but for reading."""

    def __init__(self, source: Source, isal: _Isal) -> None:
        self._source = _Compressed(source, "gzip")
        self._reader = isal._GzipReader(self._source, buffersize=_READ_BYTES)
        self._errors = (isal.error, OSError, OverflowError)  # gzip.BadGzipFile is one of the OSErrors
        self._out_bytes = 0

    def readinto(self, buffer: memoryview, /) -> int | None:
        try:
            count = self._reader.readinto(buffer)
        except EOFError as e:
            raise self._source.cut_off() from e
        except self._errors as e:
            raise self._source.damaged(e) from e
        self._out_bytes += count or 0
        self._source.check(self._out_bytes)
        return count


class _Decompressed:
    """The concatenated content of all members of a compressed stream (RFC 1952 section 2.2 and its like in the others).

    Zero bytes after the last member are padding, as gzip(1) has it; anything else there is damage.
    """

    def __init__(
        self, source: Source, name: str, magics: tuple[bytes, ...], start: tuple[Callable[[], _Codec], _Errors]
    ) -> None:
        self._source = _Compressed(source, name)
        self._magics = magics
        self._new_codec, self._errors = start
        self._codec: _Codec | None = None
        self._raw = memoryview(bytearray(_READ_BYTES))
        self._pending: _Bytes = b""  # read, not yet given to a codec
        self._out_bytes = 0

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            if self._codec is None and not self._next_member():
                return 0
            codec = self._codec
            if codec is None:
                return 0
            if codec.eof:
                self._pending = codec.unused_data + bytes(self._pending)
                self._codec = None
                continue
            if codec.needs_input and not self._pending:
                self._pending = self._read()
                if not self._pending:
                    raise self._source.cut_off()
            data, self._pending = self._pending, b""
            try:
                out = codec.decompress(data, len(buffer))
            except self._errors as e:
                raise self._source.damaged(e) from e
            if out:
                return self._deliver(out, buffer)

    def _deliver(self, out: bytes, buffer: memoryview) -> int:
        self._out_bytes += len(out)
        self._source.check(self._out_bytes)
        buffer[: len(out)] = out
        return len(out)

    def _next_member(self) -> bool:
        """Start the member that comes next; False at a clean end of the stream."""
        longest = len(self._magics[0])
        while len(rest := bytes(self._pending).lstrip(b"\0")) < longest and (more := self._read()):
            self._pending = rest + bytes(more)
        if not rest:
            return False
        if not rest.startswith(self._magics):
            raise InvalidInput(
                f"the {self._source.name} data is followed by something else near byte {self._source.count}",
                code="tar-corrupt",
            )
        self._pending = rest
        self._codec = self._new_codec()
        return True

    def _read(self) -> memoryview:
        """Good until the next call."""
        return self._raw[: self._source.readinto(self._raw)]


_Errors = tuple[type[Exception], ...]


def gzip_module() -> str:
    """Which one undoes gzip here."""
    import importlib.util

    return "isal" if importlib.util.find_spec("isal") else "zlib"


class _Isal(Protocol):
    """isal.isal_zlib. The class is private there, as in the standard library; digests are verified after it."""

    error: type[Exception]

    def _GzipReader(self, source: Source, /, buffersize: int) -> Source: ...


def _gzip(source: Source) -> Source:
    import importlib

    try:
        isal = importlib.import_module("isal.isal_zlib")
        return _Igzip(source, isal)
    except (ImportError, AttributeError):
        zlib = importlib.import_module("zlib")
        return _Decompressed(
            source, "gzip", (b"\x1f\x8b",), (lambda: _Gzip(zlib.decompressobj(wbits=31)), (zlib.error,))
        )
    return _Igzip(source, isal)


class _Inflate(Protocol):
    """What zlib.decompressobj() makes."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: _Bytes, max_length: int = 0) -> bytes: ...


class _Gzip:
    """One gzip member, CRC checked."""

    def __init__(self, inflate: _Inflate) -> None:
        self._inflate = inflate
        self._tail = b""
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._tail and not self._full

    def decompress(self, data: _Bytes, max_length: int = -1) -> bytes:
        out = self._inflate.decompress(self._tail + data, max_length)
        self._tail = self._inflate.unconsumed_tail
        self._full = len(out) == max_length  # the window may hold more, although all input is taken
        return out


def _bzip2() -> tuple[Callable[[], _Codec], _Errors]:
    import bz2

    return bz2.BZ2Decompressor, (OSError,)


def _xz() -> tuple[Callable[[], _Codec], _Errors]:
    import lzma

    return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES), (lzma.LZMAError,)


def _zstd() -> tuple[Callable[[], _Codec], _Errors]:
    import importlib
    from functools import partial

    for name in ("compression.zstd", "backports.zstd"):  # one interface: Python 3.14's, and its backport
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        return partial(module.ZstdDecompressor, options=options), (module.ZstdError,)
    try:
        module = importlib.import_module("zstandard")
    except ImportError:
        return _libzstd()
    context = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
    return lambda: _Zstandard(context.decompressobj()), (module.ZstdError,)


def _libzstd() -> tuple[Callable[[], _Codec], _Errors]:
    from functools import partial

    from kist.store import libzstd

    try:
        return partial(libzstd.Frame, libzstd.load(), _ZSTD_WINDOW_LOG), (libzstd.ZstdError,)
    except (OSError, AttributeError) as e:
        raise Unsupported(
            "this tar is compressed with zstd, which nothing here can read",
            why=f"zstd came with Python 3.14; before that it needs a module or libzstd.so.1: {e}",
            next="pip install backports.zstd    (or: zstd -dc FILE | kist import - NAME)",
        ) from e


class _ZstandardObject(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: memoryview, /) -> bytes: ...


class _Zstandard:
    """One frame through the `zstandard` module, whose decompressobj takes no output limit.

    A compressed block of 4 bytes can stand for 128 KiB (RFC 8878 section 3.1.1.2), so at most 1 KiB goes in at once.
    """

    def __init__(self, inner: _ZstandardObject) -> None:
        self._inner = inner
        self._input = memoryview(b"")
        self._output = memoryview(b"")

    @property
    def eof(self) -> bool:
        return not self._output and self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + bytes(self._input)

    @property
    def needs_input(self) -> bool:
        return not self._input and not self._output

    def decompress(self, data: _Bytes, max_length: int = -1) -> bytes:
        if data:
            self._input = memoryview(bytes(self._input) + data)
        while not self._output and self._input and not self._inner.eof:
            piece, self._input = self._input[:1024], self._input[1024:]
            self._output = memoryview(self._inner.decompress(piece))
        size = len(self._output) if max_length < 0 else max_length
        out, self._output = bytes(self._output[:size]), self._output[size:]
        return out
