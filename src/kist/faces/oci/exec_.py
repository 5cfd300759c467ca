"""`kist-oci exec`."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.oci.create import absolute
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="exec",
    usage=("[OPTION...] ID COMMAND [ARGUMENT...]", "[OPTION...] --process FILE ID"),
    summary="Run one more process in a container",
    groups=(
        (
            "Options",
            (
                Flag("process", "one", "FILE", "OCI process as JSON", None, "p"),
                Flag("cwd", "one", "DIR", "Working directory", None),
                Flag("env", "many", "KEY=VALUE", "Environment variable", None, "e"),
                Flag("tty", "bool", "", "Give it a terminal", words.boolean, "t"),
                Flag("user", "one", "UID[:GID]", "Numbers", None, "u"),
                Flag("additional-gids", "many", "GID", "Supplementary groups", None, "g"),
                Flag("detach", "bool", "", "Do not wait for its end", words.boolean, "d"),
                Flag("console-socket", "one", "PATH", "A socket that gets the terminal's master side", None),
                Flag("pidfd-socket", "one", "PATH", "A socket that gets a pidfd of the process", None),
                Flag("pid-file", "one", "PATH", "Write the process's number there", None),
                Flag("process-label", "one", "LABEL", "SELinux label", None),
                Flag("apparmor", "one", "PROFILE", "AppArmor profile", None),
                Flag("no-new-privs", "bool", "", "Set-uid programs give nothing", words.boolean),
                Flag("cap", "many", "CAPABILITY", "Add a capability", None, "c"),
                Flag("preserve-fds", "one", "NUMBER", "File descriptors to pass on, from 3", words.number(0, 1000)),
                Flag("cgroup", "many", "[CONTROLLER:]PATH", "A cgroup below the container's", None),
                Flag("ignore-paused", "bool", "", "Also in a paused container", words.boolean),
            ),
        ),
    ),
    least=1,
    command_follows=True,
)


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.execute import ExecRequest, execute

    def switch(name: str) -> bool | None:
        return words.boolean(f"--{name}", parsed.last(name)) if name in parsed.given else None

    gids = []
    for text in parsed.given.get("additional-gids", ()):
        for word in text.split(","):
            if not (word.isascii() and word.isdigit()):
                raise InvalidInput(f"{word!r} is not a group id", path="--additional-gids")
            gids.append(int(word))
    id, *args = parsed.arguments
    request = ExecRequest(
        args=tuple(args),
        process_file=absolute(parsed, "process"),
        cwd=parsed.last("cwd"),
        env=tuple(parsed.given.get("env", ())),
        tty=switch("tty"),
        user=parsed.last("user"),
        additional_gids=tuple(gids),
        capabilities=tuple(parsed.given.get("cap", ())),
        apparmor=parsed.last("apparmor"),
        process_label=parsed.last("process-label"),
        no_new_privs=switch("no-new-privs"),
        detach=bool(switch("detach")),
        console_socket=absolute(parsed, "console-socket"),
        pidfd_socket=absolute(parsed, "pidfd-socket"),
        pid_file=absolute(parsed, "pid-file"),
        preserve_fds=words.number(0, 1000)("--preserve-fds", parsed.last("preserve-fds", "0")) or 0,
        cgroups=tuple(parsed.given.get("cgroup", ())),
        ignore_paused=bool(switch("ignore-paused")),
    )
    execute(Containers(session.root).load(id), request, session.explainer(), session.debug)
