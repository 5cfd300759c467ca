"""Published ports as people ask for them: --publish, --expose. Pure."""

from __future__ import annotations

from kist.plan.ports import PROTOCOLS
from kist.plan.request import Publish
from kist.plan.words import bad

_EXAMPLE = "-p 8080:80, -p 127.0.0.1:8080:80/udp, -p 80"


def publish(flag: str, text: str) -> Publish:
    """`[HOST_IP:][HOST_PORT[-LAST]:]PORT[-LAST][/PROTOCOL]`; an IPv6 address in brackets."""
    rest, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise bad(flag, text, f"{protocol!r} is none of {', '.join(PROTOCOLS)}", _EXAMPLE)
    address = b""
    if rest.startswith("["):
        words, closing, rest = rest[1:].partition("]:")
        if not closing:
            raise bad(flag, text, "the address in brackets needs ']:' and a port behind it", _EXAMPLE)
        address = _address(flag, text, words, 6)
    parts = rest.split(":")
    if len(parts) == 3 and not address:
        address = _address(flag, text, parts[0], 4) if parts[0] else b""
        parts = parts[1:]
    if len(parts) > 2:
        raise bad(flag, text, "it has too many colons", _EXAMPLE)
    first, last = _range(flag, text, parts[-1])
    host_first, host_last = (0, 0) if len(parts) == 1 or not parts[0] else _range(flag, text, parts[0])
    if host_first and last > first and host_last - host_first != last - first:
        raise bad(flag, text, "the ranges of ports differ in length", _EXAMPLE)
    return Publish(protocol, first, last, address, host_first, host_last)


def expose(flag: str, text: str) -> Publish:
    """`PORT[-LAST][/PROTOCOL]`"""
    if ":" in text:
        raise bad(flag, text, "it names ports of the container only", f"{flag} 80/tcp, and -P or -p for the host's")
    return publish(flag, text)


def _range(flag: str, text: str, words: str) -> tuple[int, int]:
    low, dash, high = words.partition("-")
    numbers = [low, high] if dash else [low, low]
    if not all(n.isascii() and n.isdigit() and 0 < int(n[:6]) < 65536 for n in numbers) or int(low) > int(numbers[1]):
        raise bad(flag, text, "a port is a number from 1 to 65535, or two with '-' between them", _EXAMPLE)
    return int(low), int(numbers[1])


def _address(flag: str, text: str, words: str, version: int) -> bytes:
    from ipaddress import ip_address

    try:
        found = ip_address(words)
    except ValueError:
        found = None
    if found is None or found.version != version:
        raise bad(flag, text, f"{words!r} is not an IPv{version} address", _EXAMPLE)
    return found.packed
