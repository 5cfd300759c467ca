"""`kist network graph`."""

from __future__ import annotations

import sys

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="network graph",
    usage=("[--output FILE]",),
    summary="Draw who is connected to whom: networks, containers in them, and what of the host leads there",
    groups=(
        ("Flags", (Flag("output", "one", "FILE", "Draw it as SVG, into this file; -: to stdout", words.plain, "o"),)),
    ),
    examples=(("kist network graph -o networks.svg", "for a browser"),),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.faces.cli.networks import states
    from kist.faces.cli.terminal import columns
    from kist.network.graph import graph, svg, text
    from kist.network.manage import everything
    from kist.network.places import places

    here = states()
    found = graph(everything(here), {id: place.ports for id, place in places(here).items()})
    output = parsed.last("output")
    if not output or output == "-":
        sys.stdout.write(svg(found) if output else text(found, columns()))
        return 0
    from kist.errors import KistError

    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(svg(found))
    except OSError as e:
        raise KistError(f"cannot write {output}: {e.strerror}") from e
    return 0
