"""`kist system prune`."""

import os

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="system prune",
    usage=("[FLAG...]",),
    summary="Remove the containers that do not run, networks that none is in, and images without a name",
    groups=(
        (
            "Flags",
            (
                Flag("all", "bool", "", "All images that no container has", words.boolean, "a"),
                Flag("volumes", "bool", "", "Also volumes that were made for a container that is gone", words.boolean),
                Flag("filter", "many", "KEY=VALUE", "Only those: until=24h, label=KEY[=VALUE], label!=", words.plain),
                Flag("force", "bool", "", "Do not ask", words.boolean, "f"),
            ),
        ),
    ),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    every, volumes, force = (
        words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("all", "volumes", "force")
    )
    from kist.engine.pruning import prune_containers
    from kist.engine.volumes import prune as prune_volumes
    from kist.errors import InvalidInput
    from kist.faces.cli import networks
    from kist.faces.cli.columns import size_words
    from kist.faces.cli.images import filters
    from kist.faces.cli.pruning import agreed, print_deleted
    from kist.faces.cli.volumes import everything, passes
    from kist.network.manage import prune as prune_networks
    from kist.store.images import ImageStore

    asked = filters(parsed.given.get("filter", ()), ("until", "label", "label!"))
    if volumes and "until" in asked:
        raise InvalidInput("volumes have no such filter", path="--filter until", next="it without --volumes")
    what = f"containers that do not run, networks that none is in, {'' if every else 'nameless '}images that none has"
    if not force and not agreed(f"{what}{', anonymous volumes that none has' if volumes else ''}"):
        return 1
    containers, _ = everything()
    gone = prune_containers(containers, asked)
    print_deleted("Containers", gone.ids)
    freed = gone.reclaimed_bytes
    if volumes:
        removed = prune_volumes(containers, lambda volume: passes(volume, asked), everything=False)
        print_deleted("Volumes", removed.names)
        freed += removed.reclaimed_bytes
    states = networks.states()
    if os.path.exists(f"{states.base}/.network"):  # else there was never one
        cut = prune_networks(states, lambda network: networks.passes(network, asked))
        print_deleted("Networks", [network.name for network in cut])
    images = ImageStore().prune({**asked, **({"dangling": ["false"]} if every else {})})
    lines = [f"untagged: {name}" for name in images.untagged] + [f"deleted: {id}" for id in images.deleted]
    print_deleted("Images", lines)
    print(f"Total reclaimed space: {size_words(freed + images.reclaimed_bytes)}")
    return 0
