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
    from kist.faces.cli.columns import print_documents
    from kist.faces.cli.networks import states
    from kist.network.manage import described, find

    format, where = parsed.last("format"), states()
    documents = [described(*find(where, name)) for name in parsed.arguments]
    print_documents(documents, format)
    return 0
