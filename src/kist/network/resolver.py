"""What a container in a network of its own has in /etc/resolv.conf. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def resolver_lines(asked: Iterable[str], host: Iterable[str], behind: Iterable[str]) -> list[str]:
    """What was asked for (--dns and so on), and of each kind that was not, what the host has.

    A name server on the host's loopback cannot be reached from inside: then those of `behind`, which systemd-resolved
    asks itself. Source: moby libnetwork/internal/resolvconf.
    """
    lines = list(asked)
    servers = _reachable(host) or _reachable(behind)
    if not _of(lines, "nameserver"):
        lines += servers
    for keyword in ("search", "options"):
        if not _of(lines, keyword):
            lines += _of(host, keyword)[-1:]
    return lines


def own_server(lines: Iterable[str]) -> list[str]:
    """With the container's own name server (plan.steps.Resolve), which asks the others itself; names of containers have
    no dots, and are asked for first. Source: moby libnetwork."""
    rest = [line for line in lines if line.split()[:1] != ["nameserver"]]
    options = _of(rest, "options")
    rest = [line for line in rest if line not in options]
    words = " ".join(" ".join(line.split()[1:]) for line in options)
    ndots = "" if "ndots:" in words else "ndots:0"
    return ["nameserver 127.0.0.11", *rest, f"options {words} {ndots}".replace("  ", " ").rstrip()]


def servers(lines: Iterable[str]) -> tuple[str, ...]:
    """The name servers that the supervisor asks, in hexadecimal digits: those on the host's loopback too."""
    from ipaddress import ip_address

    found = []
    for line in _of(lines, "nameserver"):
        try:
            found.append(ip_address(line.split()[1]).packed.hex())
        except (ValueError, IndexError):
            continue
    return tuple(found[:3])


def _of(lines: Iterable[str], keyword: str) -> list[str]:
    return [line for line in lines if line.split()[:1] == [keyword]]


def _reachable(lines: Iterable[str]) -> list[str]:
    found = [line for line in _of(lines, "nameserver") if len(line.split()) > 1]
    return [line for line in found if not line.split()[1].startswith(("127.", "::1", "fe80:"))]
