"""`kist images`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

_FORMAT = words.choice("table", "json")

COMMAND = Command(
    name="images",
    usage=("[FLAG...]",),
    summary="List the images",
    groups=(
        (
            "Flags",
            (
                Flag("format", "one", "FORMAT", "table (for people) or json", _FORMAT),
                Flag("quiet", "bool", "", "Only the names", words.boolean, "q"),
            ),
        ),
    ),
)


def size_words(size_bytes: int) -> str:
    """`7.8 MiB`: at most four digits and a unit of 1024."""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.1f} {units[0]}" if size < 9.95 and units[0] != "B" else f"{size:.0f} {units[0]}"


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    format = _FORMAT("--format", parsed.last("format", "table"))
    quiet = words.boolean("--quiet", parsed.last("quiet", "false"))
    from kist.store.rootfs import RootfsStore

    images = RootfsStore().list()
    if quiet:
        print(*(image.name for image in images), sep="\n", end="\n" if images else "")
    elif format == "json":
        from kist.codec import dumps

        print(dumps(images, indent=2))
    else:
        rows = [("NAME", "SIZE", "IMPORTED"), ("host", "-", "this machine's own programs")]
        rows += [(image.name, size_words(image.size_bytes), image.created) for image in images]
        width = max(len(name) for name, _, _ in rows)
        for name, size, created in rows:
            print(f"{name:<{width}}  {size:>8}  {created}")
    return 0
