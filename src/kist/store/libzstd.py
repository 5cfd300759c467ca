"""zstd by the machine's own libzstd.so.1, which dpkg and systemd bring along: for Python before 3.14.

Looks like a decompressor of Python's `compression.zstd`. Source: zstd.h, "Streaming decompression" (since 1.4).
"""

from __future__ import annotations

import ctypes

_WINDOW_LOG_MAX = 100  # ZSTD_d_windowLogMax
_OUT_BYTES = 1 << 17  # ZSTD_DStreamOutSize()


class ZstdError(Exception):
    """What libzstd says of damaged data."""


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))


def load() -> ctypes.CDLL:
    """Raises OSError, AttributeError (too old)."""
    lib = ctypes.CDLL("libzstd.so.1")
    lib.ZSTD_createDCtx.restype = ctypes.c_void_p
    lib.ZSTD_createDCtx.argtypes = ()
    lib.ZSTD_freeDCtx.argtypes = (ctypes.c_void_p,)
    lib.ZSTD_DCtx_setParameter.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    lib.ZSTD_DCtx_setParameter.restype = lib.ZSTD_decompressStream.restype = ctypes.c_size_t
    lib.ZSTD_decompressStream.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Buffer), ctypes.POINTER(_Buffer))
    lib.ZSTD_isError.argtypes = lib.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
    lib.ZSTD_getErrorName.restype = ctypes.c_char_p
    return lib


class Frame:
    """One frame, which may be a skippable one."""

    _context: int | None = None

    def __init__(self, lib: ctypes.CDLL, window_log_max: int) -> None:
        self.eof = False
        self._lib = lib
        self._context = lib.ZSTD_createDCtx()
        if not self._context:
            raise MemoryError
        self._check(lib.ZSTD_DCtx_setParameter(self._context, _WINDOW_LOG_MAX, window_log_max))
        self._data = b""
        self._given = _Buffer(None, 0, 0)
        self._full = False
        self._out = ctypes.create_string_buffer(_OUT_BYTES)

    @property
    def needs_input(self) -> bool:
        return self._given.pos == self._given.size and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._data[self._given.pos :] if self.eof else b""

    def decompress(self, data: bytes | memoryview, max_length: int = -1) -> bytes:
        """At most `max_length` bytes, or any number. Raises ZstdError."""
        if data:
            self._data = self._data[self._given.pos :] + data
            self._given = _Buffer(ctypes.cast(ctypes.c_char_p(self._data), ctypes.c_void_p), len(self._data), 0)
        size = min(max_length, _OUT_BYTES) if max_length >= 0 else _OUT_BYTES
        made = _Buffer(ctypes.cast(self._out, ctypes.c_void_p), size, 0)
        pair = ctypes.byref(made), ctypes.byref(self._given)
        self.eof = self._check(self._lib.ZSTD_decompressStream(self._context, *pair)) == 0
        self._full = made.pos == size
        return ctypes.string_at(self._out, made.pos)

    def _check(self, result: int) -> int:
        if self._lib.ZSTD_isError(result):
            raise ZstdError(self._lib.ZSTD_getErrorName(result).decode())
        return result

    def __del__(self) -> None:
        if self._context:
            self._lib.ZSTD_freeDCtx(self._context)
