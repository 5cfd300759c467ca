"""`kist network inspect`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="network inspect",
    usage=("[--format TEMPLATE] NETWORK [NETWORK...]",),
    summary="Tell all about networks and who is in them, as JSON in docker's form",
    groups=(("Flags", (Flag("format", "one", "FORMAT", "json, or a Go template: '{{.Id}}'", words.plain, "f"),)),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.codec import dumps
    from kist.faces.cli.networks import states
    from kist.network.manage import described, find

    format, where = parsed.last("format"), states()
    documents = [described(*find(where, name)) for name in parsed.arguments]
    if format in ("", "json"):
        print(dumps(documents, indent=4) if not format else dumps(documents))
        return 0
    from kist.faces.cli.template import compile_template

    render = compile_template(format)
    for document in documents:
        print(render(document))
    return 0
