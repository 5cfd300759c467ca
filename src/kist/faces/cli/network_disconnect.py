"""`kist network disconnect`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="network disconnect",
    usage=("[--force] NETWORK CONTAINER",),
    summary="Take a container out of a network, also while it runs",
    groups=(("Flags", (Flag("force", "bool", "", "Also when its cable can't be removed", words.boolean, "f"),)),),
    least=2,
    most=2,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    network, name = parsed.arguments
    force = words.boolean("--force", parsed.last("force", "false"))
    import sys

    from kist.engine.connect import disconnect
    from kist.engine.containers import Containers

    containers = Containers()
    for note in disconnect(containers, containers.find(name), network, force=force):
        print(f"kist: {note}", file=sys.stderr)
    return 0
