"""`kist doctor`."""

from kist.faces.cli.flags import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="doctor",
    usage=("",),
    summary="Say what this host allows, what is missing, why it matters and how to fix it",
)


def main(argv: list[str]) -> int:
    parse(COMMAND, argv)
    from kist.engine.doctor import examine, render

    print(render(examine()))
    return 0
