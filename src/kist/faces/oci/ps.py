"""`kist-oci ps`."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="ps",
    usage=("[--format FORMAT] ID [PS-OPTION...]",),
    summary="Show the processes of a container, as ps(1) shows them",
    groups=(("Options", (Flag("format", "one", "FORMAT", "table or json", None, "f"),)),),
    least=1,
    command_follows=True,
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.codec import dumps
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.resources import processes

    format = parsed.last("format", "table")
    if format not in ("table", "json"):
        raise InvalidInput("invalid format option", path="--format", next="table or json")
    id, *options = parsed.arguments
    pids = processes(Containers(session.root).load(id))
    if format == "json":
        print(dumps(pids))
        return 0
    from kist.engine.processes import listing

    head, lines = listing(pids, options)
    print("\n".join((head, *lines)))
    return 0
