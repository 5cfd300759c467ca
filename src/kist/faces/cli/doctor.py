"""`kist doctor`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

_FORMAT = words.choice("table", "json")

COMMAND = Command(
    name="doctor",
    usage=("[--format FORMAT]",),
    summary="Say what this host allows, what is missing, why it matters and how to fix it",
    groups=(("Flags", (Flag("format", "one", "FORMAT", "table (for people) or json", _FORMAT),)),),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    format = _FORMAT("--format", parsed.last("format", "table"))
    from kist.engine.doctor import able, examine, render
    from kist.faces.cli.terminal import colours, columns

    findings = examine()
    if format == "json":
        from kist.codec import dumps

        print(dumps(findings, indent=2))
    else:
        print(render(findings, width=columns(), colour=colours()))
    return 0 if able(findings) else 1
