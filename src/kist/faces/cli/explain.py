"""`kist explain`: what `kist run` would do, as steps."""

import sys

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.flags import RUN_GROUPS, RUN_NOTES
from kist.faces.cli.parse import parse
from kist.faces.cli.request import run_request, this_process
from kist.plan import words

_FORMATS = ("text", "json", "script")

COMMAND = Command(
    name="explain",
    usage=("[FLAG...] IMAGE [COMMAND [ARGUMENT...]]", "[FLAG...] --rootfs DIR [COMMAND [ARGUMENT...]]"),
    summary="Show the kernel steps that 'kist run' with the same arguments would take, without taking them",
    groups=(
        (
            "Explaining",
            (
                Flag("format", "one", "FORMAT", "text (for people), json, or script (for sh)", words.choice(*_FORMATS)),
                Flag("script", "bool", "", "Short for --format script", words.boolean),
                Flag("step", "one", "NUMBER", "Only this step", words.number(0, 1 << 16)),
            ),
        ),
        *RUN_GROUPS,
    ),
    notes=RUN_NOTES,
    examples=(
        ("kist explain --rm --memory 64m host sh", "every step, why, and its man page"),
        ("kist explain --script host id > by-hand.sh", "the same as a shell script"),
        ("kist explain --without pidns host ps", "what would be missing"),
    ),
    command_follows=True,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    format = words.choice(*_FORMATS)("--format", parsed.last("format", "text"))
    if words.boolean("--script", parsed.last("script", "false")):
        if format == "json":
            raise InvalidInput("it contradicts --format json", path="--script", next="write one or the other")
        format = "script"
    step = words.number(0, 1 << 16)("--step", parsed.last("step")) if "step" in parsed.given else None
    request = run_request(parsed.given, parsed.arguments, this_process())
    from kist.engine.explain import explain
    from kist.faces.cli.terminal import colours, columns

    colour = colours() and format == "text"
    text = explain(request, format=format, step=step, colour=colour, width=columns())
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return 0
