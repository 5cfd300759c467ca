"""`kist tag`."""

from __future__ import annotations

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="tag",
    usage=("IMAGE NAME[:TAG]",),
    summary="Give an image another name, which it takes from whatever had it",
    examples=(("kist tag debian:bookworm work/base:1", "two names, one image"),),
    least=2,
    most=2,
)


def main(argv: list[str]) -> int:
    image, name = parse(COMMAND, argv).arguments
    from kist.store.images import ImageStore

    ImageStore().tag(image, name)
    return 0
