"""`kist volume rm`."""

import sys

from kist.errors import KistError, NotFound
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="volume rm",
    usage=("[--force] VOLUME [VOLUME...]",),
    summary="Remove volumes with all that is in them; one that a container has, running or not, stays",
    groups=(("Flags", (Flag("force", "bool", "", "A missing one is fine", words.boolean, "f"),)),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    force = words.boolean("--force", parsed.last("force", "false"))
    from kist.engine.volumes import remove_volume
    from kist.faces.cli.volumes import everything

    containers, volumes = everything()
    status = 0
    for name in parsed.arguments:
        try:
            remove_volume(containers, volumes.find(name).name if not force else name)
        except NotFound as e:
            if not force:
                print(f"kist: {e}", file=sys.stderr)
                status = 1
                continue
        except KistError as e:
            print(f"kist: {e}", file=sys.stderr)
            status = 1
            continue
        print(name)
    return status
