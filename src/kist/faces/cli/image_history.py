"""`kist image history`."""

from __future__ import annotations

from kist.faces.cli.columns import ago, print_rows, size_words
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.spec.image import History
    from kist.store.images import Layer

HEADS = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
         "Size": "SIZE", "Comment": "COMMENT"}  # fmt: skip
_WIDTH = 45

COMMAND = Command(
    name="image history",
    usage=("[FLAG...] IMAGE",),
    summary="List the steps that made an image, the last one first",
    groups=(
        (
            "Flags",
            (
                Flag("format", "one", "FORMAT", "table, json, or a Go template", words.plain),
                Flag("human", "bool", "", "Sizes and dates in words (default true)", words.boolean, "H"),
                Flag("no-trunc", "bool", "", "Whole commands", words.boolean),
                Flag("quiet", "bool", "", "Only ids", words.boolean, "q"),
            ),
        ),
    ),
    least=1,
    most=1,
)


def steps(history: tuple[History, ...], layers: tuple[Layer, ...]) -> list[tuple[History, Layer | None]]:
    """The steps in order with the layer that each made; layers without a step get an empty one."""
    from kist.spec.image import History

    found: list[tuple[History, Layer | None]] = []
    left = list(layers)
    for entry in history:
        found.append((entry, None if entry.empty_layer or not left else left.pop(0)))
    return found + [(History(), layer) for layer in left]


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    whole, quiet = (words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("no-trunc", "quiet"))
    human = words.boolean("--human", parsed.last("human", "true"))
    from kist.store.filters import timestamp
    from kist.store.images import ImageStore

    store = ImageStore()
    image = store.get(parsed.arguments[0])
    with store.lease(image.manifest) as lease:
        history = lease.config.history
    rows: list[dict[str, object]] = []
    for entry, layer in reversed(steps(history, image.layers)):
        text = " ".join(entry.created_by.replace("\t", " ").split())
        size = layer.file_bytes if layer else 0
        rows.append(
            {
                "ID": "<missing>" if rows else image.id if whole else image.short_id,
                "CreatedSince": ago(timestamp(entry.created)) if human else entry.created,
                "CreatedAt": entry.created,
                "CreatedBy": text if whole or len(text) <= _WIDTH else text[: _WIDTH - 3] + "...",
                "Size": size_words(size) if human else str(size),
                "Comment": entry.comment,
            }
        )
    if quiet:
        print(*(row["ID"] for row in rows), sep="\n")
        return 0
    print_rows(rows, HEADS, ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"), parsed.last("format"))
    return 0
