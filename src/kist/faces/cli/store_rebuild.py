"""`kist store rebuild`."""

from __future__ import annotations

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="store rebuild",
    usage=("",),
    summary="Make the list of images and the catalog anew, from the images that are there",
)


def main(argv: list[str]) -> int:
    parse(COMMAND, argv)
    from kist.store.check import rebuild
    from kist.store.images import ImageStore

    store = ImageStore()
    names = rebuild(store)
    for name in names:
        print(f"named: {name}")
    for image in store.list():
        if not image.names:
            print(f"without a name: {image.id}")
    return 0
