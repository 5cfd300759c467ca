"""`kist rmi`."""

from __future__ import annotations

import sys

from kist.errors import KistError
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="rmi",
    usage=("[--force] IMAGE [IMAGE...]",),
    summary="Remove images: a name, or by its id an image with all its names",
    groups=(
        (
            "Flags",
            (
                Flag("force", "bool", "", "Also with several names, or while a container runs from it: "
                     "what that needs stays until it ends", words.boolean, "f"),
                Flag("no-prune", "bool", "", "Accepted for docker's sake", words.boolean),
            ),
        ),
    ),
    examples=(("kist rmi $(kist images -q -f dangling=true)", "all that have no name"),),
    least=1,
    most=1 << 16,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    force = words.boolean("--force", parsed.last("force", "false"))
    from kist.store.images import ImageStore

    store, status = ImageStore(), 0
    for name in parsed.arguments:
        try:
            removed = store.remove(name, force=force, background=True)
        except KistError as e:
            print(f"kist: {e}", file=sys.stderr)
            status = e.exit_code
            continue
        lines = [f"Untagged: {name}" for name in removed.untagged] + [f"Deleted: {id}" for id in removed.deleted]
        print("\n".join(lines))
    return status
