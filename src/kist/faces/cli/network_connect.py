"""`kist network connect`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed

COMMAND = Command(
    name="network connect",
    usage=("[FLAG...] NETWORK CONTAINER",),
    summary="Put a container into one more network, also while it runs",
    groups=(
        (
            "Flags",
            (
                Flag("alias", "many", "NAME", "Another name for it in that network", values.hostname),
                Flag("ip", "one", "IP", "Its IPv4 address", values.ipv4),
                Flag("ip6", "one", "IP", "Its IPv6 address", values.ipv6),
                Flag("mac-address", "one", "MAC", "Its MAC address", values.mac_address),
            ),
        ),
    ),
    least=2,
    most=2,
)


def asked(parsed: Parsed) -> tuple[bytes, bytes, bytes, tuple[str, ...]]:
    """Addresses of IPv4 and IPv6, a MAC, aliases."""
    given = parsed.given
    ip = values.ipv4("--ip", given["ip"][-1]) if "ip" in given else b""
    ip6 = values.ipv6("--ip6", given["ip6"][-1]) if "ip6" in given else b""
    mac = values.mac_address("--mac-address", given["mac-address"][-1]) if "mac-address" in given else b""
    return ip, ip6, mac, tuple([values.hostname("--alias", text) for text in given.get("alias", ())])


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    network, name = parsed.arguments
    ip, ip6, mac, aliases = asked(parsed)
    import sys

    from kist.engine.connect import connect
    from kist.engine.containers import Containers

    containers = Containers()
    notes = connect(containers, containers.find(name), network, ip=ip, ip6=ip6, mac=mac, aliases=aliases)
    for note in notes:
        print(f"kist: {note}", file=sys.stderr)
    return 0
