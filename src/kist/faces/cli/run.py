"""`kist run`."""

from kist.errors import NotFound
from kist.faces.cli.command import Command
from kist.faces.cli.flags import RUN_GROUPS, RUN_NOTES
from kist.faces.cli.parse import parse
from kist.faces.cli.request import run_request, this_process
from kist.plan.request import RunRequest

COMMAND = Command(
    name="run",
    usage=("[FLAG...] IMAGE [COMMAND [ARGUMENT...]]", "[FLAG...] --rootfs DIR [COMMAND [ARGUMENT...]]"),
    summary="Run a command in a new container. The image 'host' is a read-only view of this machine's programs",
    groups=RUN_GROUPS,
    notes=RUN_NOTES,
    examples=(
        ("kist run --rm -it host sh", "a shell in a container made from this machine's own programs"),
        ("kist run --rm --memory 64m --pids-limit 20 host python3 -c 'print(1)'", "with limits"),
        ("kist run --rm --rootfs ./alpine -v ./src:/src:ro ls /src", "from a directory, with another one inside"),
    ),
    command_follows=True,
)


def read_request(argv: list[str]) -> RunRequest:
    parsed = parse(COMMAND, argv)
    return run_request(parsed.given, parsed.arguments, this_process())


def main(argv: list[str]) -> int:
    request = read_request(argv)
    from kist.engine.run import run_attached
    from kist.faces.cli.failed import explainer

    if request.pull == "always" and not request.rootfs and request.image != "host":
        _obtain(request, None)
    try:
        run_attached(request, explainer())
    except NotFound as e:
        if request.pull != "missing" or e.code != "no-image":
            raise
        _obtain(request, e)
    run_attached(request, explainer())


def _obtain(request: RunRequest, missing: NotFound | None) -> None:
    import sys

    from kist.engine.obtain import obtain
    from kist.faces.cli.registry_flags import transfers

    if missing and not request.quiet:
        print(f"The image {request.image} is not here: pulling it", file=sys.stderr)
    with transfers(sys.stderr, quiet=request.quiet) as progress:
        obtain(request.image, missing, progress, progress.preparing, request.platform)
