"""`kist container inspect`."""

from kist.faces.cli.command import Command
from kist.faces.cli.inspect import COMMAND as INSPECT
from kist.faces.cli.inspect import show

COMMAND = Command(
    name="container inspect",
    usage=("[FLAG...] CONTAINER [CONTAINER...]",),
    summary="Tell all about containers, as JSON in docker's form",
    groups=tuple((heading, tuple(flag for flag in flags if flag.name != "type")) for heading, flags in INSPECT.groups),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    return show(COMMAND, argv, "container")
