"""`kist image unmount`."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="image unmount",
    usage=("IMAGE [IMAGE...]", "--all"),
    summary="Take back what 'kist image mount' did. A mount point stands for its image, too",
    groups=(("Flags", (Flag("all", "bool", "", "All that are mounted", words.boolean, "a"),)),),
    most=1 << 10,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    names = list(parsed.arguments)
    from kist.store.images import ImageStore
    from kist.store.mounting import mounted_images, unmount_image

    store = ImageStore()
    if words.boolean("--all", parsed.last("all", "false")):
        names = [path for _, path in mounted_images(store)]
    elif not names:
        raise InvalidInput("which image?", path="kist image unmount", next="write IMAGE, or --all")
    for name in names:
        print(f"Unmounted: {name}" if unmount_image(store, name) else f"Not mounted: {name}")
    return 0
