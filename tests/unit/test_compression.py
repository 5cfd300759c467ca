"""Compressed streams, undone by whichever module is there."""

import gzip
import io
import random
import shutil
import subprocess
import sys

import pytest

from kist.errors import InvalidInput
from kist.store import libzstd
from kist.store.compression import open_source
from kist.store.source import read_some

DATA = random.Random(1).randbytes(3_000_000) + bytes(3_000_000)


@pytest.fixture(params=["isal", "zlib"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "isal":
        pytest.importorskip("isal", reason="needs isal: pip install isal")
    else:
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    return request.param


def plain(data: bytes) -> bytes:
    source, found, buffer = open_source(io.BytesIO(data)), bytearray(), memoryview(bytearray(100_000))
    while count := read_some(source, buffer):
        found += buffer[:count]
    return bytes(found)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(DATA, 1),
        gzip.compress(DATA[:1000]) + gzip.compress(b"") + gzip.compress(DATA[1000:], 1) + bytes(700),
        gzip.compress(DATA, 0),
    ],
    ids=["one member", "three members and padding", "stored"],
)
def test_gzip(packed: bytes) -> None:
    assert plain(packed) == DATA


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("at", [12, 50_000, -8, -5, -4, -1])
def test_damaged_gzip(at: int) -> None:
    packed = bytearray(gzip.compress(DATA, 1))
    packed[at] ^= 0x55
    with pytest.raises(InvalidInput) as e:
        plain(bytes(packed))
    assert e.value.code in ("tar-corrupt", "tar-truncated")


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("size", [3, 10, 50_000, -9, -1])
def test_gzip_cut_off(size: int) -> None:
    with pytest.raises(InvalidInput) as e:
        plain(gzip.compress(DATA, 1)[:size])
    assert e.value.code == "tar-truncated"


# --- zstd


@pytest.fixture(params=["compression.zstd", "backports.zstd", "zstandard", "libzstd"])
def zstd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the ways to undo it; the others are not there."""
    if not shutil.which("zstd"):
        pytest.skip("needs zstd: apt-get install zstd")
    if request.param == "libzstd":
        try:
            libzstd.load()
        except OSError:
            pytest.skip("needs libzstd.so.1")
    else:
        pytest.importorskip(request.param, reason=f"needs {request.param}")
    for name in {"compression.zstd", "backports.zstd", "zstandard"} - {request.param}:
        monkeypatch.setitem(sys.modules, name, None)


def frame(data: bytes, *flags: str) -> bytes:
    return subprocess.run(["zstd", "-q", "-c", *flags], input=data, capture_output=True, check=True).stdout


SKIPPED = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"


@pytest.mark.usefixtures("zstd")
def test_zstd() -> None:
    assert plain(frame(DATA)) == DATA
    assert plain(frame(DATA, "-19", "--long=27")) == DATA
    assert plain(frame(DATA[:1000]) + frame(b"") + SKIPPED + frame(DATA[1000:]) + SKIPPED + bytes(700)) == DATA
    assert plain(frame(bytes(100))) == bytes(100)


@pytest.mark.usefixtures("zstd")
def test_zstd_damaged_cut_off_or_a_bomb() -> None:
    packed = frame(DATA)
    for at in (9, 50_000, len(packed) - 2):
        damaged = bytearray(packed)
        damaged[at] ^= 0x55
        with pytest.raises(InvalidInput) as e:
            plain(bytes(damaged))
        assert e.value.code in ("tar-corrupt", "tar-truncated")
    for size in (10, 50_000, len(packed) - 1):
        with pytest.raises(InvalidInput) as e:
            plain(packed[:size])
        assert e.value.code == "tar-truncated"
    with pytest.raises(InvalidInput) as e:
        plain(packed + b"rubbish")
    assert e.value.code == "tar-corrupt"
    with pytest.raises(InvalidInput) as e:  # 16 GiB in two megabytes
        plain(frame(bytes(64 << 20)) * 256)
    assert e.value.code == "tar-bomb"


@pytest.mark.usefixtures("zstd")
def test_zstd_with_a_window_of_two_gibibytes() -> None:
    """RFC 8878, 3.1.1: the header's descriptor says what memory it takes; here one byte follows."""
    head, block = b"\x28\xb5\x2f\xfd\x00", b"\x09\x00\x00x"
    assert plain(head + bytes([(20 - 10) << 3]) + block) == b"x"
    with pytest.raises(InvalidInput) as e:
        plain(head + bytes([(31 - 10) << 3]) + block)
    assert e.value.code == "tar-corrupt"
