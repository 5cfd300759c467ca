"""`kist restart`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse
from kist.faces.cli.stop import SIGNAL, TIME, value

COMMAND = Command(
    name="restart",
    usage=("[FLAG...] CONTAINER [CONTAINER...]",),
    summary="Stop containers, and start them again",
    groups=(("Flags", (TIME, SIGNAL)),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    seconds, signal = value(TIME, parsed.last("timeout")), value(SIGNAL, parsed.last("signal"))
    from kist.engine.stop import restart
    from kist.faces.cli.each import each

    return each(parsed.arguments, lambda containers, container: restart(containers, container, seconds, signal))
