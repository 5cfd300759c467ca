"""`kist-oci list`."""

from __future__ import annotations

import os

from kist.errors import InvalidInput, NotFound
from kist.faces.cli.command import Command, Flag
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="list",
    usage=("[--format FORMAT] [--quiet]",),
    summary="List containers",
    groups=(
        (
            "Options",
            (
                Flag("format", "one", "FORMAT", "table or json", None, "f"),
                Flag("quiet", "bool", "", "Only the ids", words.boolean, "q"),
            ),
        ),
    ),
)
_COLUMNS = {"ID": "id", "PID": "pid", "STATUS": "status", "BUNDLE": "bundle", "CREATED": "created", "OWNER": "owner"}


def main(session: Session, parsed: Parsed) -> int:
    from kist.codec import dumps
    from kist.engine.runtime.container import Containers

    format = parsed.last("format", "table")
    if format not in ("table", "json"):
        raise InvalidInput("invalid format option", path="--format", next="table or json")
    if session.root_given and not os.path.isdir(session.root):
        raise NotFound(f"--root: {session.root} does not exist")
    states = [container.state() for container in Containers(session.root)]
    if words.boolean("--quiet", parsed.last("quiet", "false")):
        for state in states:
            print(state["id"])
        return 0
    if format == "json":
        print(dumps(states) if states else "null")
        return 0
    rows = [list(_COLUMNS), *([str(state[key]) for key in _COLUMNS.values()] for state in states)]
    widths = [max(12, *(len(row[i]) + 3 for row in rows)) for i in range(len(_COLUMNS))]
    for row in rows:
        print("".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0
