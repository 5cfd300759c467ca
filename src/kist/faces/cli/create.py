"""`kist create`."""

from kist.errors import InvalidInput
from kist.faces.cli.command import Command
from kist.faces.cli.flags import RUN_GROUPS, RUN_NOTES
from kist.faces.cli.parse import parse
from kist.faces.cli.request import run_request, this_process

COMMAND = Command(
    name="create",
    usage=("[FLAG...] IMAGE [COMMAND [ARGUMENT...]]", "[FLAG...] --rootfs DIR [COMMAND [ARGUMENT...]]"),
    summary="Make a container without starting it: everything is checked, and its id printed",
    groups=RUN_GROUPS,
    notes=RUN_NOTES,
    examples=(("kist start -a $(kist create host date)", "made, and then started"),),
    command_follows=True,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    request = run_request(parsed.given, parsed.arguments, this_process())
    if request.detach:
        raise InvalidInput("create starts nothing", path="--detach", next="kist run -d, or leave it out")
    from kist.engine.containers import Containers
    from kist.engine.create import create
    from kist.faces.cli.with_image import with_image

    print(with_image(request, lambda: create(request, Containers())).id)
    return 0
