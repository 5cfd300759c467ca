"""`kist-oci ps`."""

from __future__ import annotations

from kist.errors import InvalidInput, KistError
from kist.faces.cli.command import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="ps",
    usage=("[--format FORMAT] ID [PS-OPTION...]",),
    summary="Show the processes of a container, as ps(1) shows them",
    groups=(("Options", (Flag("format", "one", "FORMAT", "table or json", None, "f"),)),),
    least=1,
    command_follows=True,
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.codec import dumps
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.resources import processes

    format = parsed.last("format", "table")
    if format not in ("table", "json"):
        raise InvalidInput("invalid format option", path="--format", next="table or json")
    id, *options = parsed.arguments
    pids = processes(Containers(session.root).load(id))
    if format == "json":
        print(dumps(pids))
        return 0
    from kist.kernel.programs import run_program

    head, *lines = run_program(["ps", *(options or ["-ef"])], timeout_s=30).splitlines()
    try:
        column = head.split().index("PID")
    except ValueError as e:
        raise KistError("couldn't find PID field in ps output", next="give ps options that show it") from e
    print(head)
    for line in lines:
        fields = line.split()
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            print(line)
    return 0
