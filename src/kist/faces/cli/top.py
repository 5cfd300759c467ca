"""`kist top`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="top",
    usage=("", "CONTAINER [PS-OPTION...]"),
    summary="Show the processes of a container, by their numbers on the host; or, without one, all containers live",
    examples=(
        ("kist top web -eo pid,rss,args", "the columns that you want"),
        ("kist top", "all containers, with keys; pip install 'kist[top]'"),
    ),
    command_follows=True,
)


def main(argv: list[str]) -> int:
    arguments = parse(COMMAND, argv).arguments
    if not arguments:
        from kist.faces.screen import show

        return show()
    from kist.engine.containers import Containers
    from kist.engine.processes import listing, pids_of
    from kist.errors import printable

    head, lines = listing(pids_of(Containers().find(arguments[0])), arguments[1:])
    print("\n".join(map(printable, (head, *lines))))
    return 0
