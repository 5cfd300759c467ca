"""`kist-oci restore`."""

from __future__ import annotations

import os

from kist.faces.cli.command import Command, Flag
from kist.faces.oci.checkpoint import COMMON, criu_request, warn_of_criu
from kist.faces.oci.create import absolute, flag
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="restore",
    usage=("[OPTION...] ID",),
    summary="Bring a container back that checkpoint has saved",
    groups=(
        (
            "Options",
            (
                *COMMON,
                Flag("bundle", "one", "DIR", "The bundle (the working directory)", None, "b"),
                Flag("console-socket", "one", "PATH", "A socket that gets the terminal's master side", None),
                Flag("pid-file", "one", "PATH", "Write the first process's number there", None),
                Flag("detach", "bool", "", "Go on without waiting for its end", words.boolean, "d"),
                Flag("no-subreaper", "bool", "", "Accepted", words.boolean),
                Flag("no-pivot", "bool", "", "Accepted: criu enters the root in its own way", words.boolean),
            ),
        ),
    ),
    least=1,
    most=1,
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.restore import RestoreRequest, restore, stay

    warn_of_criu(session)
    containers = Containers(session.root)
    request = RestoreRequest(
        id=parsed.arguments[0],
        bundle=os.path.abspath(parsed.last("bundle") or "."),
        criu=criu_request(parsed),
        cgroup_manager=session.cgroup_manager,
        console_socket=absolute(parsed, "console-socket"),
        pid_file=absolute(parsed, "pid-file"),
        detach=flag(parsed, "detach"),
    )
    pid = restore(containers, request, session.log.warn)
    return 0 if request.detach else stay(containers, request.id, pid)
