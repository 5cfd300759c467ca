"""`kist healthcheck run`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="healthcheck run",
    usage=("CONTAINER",),
    summary="Check a container's health now: the exit status is 0 when it is well, and 1 when not",
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.containers import Containers
    from kist.engine.health import check

    found = check(Containers().find(parsed.arguments[0]))
    last = found.checks[-1]
    if last.code:
        print(found.status)
    return int(last.code != 0)
