"""`kist secret inspect`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="secret inspect",
    usage=("[--format TEMPLATE] SECRET [SECRET...]",),
    summary="Tell about secrets, as JSON in podman's form, but never what they are",
    groups=(("Flags", (Flag("format", "one", "FORMAT", "json, or a Go template: '{{.ID}}'", words.plain, "f"),)),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    from datetime import UTC, datetime

    parsed = parse(COMMAND, argv)
    from kist.faces.cli.columns import print_documents
    from kist.store.secrets import Secrets

    store, documents = Secrets(), []
    for name in parsed.arguments:
        s = store.find(name)
        times = [datetime.fromtimestamp(ns / 1e9, UTC).isoformat() for ns in (s.created_ns, s.updated_ns)]
        spec = {"Name": s.name, "Driver": {"Name": "file", "Options": {}}, "Labels": dict(s.labels)}
        documents.append({"ID": s.id, "CreatedAt": times[0], "UpdatedAt": times[1], "Spec": spec})
    print_documents(documents, parsed.last("format"))
    return 0
