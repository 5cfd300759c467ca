"""`kist kill`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import values

COMMAND = Command(
    name="kill",
    usage=("[--signal SIGNAL] CONTAINER [CONTAINER...]",),
    summary="Send a signal to the first process of containers",
    groups=(("Flags", (Flag("signal", "one", "SIGNAL", "Which (SIGKILL)", values.signal_number, "s"),)),),
    examples=(("kist kill -s HUP web", "most servers read their settings again"),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    signal = values.signal_number("--signal", parsed.last("signal", "KILL"))
    from kist.engine.stop import kill
    from kist.faces.cli.each import each

    return each(parsed.arguments, lambda _, container: kill(container, signal))
