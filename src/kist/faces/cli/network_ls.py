"""`kist network ls`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

HEADS = {
    "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv6": "IPV6", "Internal": "INTERNAL",
    "Labels": "LABELS", "CreatedAt": "CREATED AT",
}  # fmt: skip
_FILTERS = ("name", "id", "driver", "label", "scope", "type", "dangling")

COMMAND = Command(
    name="network ls",
    usage=("[FLAG...]",),
    summary="List the networks. 'bridge' is made on first use; 'host' and 'none' are always there",
    groups=(
        (
            "Flags",
            (
                Flag("filter", "many", "KEY=VALUE", f"Only those: {', '.join(_FILTERS)}", words.plain, "f"),
                Flag("format", "one", "FORMAT", "table, json, or a Go template: '{{.ID}} {{.Name}}'", words.plain),
                Flag("no-trunc", "bool", "", "Whole ids", words.boolean),
                Flag("quiet", "bool", "", "Only the ids", words.boolean, "q"),
            ),
        ),
    ),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    quiet, whole = (words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("quiet", "no-trunc"))
    from kist.faces.cli.columns import print_rows
    from kist.faces.cli.images import filters
    from kist.faces.cli.networks import passes, states
    from kist.network.manage import everything
    from kist.network.network import Network

    asked = filters(parsed.given.get("filter", ()), _FILTERS)
    found = everything(states())
    found += [
        (Network(name=n, id="", bridge="", subnets=(), driver=d), []) for n, d in (("host", "host"), ("none", "null"))
    ]
    rows = []
    for network, holders in sorted(found, key=lambda pair: pair[0].name):
        if passes(network, asked, in_use=bool(holders) or not network.bridge):
            rows.append(
                {
                    "ID": (network.id if whole else network.id[:12]) or network.name, "Name": network.name,
                    "Driver": network.driver, "Scope": "local",
                    "IPv6": str(network.subnet(6) is not None).lower(), "Internal": str(network.internal).lower(),
                    "Labels": ",".join(f"{k}={v}" for k, v in network.labels.items()), "CreatedAt": network.created,
                }
            )  # fmt: skip
    if quiet:
        print("".join([f"{row['ID']}\n" for row in rows]), end="")
    else:
        print_rows(rows, HEADS, ["ID", "Name", "Driver", "Scope"], parsed.last("format"))
    return 0
