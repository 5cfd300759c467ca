"""`kist rename`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse
from kist.plan import values

COMMAND = Command(name="rename", usage=("CONTAINER NAME",), summary="Give a container another name", least=2, most=2)


def main(argv: list[str]) -> int:
    old, new = parse(COMMAND, argv).arguments
    values.container_name("NAME", new)
    from kist.engine.containers import Containers

    containers = Containers()
    container = containers.find(old)
    with containers.locked(container):
        containers.rename(container, new)
    return 0
