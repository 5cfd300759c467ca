"""`kist why`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="why",
    usage=("CONTAINER",),
    summary="Say why a container has ended: status, signal, memory, time, or what failed at its start",
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    from kist.engine.containers import Containers
    from kist.engine.why import why
    from kist.errors import printable

    first, *rest = why(Containers().find(parse(COMMAND, argv).arguments[0]))
    print("\n".join(map(printable, (first, *(f"  {line}" for line in rest)))))
    return 0
