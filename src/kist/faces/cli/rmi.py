"""`kist rmi`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="rmi",
    usage=("NAME [NAME...]",),
    summary="Remove images. A container that runs from one keeps it until it ends",
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    names = parse(COMMAND, argv).arguments
    from kist.store.rootfs import RootfsStore

    store = RootfsStore()
    for name in names:
        store.remove(name)
        print(f"removed {name}")
    return 0
