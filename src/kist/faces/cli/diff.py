"""`kist diff`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="diff",
    usage=("CONTAINER",),
    summary="List the files that a container has added (A), changed (C) and deleted (D)",
    groups=(("Flags", (Flag("format", "one", "FORMAT", "json, or nothing", words.choice("", "json")),)),),
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    import os

    parsed = parse(COMMAND, argv)
    from kist.codec import dumps
    from kist.engine.changes import changes
    from kist.engine.containers import Containers
    from kist.errors import printable

    containers = Containers()
    found = changes(containers, containers.find(parsed.arguments[0]))
    if parsed.last("format") == "json":
        kinds = {"A": "added", "C": "changed", "D": "deleted"}
        lists = {word: [os.fsdecode(c.path) for c in found if c.kind == kind] for kind, word in kinds.items()}
        print(dumps({word: paths for word, paths in lists.items() if paths}))
    else:
        print("".join([f"{c.kind} {printable(c.path)}\n" for c in found]), end="")
    return 0
