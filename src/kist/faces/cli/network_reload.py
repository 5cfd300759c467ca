"""`kist network reload`."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="network reload",
    usage=("CONTAINER [CONTAINER...]", "--all"),
    summary="Make anew what the host knows of containers' networks, when another firewall was reloaded",
    groups=(("Flags", (Flag("all", "bool", "", "Of all containers that run", words.boolean, "a"),)),),
    examples=(("firewall-cmd --reload && kist network reload --all", "published ports and the way out work again"),),
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    all = words.boolean("--all", parsed.last("all", "false"))
    if all == bool(parsed.arguments):
        raise InvalidInput("either containers or all of them", path="--all", next="kist network reload --all")
    import sys

    from kist.engine.containers import Containers
    from kist.network.manage import reload

    containers = Containers()
    ids = {containers.find(name).id for name in parsed.arguments}
    done, notes = reload(containers.states, lambda holder: all or holder.container in ids)
    for note in notes:
        print(f"kist: {note}", file=sys.stderr)
    for id in done:
        print(id)
    return 0
