"""`kist update`."""

from __future__ import annotations

import sys

from kist.engine.update import FIELDS, update
from kist.errors import InvalidInput
from kist.faces.cli.command import Command
from kist.faces.cli.each import each
from kist.faces.cli.flags import RUN_GROUPS
from kist.faces.cli.parse import flags_of, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container, Containers

COMMAND = Command(
    name="update",
    usage=("FLAG... CONTAINER [CONTAINER...]",),
    summary="Change limits, at once where a container runs, and for its next start",
    groups=(("Flags", tuple(f for _, flags in RUN_GROUPS for f in flags if f.request_field in FIELDS)),),
    examples=(("kist update --memory 256m --cpus 1.5 web", "more of both"),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    flags = {flag.name: flag for flag in flags_of(COMMAND)}
    changes: dict[str, object] = {}
    for name, texts in parsed.given.items():
        flag = flags[name]
        assert flag.parse is not None
        changes[flag.request_field] = flag.parse(f"--{name}", texts[-1])
    if not changes:
        raise InvalidInput("nothing is to be changed", path="kist update", next="for example --memory 256m")

    def act(containers: Containers, container: Container) -> None:
        policy = container.config.request.restart.policy
        update(containers, container, changes)
        if "restart" in changes and policy == "no" and container.running:
            print(f"kist: {container.name}: the restart policy holds from its next start on", file=sys.stderr)

    return each(parsed.arguments, act)
