"""What a container may reach, as people write it and as the launcher's relay takes it: --allow-net. Pure.

pypi.org             the name, at the ports 80 and 443: TLS for that name, or HTTP
*.pythonhosted.org   all names below it
pypi.org:8443        at another port; 8000-8100: at several; *: at any
github.com:22/tcp    whatever is said inside: only the address is what the name leads to
10.1.0.0/16:5432     addresses, at the ports 80 and 443 when none is written; [fd00::1]:443
"""

from __future__ import annotations

from kist.plan.request import AllowRule
from kist.plan.words import bad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_EXAMPLE = '--allow-net "pypi.org:443, *.pythonhosted.org, 10.1.0.0/16:5432"'
_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
DEFAULT_PORTS = ((80, 80), (443, 443))
MOST_RULES = 256  # policy.h


def allow_net(flag: str, text: str) -> tuple[AllowRule, ...]:
    """Rules with commas between them. Raises InvalidInput."""
    return tuple(rule for word in text.split(",") if word.strip() for rule in _rules(flag, word.strip()))


def _rules(flag: str, word: str) -> list[AllowRule]:
    rest, plain = word.removesuffix("/tcp"), word.endswith("/tcp")
    address: tuple[bytes, int] | None
    if rest.startswith("["):
        what, closing, port = rest[1:].partition("]")
        if not closing or (port and not port.startswith(":")):
            raise bad(flag, word, "an address in brackets ends with ']', or ']:PORT'", _EXAMPLE)
        port = port[1:]
        address = _address(flag, word, what)
    elif rest.count(":") > 1:
        what, port, address = rest, "", _address(flag, word, rest)
    else:
        what, colon, port = rest.partition(":")
        if colon and not port:
            raise bad(flag, word, "the port is missing", _EXAMPLE)
        address = _address(flag, word, what) if what[:1].isdigit() and set(what) <= set("0123456789./") else None
    ranges = _ports(flag, word, port) if port else DEFAULT_PORTS
    if address:
        if plain:
            raise bad(flag, word, "/tcp is for names: at an address nothing is looked into", _EXAMPLE)
        return [AllowRule("", *address, first, last) for first, last in ranges]
    return [AllowRule(_pattern(flag, word, what), b"", 0, first, last, plain) for first, last in ranges]


def _pattern(flag: str, word: str, text: str) -> str:
    name = text.lower().removesuffix(".")
    rest = name.removeprefix("*") if name == "*" or name.startswith("*.") else f".{name}"
    labels = rest.split(".")[1:]
    if not (set(rest) <= _NAME and len(name) < 254 and all(0 < len(label) < 64 for label in labels)):
        raise bad(flag, word, "this is neither a name, nor *.NAME, nor an address", _EXAMPLE)
    return name


def _address(flag: str, word: str, text: str) -> tuple[bytes, int]:
    from ipaddress import ip_network

    try:
        found = ip_network(text)
    except ValueError as e:
        raise bad(flag, word, str(e), _EXAMPLE) from e
    if found.is_loopback:
        raise bad(flag, word, "a loopback address is the container's own", "an address of the host's")
    return found.network_address.packed, found.prefixlen


def _ports(flag: str, word: str, text: str) -> tuple[tuple[int, int], ...]:
    if text == "*":
        return ((1, 65535),)
    low, dash, high = text.partition("-")
    numbers = (low, high if dash else low)
    if not all(n.isascii() and n.isdigit() and len(n) < 6 and 0 < int(n) < 65536 for n in numbers):
        raise bad(flag, word, "a port is a number from 1 to 65535, two with '-' between them, or *", _EXAMPLE)
    first, last = map(int, numbers)
    if first > last:
        raise bad(flag, word, "the range of ports is empty", _EXAMPLE)
    return ((first, last),)


def words(rule: AllowRule) -> str:
    """As a person would write it."""
    from kist.plan.rtnetlink import address_text

    what = rule.pattern
    if rule.address:
        what = address_text(rule.address)
        what += f"/{rule.prefix}" if rule.prefix < len(rule.address) * 8 else ""
        what = f"[{what}]" if len(rule.address) == 16 else what
    ports = f"{rule.first}-{rule.last}" if rule.last > rule.first else str(rule.first)
    return f"{what}:{'*' if (rule.first, rule.last) == (1, 65535) else ports}{'/tcp' if rule.plain else ''}"


def encoded(rules: Iterable[AllowRule]) -> tuple[str, ...]:
    """As launcher/policy.c reads it: IPv4 addresses as ::ffff:1.2.3.4."""
    found = []
    for r in rules:
        if r.address:
            base = r.address if len(r.address) == 16 else bytes(10) + b"\xff\xff" + r.address
            found.append(f"a {r.first} {r.last} {r.prefix + 128 - len(r.address) * 8} {base.hex()}")
        else:
            found.append(f"n {r.first} {r.last} {int(r.plain)} {r.pattern}")
    return tuple(found)
