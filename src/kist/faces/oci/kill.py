"""`kist-oci kill`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.oci.create import flag
from kist.faces.oci.messages import chosen
from kist.plan import values, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="kill",
    usage=("[--all] [--regex] ID [SIGNAL]",),
    summary="Send a signal (SIGTERM) to the first process of a container, or to all of its processes",
    groups=(
        (
            "Options",
            (
                Flag("all", "bool", "", "To all processes", words.boolean, "a"),
                Flag("regex", "bool", "", "ID is a regular expression: all that it is found in", words.boolean),
            ),
        ),
    ),
    least=1,
    most=2,
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.lifecycle import kill

    word = parsed.arguments[1] if len(parsed.arguments) > 1 else "TERM"
    number = 0 if word == "0" else values.signal_number("SIGNAL", word)  # 0: only whether it is there
    containers = Containers(session.root)
    for id in chosen(containers, parsed):
        kill(containers.load(id), number, all=flag(parsed, "all"))
    return 0
