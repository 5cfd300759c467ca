"""`kist stop`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import values, words

TIME = Flag("timeout", "one", "SECONDS", "Time to end before it is killed; -1: for ever (its own, or 10)",
            words.number(0, 2**31, unlimited=True), "t", alias="time")  # fmt: skip
SIGNAL = Flag("signal", "one", "SIGNAL", "Signal that asks it to end (its own, or SIGTERM)", values.signal_number, "s")

COMMAND = Command(
    name="stop",
    usage=("[FLAG...] CONTAINER [CONTAINER...]",),
    summary="Ask containers to end, and kill those that do not",
    groups=(("Flags", (TIME, SIGNAL)),),
    examples=(("kist stop $(kist ps -q)", "all that run"),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    seconds, signal = value(TIME, parsed.last("timeout")), value(SIGNAL, parsed.last("signal"))
    from kist.engine.stop import stop
    from kist.faces.cli.each import each

    return each(parsed.arguments, lambda _, container: stop(container, seconds, signal), waits=True)


def value(flag: Flag, text: str) -> int | None:
    """What a flag of one number says; None when it is not there."""
    if not text:
        return None
    assert flag.parse
    number = flag.parse(f"--{flag.name}", text)
    return number if isinstance(number, int) else None
