"""`kist export`."""

from __future__ import annotations

import os
import sys

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container, Containers

COMMAND = Command(
    name="export",
    usage=("[--output FILE] CONTAINER",),
    summary="Pack all files of a container as a tar archive, but for those of its volumes",
    groups=(("Flags", (Flag("output", "one", "FILE", "Where to; else standard output", words.plain, "o"),)),),
    examples=(("kist export web | kist import - flat", "an image of one layer"),),
    least=1,
    most=1,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    output = parsed.last("output")
    from kist.engine.changes import export
    from kist.engine.containers import Containers

    containers = Containers()
    container = containers.find(parsed.arguments[0])
    if output:
        _export_file(containers, container, output)
    elif sys.stdout.isatty():
        next_ = "write --output FILE, or send it into a pipe"
        raise InvalidInput("an archive is nothing for a terminal", path="kist export", next=next_)
    else:
        export(containers, container, 1)
    return 0


def _export_file(containers: Containers, container: Container, path: str) -> None:
    """The file is there when it is whole; a FIFO or device is written to as it is."""
    from kist.engine.changes import export
    from kist.store.data import StoreErrors

    special = os.path.exists(path) and not os.path.isfile(path)
    making = path if special else f"{path}.{os.getpid()}.part"
    with StoreErrors(f"cannot write {path}"):
        try:
            with open(making, "wb" if special else "xb") as file:
                export(containers, container, file.fileno())
            if not special:
                os.rename(making, path)
        except BaseException:
            if not special and os.path.exists(making):
                os.unlink(making)
            raise
