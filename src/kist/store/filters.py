"""Docker's filters for images: labels and dates. Source: docker image prune --filter, docker images --filter."""

from __future__ import annotations

import time

from kist.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def has_label(labels: Mapping[str, str], text: str) -> bool:
    """`KEY` or `KEY=VALUE`."""
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)


def created_before(created: str, until: str) -> bool:
    """Whether an image of that date, RFC 3339, is older than `until`: a date, seconds since 1970, or a time ago in Go's
    words (`24h`, `1h30m`). An image without a date is as old as can be. Raises InvalidInput for another text."""
    return timestamp(created) < instant(until)


def timestamp(text: str) -> float:
    """Seconds since 1970 of a date as configs have it, 0 for none."""
    from datetime import UTC, datetime

    try:
        found = datetime.fromisoformat(_fraction_of_six(text))
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _fraction_of_six(text: str) -> str:
    """Go writes up to nine digits of a second, Python takes six."""
    head, dot, tail = text.partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"{head}{dot}{digits[:6].ljust(6, '0')}{tail[len(digits) :]}" if dot else text


def instant(text: str) -> float:
    """Seconds since 1970. Raises InvalidInput."""
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    ago = _duration_s(text)
    if ago is not None:
        return time.time() - ago
    if text[:1].isdigit() and (found := timestamp(text)):
        return found
    raise InvalidInput(f"cannot use {text[:60]!r}", path="until", next="a date, seconds since 1970, or 24h, 1h30m")


def _duration_s(text: str) -> float | None:
    """Go's time.ParseDuration."""
    total, rest = 0.0, text
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        unit = rest[len(number) :][: len(rest) - len(number) - len(rest[len(number) :].lstrip("hmsun"))]
        if unit not in _UNITS_S or number.count(".") > 1 or not number.strip("."):
            return None
        total += float(number) * _UNITS_S[unit]
        rest = rest[len(number) + len(unit) :]
    return total if text else None
