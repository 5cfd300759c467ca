"""`kist pause`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="pause",
    usage=("CONTAINER [CONTAINER...]",),
    summary="Let all processes of containers stand still",
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.pause import pause
    from kist.faces.cli.each import each

    return each(parsed.arguments, lambda _, container: pause(container))
