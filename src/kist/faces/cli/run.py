"""`kist run`."""

from kist.errors import InvalidInput, KistError
from kist.faces.cli.command import Command
from kist.faces.cli.flags import RUN_GROUPS, RUN_NOTES
from kist.faces.cli.parse import parse
from kist.faces.cli.request import run_request, this_process
from kist.plan.request import RunRequest
from kist.system import os

COMMAND = Command(
    name="run",
    usage=("[FLAG...] IMAGE [COMMAND [ARGUMENT...]]", "[FLAG...] --rootfs DIR [COMMAND [ARGUMENT...]]"),
    summary="Run a command in a new container. The image 'host' is a read-only view of this machine's programs",
    groups=RUN_GROUPS,
    notes=RUN_NOTES,
    examples=(
        ("kist run --rm -it host sh", "a shell in a container made from this machine's own programs"),
        ("kist run --rm --memory 64m --pids-limit 20 host python3 -c 'print(1)'", "with limits"),
        ("kist run -d --name web -p 8080:80 nginx", "in the background: see kist ps, logs, stop"),
        ("kist run --rm --rootfs ./alpine -v ./src:/src:ro ls /src", "from a directory, with another one inside"),
    ),
    command_follows=True,
)


def read_request(argv: list[str]) -> RunRequest:
    parsed = parse(COMMAND, argv)
    return run_request(parsed.given, parsed.arguments, this_process())


def main(argv: list[str]) -> int:
    request = read_request(argv)
    from kist.faces.cli.with_image import with_image

    if request.detach:
        return with_image(request, lambda: _run_detached(request))
    if request.tty and request.interactive and not request.rm:
        return with_image(request, lambda: _run_detachable(request))
    from kist.engine.run import run_attached
    from kist.faces.cli.failed import explainer

    with_image(request, lambda: run_attached(request, explainer()))
    return 0


def _run_detachable(request: RunRequest) -> int:
    """A terminal that may be left with the container running on: a supervisor holds it, not this process."""
    from kist.engine.attach import start_and_attach
    from kist.engine.containers import Containers
    from kist.engine.create import create
    from kist.engine.making import own_stdio
    from kist.faces.cli.attach import left, request_of

    own_stdio(request)  # a terminal there must be one here
    containers = Containers()
    return left(start_and_attach(containers, create(request, containers), request_of(request)))


def _run_detached(request: RunRequest) -> int:
    from kist.engine.containers import Containers
    from kist.engine.create import create_to_start
    from kist.engine.start import start

    if request.attach:
        raise InvalidInput("it contradicts --detach", path="--attach", next="write one or the other")
    containers = Containers()
    container, source = create_to_start(request, containers)
    try:
        start(containers, container, source=source)
    except KistError:
        if request.rm or not container.ended:  # this host can't run it: nothing was tried
            from kist.engine.remove import remove

            remove(containers, container)
            if request.cidfile:
                os.unlink(request.cidfile)
        raise
    print(container.id)
    return 0
