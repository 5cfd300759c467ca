"""Words that a person typed, and the errors about them: what every command line needs. Pure.

Each function takes the flag's name, for its errors, and the text. Numbers are ASCII digits: Python's int() would take
"1_000", " 5" and digits of other scripts.
"""

from __future__ import annotations

from kist.errors import InvalidInput, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

UNLIMITED = -1
DIGITS = frozenset("0123456789")


def show(text: str) -> str:
    """A value for an error message: on one line, printable, not too long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def bad(flag: str, text: str, why: str, write: str) -> InvalidInput:
    return InvalidInput(f"cannot use {show(text)}", path=flag, why=why, next=f"write {write}")


def later(flag: str, text: str, why: str, instead: str) -> Unsupported:
    return Unsupported(f"{flag}: cannot use {show(text)} yet", why=why, next=instead)


def nearest(word: str, words: Iterable[str]) -> str:
    """The most similar of `words`, or ""."""
    from difflib import get_close_matches  # only on the way to an error

    return next(iter(get_close_matches(word[:64], list(words), 1)), "")


def plain(flag: str, text: str) -> str:
    """Any text that can be an argument of execve(2) and UTF-8."""
    if "\0" in text:
        raise bad(flag, text, "a NUL byte would end it", "it without")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise bad(flag, text, "it is not valid UTF-8", "it in UTF-8")
    return text


def choice(*words: str) -> Callable[[str, str], str]:
    """One word of a closed list."""

    def parse(flag: str, text: str) -> str:
        if text not in words:
            raise bad(flag, text, "it is none of the possible values", f"one of: {', '.join(w for w in words if w)}")
        return text

    return parse


def members(path: str, text: str) -> int:
    """The numbers in "0-3,5" as bits, cpuset(7)'s list format. Raises InvalidInput."""
    bits, parts = 0, text.split(",") if len(text) < 1 << 16 else ("",)
    for part in parts:
        low, dash, high = part.strip().partition("-")
        ends = (low, high if dash else low)
        if not all(e and len(e) < 6 and DIGITS.issuperset(e) for e in ends) or int(ends[0]) > int(ends[1]):
            raise InvalidInput(f"{show(text)} is no list of numbers and ranges like 0-3,5", path=path)
        bits |= (1 << int(ends[1]) + 1) - (1 << int(ends[0]))
    return bits


def boolean(flag: str, text: str) -> bool:
    """Go's strconv.ParseBool."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise bad(flag, text, "it is neither true nor false", f"{flag}=true or {flag}=false")


def integer(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("-", "+") else text
    return int(text) if digits and len(digits) <= 20 and DIGITS.issuperset(digits) else None


def number(
    low: int, high: int, *, unset: int | None = None, unlimited: bool = False
) -> Callable[[str, str], int | None]:
    """A whole number from low to high. `unset` is Docker's word for "not asked for", -1 for "no limit"."""

    def parse(flag: str, text: str) -> int | None:
        value = integer(text)
        if value is None:
            raise bad(flag, text, "it is not a whole number", f"a number from {low} to {high}")
        if value == unset:
            return None
        if unlimited and value == UNLIMITED:
            return UNLIMITED
        if not low <= value <= high:
            also = ", or -1 for no limit" if unlimited else ""
            raise bad(flag, text, f"it is not between {low} and {high}", f"a number in that range{also}")
        return value

    return parse
