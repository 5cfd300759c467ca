"""`kist image diff`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="image diff",
    usage=("[--times] IMAGE IMAGE",),
    summary="List the files that differ: A only in the second image, D only in the first, C changed, and how",
    groups=(
        ("Flags", (Flag("times", "bool", "", "Also what differs in its time alone", words.boolean),)),
    ),
    examples=(("kist image diff debian:bookworm my/debian", "what a build has changed"),),
    least=2,
    most=2,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    times = words.boolean("--times", parsed.last("times", "false"))
    from kist.errors import printable
    from kist.store.compare import compare
    from kist.store.images import ImageStore

    for found in compare(ImageStore(), *parsed.arguments):
        if times or found.what != ("time",):
            print(f"{found.kind} /{printable(found.path)}" + (f"  ({', '.join(found.what)})" if found.what else ""))
    return 0
