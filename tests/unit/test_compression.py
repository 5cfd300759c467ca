"""Compressed streams, undone by whichever module is there."""

import gzip
import io
import random
import sys

import pytest

from kist.errors import InvalidInput
from kist.store.compression import open_source
from kist.store.source import read_some

DATA = random.Random(1).randbytes(3_000_000) + bytes(3_000_000)


@pytest.fixture(params=["isal", "zlib"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "isal":
        pytest.importorskip("isal", reason="needs isal: pip install isal")
    else:
        monkeypatch.setitem(sys.modules, "isal.igzip_lib", None)
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
