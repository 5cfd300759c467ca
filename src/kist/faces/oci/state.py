"""`kist-oci state`."""

from __future__ import annotations

from kist.faces.cli.command import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(name="state", usage=("ID",), summary="Print the state of a container as JSON", least=1, most=1)


def main(session: Session, parsed: Parsed) -> int:
    from kist.codec import dumps
    from kist.engine.runtime.container import Containers

    print(dumps(Containers(session.root).load(parsed.arguments[0]).state(), indent=2))
    return 0
