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
    active = sum(image.in_use for image in found.images)
    rows = [
        _row("Images", len(found.images), active, found.total_bytes, found.reclaimable_bytes),
        _containers(),
        _volumes(),
    ]
    print_rows(rows, HEADS, HEADS, parsed.last("format"))
    return 0


def _row(kind: str, total: int, active: int, size_bytes: int, reclaimable_bytes: int) -> dict[str, str]:
    from kist.faces.cli.columns import size_words

    share = reclaimable_bytes * 100 // size_bytes if size_bytes else 0
    return {
        "Type": kind, "TotalCount": str(total), "Active": str(active), "Size": size_words(size_bytes),
        "Reclaimable": f"{size_words(reclaimable_bytes)} ({share}%)",
    }  # fmt: skip


def _containers() -> dict[str, str]:
    """What they wrote over their images, and said; active are those that run."""
    from kist.engine.containers import Containers
    from kist.engine.volumes import size_bytes

    sizes = [(c.running, size_bytes(c.path)) for c in Containers().all() if c.kept]
    free = sum(size for running, size in sizes if not running)
    return _row("Containers", len(sizes), sum(running for running, _ in sizes), sum(n for _, n in sizes), free)


def _volumes() -> dict[str, str]:
    """Active are those that a container has."""
    from kist.engine.volumes import size_bytes, users
    from kist.faces.cli.volumes import everything

    containers, volumes = everything()
    using = users(containers) if volumes.names() else {}
    sizes = [(name in using, size_bytes(volumes.path(name))) for name in volumes.names()]
    free = sum(size for used, size in sizes if not used)
    return _row("Local Volumes", len(sizes), sum(used for used, _ in sizes), sum(n for _, n in sizes), free)


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
