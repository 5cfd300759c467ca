"""WWW-Authenticate: what a registry wants of a client. Pure. Source: RFC 9110, 11.6.1; distribution's token.md."""

from __future__ import annotations

from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 16 << 10
_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Challenge(Value):
    """`scheme` in lower case, as are the names of the parameters."""

    scheme: str
    parameters: dict[str, str] = {}


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All that can be read; the rest of a header that is malformed is passed over."""
    found = []
    for header in headers:
        found.extend(_Reader(header[:_MOST]).challenges())
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def challenges(self) -> list[Challenge]:
        found: list[Challenge] = []
        while True:
            self._skip(" \t,")
            word = self._token()
            if not word:
                return found
            mark = self._at
            self._skip(" \t")
            if found and self._peek() == "=" and self._text[self._at : self._at + 2] != "==":
                self._at += 1
                self._skip(" \t")
                value = self._value()
                if value is None:
                    return found
                found[-1].parameters.setdefault(word.lower(), value)
            else:
                self._at = mark
                found.append(Challenge(word.lower(), {}))
                self._skip(" \t")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, chars: str) -> None:
        while self._peek() and self._peek() in chars:
            self._at += 1

    def _token(self) -> str:
        start = self._at
        while self._peek() and self._peek() in _TOKEN:
            self._at += 1
        return self._text[start : self._at]

    def _value(self) -> str | None:
        if self._peek() != '"':
            return self._token()
        self._at += 1
        out: list[str] = []
        while True:
            char = self._peek()
            self._at += 1
            if not char:
                return None
            if char == '"':
                return "".join(out)
            if char == "\\":
                char = self._peek()
                self._at += 1
            out.append(char)
