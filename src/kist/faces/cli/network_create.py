"""`kist network create`."""

from __future__ import annotations

import sys

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import values, words

COMMAND = Command(
    name="network create",
    usage=("[FLAG...] NETWORK",),
    summary="Make a network: a bridge, with which containers in it reach each other, the host and the world",
    groups=(
        (
            "Flags",
            (
                Flag("driver", "one", "DRIVER", "bridge; or macvlan, on the wire of an interface of the host's",
                     words.choice("bridge", "macvlan"), "d"),
                Flag("subnet", "many", "SUBNET", "Its addresses: 10.1.0.0/24; one of IPv4, one of IPv6", words.plain),
                Flag("gateway", "many", "IP", "The host's own of them (the first)", words.plain),
                Flag("ip-range", "many", "SUBNET", "Those of them that are given to containers", words.plain),
                Flag("ipv6", "bool", "", "Addresses of IPv6 too", words.boolean),
                Flag("internal", "bool", "", "No way to the world, or to other networks", words.boolean),
                Flag("opt", "map", "KEY=VALUE",
                     "com.docker.network.driver.mtu, com.docker.network.bridge.name; parent, macvlan_mode",
                     values.label, "o"),
                Flag("label", "map", "KEY[=VALUE]", "Note something about it", values.label),
                Flag("attachable", "bool", "", "Of no meaning here: all networks are", words.boolean),
            ),
        ),
    ),
    examples=(
        ("kist network create web", "and then: kist run --network web ..."),
        ("kist network create -d macvlan -o parent=eth0 --subnet 192.168.1.0/24 lan", "as if plugged in there"),
        ("kist network create --internal --subnet 10.9.0.0/24 back", "nothing leaves it"),
    ),
    least=1,
    most=1,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    given = {name: tuple(texts) for name, texts in parsed.given.items()}
    from kist.faces.cli.networks import states
    from kist.network.manage import NetworkRequest, create

    request = NetworkRequest(
        name=values.container_name("NETWORK", parsed.arguments[0]),
        driver=words.choice("bridge", "macvlan")("--driver", parsed.last("driver", "bridge")),
        subnets=given.get("subnet", ()), gateways=given.get("gateway", ()), ip_ranges=given.get("ip-range", ()),
        internal=words.boolean("--internal", parsed.last("internal", "false")),
        ipv6=words.boolean("--ipv6", parsed.last("ipv6", "false")),
        options=dict(values.label("--opt", text) for text in given.get("opt", ())),
        labels=dict(values.label("--label", text) for text in given.get("label", ())),
    )  # fmt: skip
    network, notes = create(states(), request)
    for note in notes:
        print(f"kist: {note}", file=sys.stderr)
    print(network.id)
    return 0
