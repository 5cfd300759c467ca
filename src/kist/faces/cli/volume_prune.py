"""`kist volume prune`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="volume prune",
    usage=("[FLAG...]",),
    summary="Remove volumes that no container has: those that were made for one that is gone; with --all every one",
    groups=(
        (
            "Flags",
            (
                Flag("all", "bool", "", "Volumes with names too", words.boolean, "a"),
                Flag("filter", "many", "KEY=VALUE", "Only those: label=KEY[=VALUE], label!=...", words.plain),
                Flag("force", "bool", "", "Do not ask", words.boolean, "f"),
            ),
        ),
    ),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    every, force = (words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("all", "force"))
    from kist.engine.volumes import prune
    from kist.faces.cli.columns import size_words
    from kist.faces.cli.images import filters
    from kist.faces.cli.pruning import agreed, print_deleted
    from kist.faces.cli.volumes import everything, passes

    asked = filters(parsed.given.get("filter", ()), ("label", "label!"))
    if not force and not agreed(f"all {'' if every else 'anonymous '}volumes that no container has"):
        return 1
    pruned = prune(everything()[0], lambda volume: passes(volume, asked), everything=every)
    print_deleted("Volumes", pruned.names)
    print(f"Total reclaimed space: {size_words(pruned.reclaimed_bytes)}")
    return 0
