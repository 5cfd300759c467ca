"""`kist system df`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.store.usage import Usage

HEADS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
_IMAGES = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "IN USE")

COMMAND = Command(
    name="system df",
    usage=("[FLAG...]",),
    summary="Say what takes how much of the disk",
    groups=(
        (
            "Flags",
            (
                Flag("format", "one", "FORMAT", "table, json, or a Go template", words.plain),
                Flag("verbose", "bool", "", "Each image by itself", words.boolean, "v"),
            ),
        ),
    ),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    verbose = words.boolean("--verbose", parsed.last("verbose", "false"))
    from kist.faces.cli.columns import print_rows, print_table, size_words
    from kist.store.images import ImageStore
    from kist.store.usage import usage

    found = usage(ImageStore())
    if verbose:
        print_table([_IMAGES, *_rows(found)])
        print(f"\nNeeded by no image: {size_words(found.other_bytes)}")
        return 0
    share = found.reclaimable_bytes * 100 // found.total_bytes if found.total_bytes else 0
    row = {
        "Type": "Images",
        "TotalCount": str(len(found.images)),
        "Active": str(sum(image.in_use for image in found.images)),
        "Size": size_words(found.total_bytes),
        "Reclaimable": f"{size_words(found.reclaimable_bytes)} ({share}%)",
    }
    print_rows([row, _containers()], HEADS, HEADS, parsed.last("format"))
    return 0


def _containers() -> dict[str, object]:
    """What those that are kept wrote over their images."""
    from kist.engine.containers import Containers
    from kist.engine.inspect import size_of
    from kist.faces.cli.columns import size_words

    sizes = [(size_of(container), container.status != "exited") for container in Containers().all() if container.kept]
    total = sum(size for size, _ in sizes)
    idle = sum(size for size, active in sizes if not active)
    return {
        "Type": "Containers", "TotalCount": str(len(sizes)), "Active": str(sum(active for _, active in sizes)),
        "Size": size_words(total), "Reclaimable": f"{size_words(idle)} ({idle * 100 // total if total else 0}%)",
    }  # fmt: skip


def _rows(found: Usage) -> list[tuple[str, ...]]:
    from kist.faces.cli.columns import ago, size_words
    from kist.store.filters import timestamp
    from kist.store.names import split_name

    rows = []
    for item in found.images:
        image = item.image
        repository, tag = split_name(image.names[0]) if image.names else ("<none>", "")
        sizes = (item.size_bytes, item.size_bytes - item.unique_bytes, item.unique_bytes)
        created = ago(timestamp(image.created))
        name = (repository, tag or "<none>", image.short_id)
        rows.append((*name, created, *map(size_words, sizes), "yes" if item.in_use else "no"))
    return rows
