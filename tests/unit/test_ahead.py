"""Pieces of a stream, with threads beside whoever takes them."""

import io
import threading

import pytest

from kist.errors import InvalidInput
from kist.store import ahead as module
from kist.store.ahead import CHUNK_BYTES, Chunks, give_up_spare


class Broken(io.BytesIO):
    """Fails where it would end."""

    def readinto(self, buffer: memoryview) -> int:
        if count := super().readinto(buffer):
            return count
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES * 20 + 7])
def test_all_of_it_comes_in_order_to_both(size: int, ahead: bool) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    got = bytearray()
    with Chunks(io.BytesIO(data[:size]), got.extend, ahead=ahead) as chunks:
        pieces = []
        while piece := chunks.next():
            pieces.append(bytes(piece))
        chunks.finish()
        assert got == data[:size]
    assert b"".join(pieces) == data[:size]
    assert all(len(piece) == CHUNK_BYTES for piece in pieces[:-1])


@pytest.mark.parametrize("ahead", [True, False])
def test_an_error_of_the_stream_comes_where_it_is(ahead: bool) -> None:
    with Chunks(Broken(bytes(CHUNK_BYTES * 2)), ahead=ahead) as chunks:
        assert len(chunks.next()) == len(chunks.next()) == CHUNK_BYTES
        with pytest.raises(InvalidInput) as e:
            chunks.next()
    assert e.value.code == "unreadable"


def test_an_error_of_who_gets_the_pieces_comes_at_last() -> None:
    def full(_: memoryview) -> None:
        raise OSError(28, "No space left on device")

    with Chunks(io.BytesIO(bytes(10)), full, ahead=True) as chunks:
        chunks.next()
        with pytest.raises(OSError, match="No space"):
            chunks.finish()


def test_leaving_early_ends_the_threads() -> None:
    before = threading.active_count()
    with Chunks(io.BytesIO(bytes(CHUNK_BYTES * 50)), lambda _: None, ahead=True) as chunks:
        chunks.next()
        assert threading.active_count() > before
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [True, False])
def test_buffers_are_used_again_and_show_nothing_of_what_was_in_them(ahead: bool) -> None:
    give_up_spare()
    used = set()
    for data in (b"a" * CHUNK_BYTES * 9, b"b" * 10):
        got = bytearray()
        with Chunks(io.BytesIO(data), got.extend, ahead=ahead) as chunks:
            while piece := chunks.next():
                assert bytes(piece) == data[: len(piece)]
            chunks.finish()
            used |= {id(buffer) for buffer in chunks._made}
        assert got == data
    assert 0 < len(used) <= module._BUFFERS_MAX
    give_up_spare()
    assert not module._SPARE
