"""`kist container prune`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="container prune",
    usage=("[FLAG...]",),
    summary="Remove the containers that do not run; volumes stay",
    groups=(
        (
            "Flags",
            (
                Flag("filter", "many", "KEY=VALUE", "Only those: until=24h, label=KEY[=VALUE], label!=", words.plain),
                Flag("force", "bool", "", "Do not ask", words.boolean, "f"),
            ),
        ),
    ),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.containers import Containers
    from kist.engine.pruning import prune_containers
    from kist.faces.cli.columns import size_words
    from kist.faces.cli.images import filters
    from kist.faces.cli.pruning import agreed, print_deleted

    asked = filters(parsed.given.get("filter", ()), ("until", "label", "label!"))
    if not words.boolean("--force", parsed.last("force", "false")) and not agreed("all containers that do not run"):
        return 1
    pruned = prune_containers(Containers(), asked)
    print_deleted("Containers", pruned.ids)
    print(f"Total reclaimed space: {size_words(pruned.reclaimed_bytes)}")
    return 0
