"""criu's messages: what we write and read of protocol buffers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.kernel.criu import Response, decode, encode, quote_log


@pytest.mark.parametrize(
    ("message", "data"),
    [  # the first three: protobuf.dev/programming-guides/encoding
        ({1: 150}, "089601"),
        ({2: "testing"}, "120774657374696e67"),
        ({3: {1: 150}}, "1a03089601"),
        ({1: -1}, "08ffffffffffffffffff01"),  # an int32 below 0 takes ten bytes
        ({37: ["a", "b"]}, "aa020161aa020162"),
        ({27: [{1: "pipe:[7]", 2: 1}]}, "da010c0a08706970653a5b375d1001"),
        ({2: {}, 5: (), 13: ""}, "12006a00"),
    ],
)
def test_encode(message: dict, data: str) -> None:
    assert encode(message).hex() == data


def test_a_notification() -> None:
    response = Response.from_bytes(encode({1: 6, 2: 1, 5: {1: "post-restore", 2: 4711}}))
    assert (response.kind, response.success, response.script, response.pid) == (6, True, "post-restore", 4711)


def test_a_failure_and_a_version() -> None:
    failure = Response.from_bytes(encode({1: 1, 2: 0, 7: 56, 9: "Error (criu/kerndat.c:1): no\n"}))
    assert (failure.success, failure.errno, failure.message) == (False, 56, "Error (criu/kerndat.c:1): no")
    assert Response.from_bytes(encode({1: 10, 2: 1, 10: {1: 3, 2: 17, 4: 1}})).version == 31701


FIELDS = st.dictionaries(st.integers(1, 1000), st.integers(0, 2**64 - 1) | st.binary(max_size=300), max_size=8)


@given(FIELDS)
def test_what_is_written_is_read(fields: dict[int, int | bytes]) -> None:
    assert decode(encode(fields)) == fields


@given(st.binary(max_size=100))
def test_any_answer_is_read_or_refused(data: bytes) -> None:
    try:
        Response.from_bytes(data)
    except ValueError:
        pass


def test_quote_log(tmp_path) -> None:
    lines = [f"line {i}" for i in range(1, 21)]
    lines[9] = "(00.1) Error (x.c:1): no"
    (tmp_path / "dump.log").write_text("\n".join(lines))
    assert quote_log(str(tmp_path / "dump.log")) == ["7:line 7", "8:line 8", "9:line 9", "10:(00.1) Error (x.c:1): no"]
    assert quote_log(str(tmp_path / "none")) == []
