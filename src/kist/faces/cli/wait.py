"""`kist wait`."""

import sys

from kist.errors import KistError
from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="wait",
    usage=("CONTAINER [CONTAINER...]",),
    summary="Wait until containers have ended, and print their exit status",
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.containers import Containers
    from kist.engine.stop import wait_end

    containers, status = Containers(), 0
    for name in parsed.arguments:
        try:
            print(wait_end(containers.find(name)), flush=True)
        except KistError as e:
            print(f"kist: {e}", file=sys.stderr)
            status = 1
    return status
