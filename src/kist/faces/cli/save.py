"""`kist save`."""

from __future__ import annotations

import sys

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

_FORMATS = ("docker-archive", "oci-archive", "oci-dir", "dir")
_format = words.choice(*_FORMATS)

COMMAND = Command(
    name="save",
    usage=("[FLAG...] IMAGE [IMAGE...]",),
    summary="Save images, for kist, docker, podman or skopeo to load",
    groups=(
        (
            "Flags",
            (
                Flag("output", "one", "FILE", "Where to; standard output without this flag", words.plain, "o"),
                Flag("format", "one", "FORMAT", f"{', '.join(_FORMATS)}; the first is also the second", _format),
            ),
        ),
    ),
    examples=(
        ("kist save web | ssh other docker load", "to another machine"),
        ("kist save --format oci-dir -o web web", "a directory, for skopeo's oci:web"),
        ("kist save --format dir -o web web", "one for skopeo's dir:web, a file for each blob"),
    ),
    least=1,
    most=1 << 10,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    output = parsed.last("output")
    format = _format("--format", parsed.last("format", _FORMATS[0]))
    from kist.store.images import ImageStore
    from kist.store.saving import save, save_directory, save_file

    store = ImageStore()
    if format in ("oci-dir", "dir"):
        if not output:
            raise InvalidInput("a directory needs a name", path="--format", next="write --output DIRECTORY")
        save_directory(store, parsed.arguments, output, format)
    elif output:
        save_file(store, parsed.arguments, output, format)
    elif sys.stdout.isatty():
        next_ = "write --output FILE, or send it into a pipe"
        raise InvalidInput("an archive is nothing for a terminal", path="kist save", next=next_)
    else:
        save(store, parsed.arguments, sys.stdout.buffer, format)
        sys.stdout.flush()
    return 0
