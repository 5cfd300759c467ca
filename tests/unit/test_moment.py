"""--since and --until."""

import pytest

from kist.errors import InvalidInput
from kist.plan.moment import moment, stamp


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1136073600", 1136073600 * 10**9), ("1136073600.000000001", 1136073600 * 10**9 + 1),
     ("1970-01-01T00:00:01.5Z", 1_500_000_000), ("1970-01-01T01:00:00.000000002+01:00", 2),
     ("90m", 10**15 - 5400 * 10**9), ("1s", 10**15 - 10**9)],
)  # fmt: skip
def test_moments(text, expected):
    assert moment("--since", text, 10**15) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-11-26T11:37:29.Z", "1 h", "-"])
def test_no_moments(text):
    with pytest.raises(InvalidInput, match="--since"):
        moment("--since", text, 0)


def test_a_stamp_is_as_the_records_have_it():
    assert stamp(1_500_000_000) == "1970-01-01T00:00:01.500000000Z"
