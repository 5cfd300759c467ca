"""`kist unpause`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="unpause",
    usage=("CONTAINER [CONTAINER...]",),
    summary="Let paused containers go on",
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.pause import unpause
    from kist.faces.cli.each import each

    return each(parsed.arguments, lambda _, container: unpause(container))
