"""`kist network rm`."""

from __future__ import annotations

from kist.errors import NotFound
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="network rm",
    usage=("NETWORK [NETWORK...]",),
    summary="Remove networks that no container is in; 'bridge' comes back when it is wanted",
    groups=(("Flags", (Flag("force", "bool", "", "No error when there is no such network", words.boolean, "f"),)),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    force = words.boolean("--force", parsed.last("force", "false"))
    from kist.faces.cli.networks import states
    from kist.network.manage import remove

    where = states()
    for name in parsed.arguments:
        try:
            remove(where, name)
        except NotFound:
            if not force:
                raise
        else:
            print(name)
    return 0
