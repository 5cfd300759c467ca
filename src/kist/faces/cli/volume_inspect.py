"""`kist volume inspect`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="volume inspect",
    usage=("[--format TEMPLATE] VOLUME [VOLUME...]",),
    summary="Tell all about volumes, as JSON in docker's form",
    groups=(
        ("Flags", (Flag("format", "one", "FORMAT", "json, or a Go template: '{{.Mountpoint}}'", words.plain, "f"),)),
    ),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.faces.cli.columns import print_documents
    from kist.faces.cli.volumes import described, everything

    _, volumes = everything()
    documents = [described(volumes, volumes.find(name)) for name in parsed.arguments]
    print_documents(documents, parsed.last("format"))
    return 0
