"""`kist inspect`."""

from __future__ import annotations

from kist.errors import NotFound
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("container", "image", "network")

COMMAND = Command(
    name="inspect",
    usage=("[FLAG...] NAME [NAME...]",),
    summary="Tell all about containers, images and networks, as JSON in docker's form",
    groups=(
        (
            "Flags",
            (
                Flag("format", "one", "FORMAT", "json, or a Go template: '{{.State.Status}}'", words.plain, "f"),
                Flag("size", "bool", "", "Also what a container wrote over its image", words.boolean, "s"),
                Flag("type", "one", "TYPE", f"Only a {', '.join(KINDS)}", words.choice(*KINDS)),
            ),
        ),
    ),
    examples=(("kist inspect --format '{{.State.ExitCode}}' web", "one thing only"),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    return show(COMMAND, argv)


def show(command: Command, argv: list[str], type: str = "") -> int:
    """`type`: only those. What was found is printed also when another name was not; then the status is 1."""
    import sys

    from kist.faces.cli.columns import print_documents

    parsed = parse(command, argv)
    kind = type or (str(words.choice(*KINDS)("--type", parsed.last("type"))) if "type" in parsed.given else "")
    size = words.boolean("--size", parsed.last("size", "false"))
    finders: dict[str, Callable[[str], object]] = {
        "container": lambda name: _container(name, size), "image": _image, "network": _network,
    }  # fmt: skip
    found, missing = [], []
    for name in parsed.arguments:
        try:
            found.append(_first([finders[kind]] if kind else list(finders.values()), name, kind))
        except NotFound as e:
            missing.append(e)
    print_documents(found, parsed.last("format"))
    for error in missing:
        print(f"kist: {error}", file=sys.stderr)
    return 1 if missing else 0


def _first(finders: list[Callable[[str], object]], name: str, kind: str) -> object:
    """As docker looks: containers come first."""
    for find in finders:
        try:
            return find(name)
        except NotFound:
            if kind:
                raise
    raise NotFound(f"no container, image or network {words.show(name)}", next="kist ps -a, images and network ls list "
                   "them", code="no-object")  # fmt: skip


def _container(name: str, size: bool) -> object:
    from kist.engine.containers import Containers
    from kist.engine.inspect import described
    from kist.network.places import places

    containers = Containers()
    found = containers.find(name)
    return described(found, places(containers.states).get(found.id), size=size)


def _image(name: str) -> object:
    from kist.faces.cli.image_inspect import described
    from kist.store.images import ImageStore

    store = ImageStore()
    return described(store, store.get(name))


def _network(name: str) -> object:
    from kist.faces.cli.networks import states
    from kist.network.manage import are_any, described, find

    if not are_any(states()):  # a question is to leave nothing
        raise NotFound(f"no network {words.show(name)}", code="no-network")
    return described(*find(states(), name))
