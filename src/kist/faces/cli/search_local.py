"""`kist search-local`."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.faces.cli.columns import ago, print_rows
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

HEADS = {"Name": "NAME", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Found": "FOUND IN"}
_WIDTH = 40
_SHOWN = 3

COMMAND = Command(
    name="search-local",
    usage=("[FLAG...] WORD [WORD...]", "--file PATTERN [WORD...]"),
    summary="Find images by what they are called, say of themselves or hold. No registry is asked",
    groups=(
        (
            "Flags",
            (
                Flag("file", "one", "PATTERN", "Only those with such a file: python3, '/etc/*-release'", words.plain),
                Flag("format", "one", "FORMAT", "table, json, or a Go template", words.plain),
                Flag("no-trunc", "bool", "", "All places, and the whole of them", words.boolean),
                Flag("quiet", "bool", "", "Only the ids", words.boolean, "q"),
            ),
        ),
    ),
    examples=(
        ("kist search-local --file 'bin/python3*'", "who has a Python"),
        ("kist search-local maintainer=anna", "whose label says so"),
    ),
    most=1 << 10,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    whole, quiet = (words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("no-trunc", "quiet"))
    if not parsed.arguments and not parsed.last("file"):
        raise InvalidInput("search for what?", path="kist search-local", next="write a word, or --file PATTERN")
    from kist.store.filters import timestamp
    from kist.store.images import ImageStore
    from kist.store.search import search

    rows: list[dict[str, object]] = []
    for found in search(ImageStore(), parsed.arguments, parsed.last("file")):
        image = found.image
        if quiet:
            print(image.id if whole else image.short_id)
            continue
        rows.append(
            {
                "Name": image.names[0] if image.names else "<none>",
                "ID": image.id if whole else image.short_id,
                "CreatedSince": ago(timestamp(image.created)),
                "Found": _places(found.where, whole=whole),
            }
        )
    if not quiet:
        print_rows(rows, HEADS, HEADS, parsed.last("format"))
    return 0


def _places(where: tuple[str, ...], *, whole: bool) -> str:
    texts = [" ".join("".join(c if c.isprintable() else " " for c in text).split()) for text in where]
    if whole:
        return ", ".join(texts)
    cut = [text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..." for text in texts[:_SHOWN]]
    more = [f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    return ", ".join(cut + more)
