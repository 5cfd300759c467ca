"""`kist port`."""

from kist.errors import NotFound
from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="port",
    usage=("CONTAINER [PORT[/PROTOCOL]]",),
    summary="Say which ports of the host's lead to a container",
    examples=(("kist port web 80", "where the container's port 80 is found"),),
    least=1,
    most=2,
)


def main(argv: list[str]) -> int:
    name, *wanted = parse(COMMAND, argv).arguments
    from kist.engine.containers import Containers
    from kist.network.places import places
    from kist.plan.ports import endpoint

    containers = Containers()
    container = containers.find(name)
    place = places(containers.states).get(container.id)
    ports = sorted(place.ports if place else (), key=lambda p: (p.target_port, p.protocol, len(p.address), p.port))
    if not wanted:
        for port in ports:
            print(f"{port.target_port}/{port.protocol} -> {endpoint(port.address, port.port)}")
        return 0
    target = wanted[0] if "/" in wanted[0] else f"{wanted[0]}/tcp"
    found = [port for port in ports if f"{port.target_port}/{port.protocol}" == target]
    if not found:
        raise NotFound(f"nothing of the host's leads to {target} of {container.name}",
                       next=f"kist port {container.name} lists what does", code="no-port")  # fmt: skip
    for port in found:
        print(endpoint(port.address, port.port))
    return 0
