"""`kist-oci pause` and `kist-oci resume`."""

from __future__ import annotations

from kist.faces.cli.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="pause", usage=("ID",), summary="Stop all processes of a container, or let them go on", least=1, most=1
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.resources import pause, resume

    act = pause if session.command == "pause" else resume
    act(Containers(session.root).load(parsed.arguments[0]))
    return 0
