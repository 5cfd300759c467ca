"""`kist-oci delete`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.oci.create import flag
from kist.faces.oci.messages import chosen
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="delete",
    usage=("[--force] [--regex] ID",),
    summary="Remove all that a container holds",
    groups=(
        (
            "Options",
            (
                Flag("force", "bool", "", "Kill it first; needs no intact state", words.boolean, "f"),
                Flag("regex", "bool", "", "ID is a regular expression: all that it is found in", words.boolean),
            ),
        ),
    ),
    least=1,
    most=1,
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.lifecycle import delete

    containers = Containers(session.root)
    for id in chosen(containers, parsed):
        delete(containers, id, force=flag(parsed, "force"))
    return 0
