"""`kist store gc`."""

from __future__ import annotations

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="store gc",
    usage=("",),
    summary="Delete what no image needs: after a crash, an import that was interrupted, a forced removal",
)


def main(argv: list[str]) -> int:
    parse(COMMAND, argv)
    from kist.faces.cli.columns import size_words
    from kist.store.images import ImageStore

    print(f"Total reclaimed space: {size_words(ImageStore().gc().reclaimed_bytes)}")
    return 0
