"""`kist-oci events`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.plan import values, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="events",
    usage=("[--interval DURATION] [--stats] ID",),
    summary="Print what a container uses, again and again, and when memory ran out; each a line of JSON",
    groups=(
        (
            "Options",
            (
                Flag("interval", "one", "DURATION", "Time between two lines (5s)", None),
                Flag("stats", "bool", "", "One line and no more", words.boolean),
            ),
        ),
    ),
    least=1,
    most=1,
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.codec import dumps
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.resources import statistics, watch

    container = Containers(session.root).load(parsed.arguments[0])
    if words.boolean("--stats", parsed.last("stats", "false")):
        print(dumps(statistics(container)))
        return 0
    interval_s = values.timeout("--interval", parsed.last("interval", "5s"))
    for event in watch(container, interval_s or 5.0):
        print(dumps(event), flush=True)
    return 0
