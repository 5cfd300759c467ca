"""Keys that are looked for in what is typed, in whatever pieces it comes."""

from itertools import product

import pytest

from kist.plan.detach_keys import DetachKeys


def typed(keys: bytes, pieces: list[bytes]) -> tuple[bytes, bool]:
    detach, out = DetachKeys(keys), b""
    for piece in pieces:
        out += detach.pass_on(piece)
        if detach.found:
            break
    return out, detach.found


@pytest.mark.parametrize("text", [bytes(t) for n in range(1, 6) for t in product(b"pqx", repeat=n)])
def test_the_keys_and_nothing_else_leave(text):
    """However the text is cut; a beginning that is held back at the end is not known to be none."""
    at = text.find(b"pq")
    expected = (text[:at], True) if at >= 0 else (text[:-1] if text.endswith(b"p") else text, False)
    for cut in range(len(text) + 1):
        assert typed(b"pq", [text[:cut], text[cut:]]) == expected
    assert typed(b"pq", [bytes((byte,)) for byte in text]) == expected


def test_no_keys_take_nothing_away():
    assert typed(b"", [b"\x10\x11"]) == (b"\x10\x11", False)
