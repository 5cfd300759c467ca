"""A point in time as docker's --since and --until take it. Pure."""

from __future__ import annotations

from kist.plan.values import seconds
from kist.plan.words import DIGITS, bad

_WRITE = "a time such as 2026-11-26T11:37:29Z, seconds since 1970, or how long ago: 10m, 1h30m"


def moment(flag: str, text: str, now_ns: int) -> int:
    """In nanoseconds since 1970. Dates without a zone are local, as in docker. Raises InvalidInput."""
    whole, _, fraction = text.partition(".")
    if whole and DIGITS.issuperset(whole) and DIGITS.issuperset(fraction) and len(whole) <= 12:
        return int(whole) * 10**9 + int((fraction + "0" * 9)[:9])
    if len(text) >= 10 and text[4:5] == "-":
        return _date(flag, text)
    return now_ns - int(seconds(flag, text) * 1e9)


def _date(flag: str, text: str) -> int:
    from datetime import UTC, datetime

    head, dot, tail = text.partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    zone = tail[len(digits) :]
    if dot and not digits:
        raise bad(flag, text, "digits are missing after the point", _WRITE)
    try:
        found = datetime.fromisoformat(head + zone)
    except ValueError as e:
        raise bad(flag, text, "it is not a time", _WRITE) from e
    since = found.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * 10**9 + int((digits + "0" * 9)[:9])


def stamp(moment_ns: int) -> str:
    """As a log's records have it: 30 characters."""
    import time

    seconds_, ns = divmod(max(moment_ns, 0), 10**9)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{ns:09}Z", time.gmtime(seconds_))
