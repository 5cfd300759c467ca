"""`kist-oci delete`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="delete",
    usage=("[--force] ID",),
    summary="Remove all that a container holds",
    groups=(("Options", (Flag("force", "bool", "", "Kill it first; needs no intact state", words.boolean, "f"),)),),
    least=1,
    most=1,
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.lifecycle import delete

    delete(Containers(session.root), parsed.arguments[0], force=words.boolean("--force", parsed.last("force", "false")))
    return 0
