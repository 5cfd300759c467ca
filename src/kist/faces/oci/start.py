"""`kist-oci start`."""

from __future__ import annotations

from kist.faces.cli.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(name="start", usage=("ID",), summary="Let a created container run its command", least=1, most=1)


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.lifecycle import start

    start(Containers(session.root).load(parsed.arguments[0]))
    return 0
