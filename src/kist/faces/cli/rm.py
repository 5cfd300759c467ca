"""`kist rm`."""

from __future__ import annotations

from kist.errors import NotFound
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container, Containers

COMMAND = Command(
    name="rm",
    usage=("[FLAG...] CONTAINER [CONTAINER...]",),
    summary="Remove containers, with all that they wrote",
    groups=(
        (
            "Flags",
            (
                Flag("force", "bool", "", "Kill those that run; a missing one is fine", words.boolean, "f"),
                Flag("volumes", "bool", "", "Also the volumes that were made for them alone", words.boolean, "v"),
            ),
        ),
    ),
    examples=(("kist rm -f $(kist ps -aq)", "all of them"),),
    least=1,
    most=1 << 16,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    force, volumes = (words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("force", "volumes"))
    from kist.engine.containers import Containers
    from kist.engine.remove import remove
    from kist.faces.cli.each import each

    def act(containers: Containers, container: Container) -> None:
        try:
            remove(containers, container, force=force, volumes=volumes)
        except NotFound:
            if not force:
                raise

    names = parsed.arguments
    if force:
        names = tuple([name for name in names if _is_there(Containers(), name)])
    return each(names, act, waits=True)


def _is_there(containers: Containers, name: str) -> bool:
    try:
        containers.find(name)
    except NotFound as e:
        import sys

        print(f"kist: {e.what}", file=sys.stderr)
        return False
    return True
