"""`kist network prune`."""

from __future__ import annotations

import sys

from kist.errors import Refused
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

_FILTERS = ("until", "label", "label!")

COMMAND = Command(
    name="network prune",
    usage=("[FLAG...]",),
    summary="Remove the networks that no container is in; 'bridge' stays",
    groups=(
        (
            "Flags",
            (
                Flag(
                    "filter", "many", "KEY=VALUE", "Only those: until=24h, label=KEY[=VALUE], label!=...", words.plain
                ),
                Flag("force", "bool", "", "Do not ask", words.boolean, "f"),
            ),
        ),
    ),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.faces.cli.images import filters
    from kist.faces.cli.networks import passes, states
    from kist.network.manage import prune

    asked = filters(parsed.given.get("filter", ()), _FILTERS)
    if not words.boolean("--force", parsed.last("force", "false")) and not _agreed():
        return 1
    removed = prune(states(), lambda network: passes(network, asked))
    if removed:
        print("Deleted Networks:", *(network.name for network in removed), sep="\n")
    return 0


def _agreed() -> bool:
    what = "every network that no container is in"
    if not sys.stdin.isatty():
        raise Refused(f"this would remove {what}", why="there is no terminal to ask at", next="write --force")
    print(f"This removes {what}. Go on? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
