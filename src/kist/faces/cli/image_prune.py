"""`kist image prune`."""

from __future__ import annotations

import sys

from kist.errors import Refused
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

_FILTERS = ("dangling", "until", "label", "label!")

COMMAND = Command(
    name="image prune",
    usage=("[FLAG...]",),
    summary="Remove images without a name; with --all every image that no container runs from",
    groups=(
        (
            "Flags",
            (
                Flag("all", "bool", "", "Images with names too", words.boolean, "a"),
                Flag(
                    "filter", "many", "KEY=VALUE", "Only those: until=24h, label=KEY[=VALUE], label!=...", words.plain
                ),
                Flag("force", "bool", "", "Do not ask", words.boolean, "f"),
            ),
        ),
    ),
    examples=(("kist image prune -af --filter until=240h", "all that are older than ten days"),),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    everything, force = (words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("all", "force"))
    from kist.faces.cli.columns import size_words
    from kist.faces.cli.images import filters
    from kist.store.images import ImageStore

    asked = filters(parsed.given.get("filter", ()), _FILTERS)
    if everything:
        asked["dangling"] = ["false"]
    if not force and not _agreed("every image that no container runs from" if everything else "images without a name"):
        return 1
    removed = ImageStore().prune(asked)
    for name in removed.untagged:
        print(f"untagged: {name}")
    for id in removed.deleted:
        print(f"deleted: {id}")
    print(f"Total reclaimed space: {size_words(removed.reclaimed_bytes)}")
    return 0


def _agreed(what: str) -> bool:
    if not sys.stdin.isatty():
        raise Refused(f"this would remove {what}", why="there is no terminal to ask at", next="write --force")
    print(f"This removes {what}. Go on? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
