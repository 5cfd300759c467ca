"""`kist exec`."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.faces.cli.request import environment, this_process
from kist.plan import mount_values as m
from kist.plan import values as v
from kist.plan import words as w

COMMAND = Command(
    name="exec",
    usage=("[FLAG...] CONTAINER COMMAND [ARGUMENT...]",),
    summary="Run one more command in a container that runs",
    groups=(
        (
            "Flags",
            (
                Flag("interactive", "bool", "", "Pass standard input on", w.boolean, "i"),
                Flag("tty", "bool", "", "Give it a terminal", w.boolean, "t"),
                Flag("detach", "bool", "", "Do not wait for its end", w.boolean, "d"),
                Flag("env", "many", "KEY[=VALUE]", "Set an environment variable", None, "e"),
                Flag("env-file", "many", "FILE", "Read environment variables from a file", None),
                Flag("user", "one", "USER[:GROUP]", "Run as this user: names or numbers", v.user, "u"),
                Flag("workdir", "one", "DIR", "Working directory", m.workdir, "w"),
                Flag("privileged", "bool", "", "Give it all capabilities", w.boolean),
                Flag("detach-keys", "one", "KEYS", "Accepted; the command ends with its terminal", v.detach_keys),
            ),
        ),
    ),
    examples=(
        ("kist exec -it web sh", "a shell beside the web server"),
        ("kist exec -u www-data -e DEBUG=1 web id", "as another user, with another environment"),
    ),
    least=2,
    command_follows=True,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    given = parsed.given

    def on(name: str) -> bool:
        return w.boolean(f"--{name}", parsed.last(name, "false"))

    name, *command = parsed.arguments
    if not command[0]:
        raise InvalidInput("the command is empty", path="kist exec", code="no-command")
    if "detach-keys" in given:
        v.detach_keys("--detach-keys", parsed.last("detach-keys"))
    from kist.engine.containers import Containers
    from kist.engine.execute import ExecRequest, execute
    from kist.engine.making import open_missing_stdio
    from kist.faces.cli.failed import explainer

    request = ExecRequest(
        tuple(command),
        env=environment(given, this_process()),
        user=v.user("--user", parsed.last("user")) if "user" in given else "",
        workdir=m.workdir("--workdir", parsed.last("workdir")) if "workdir" in given else "",
        interactive=on("interactive"),
        tty=on("tty"),
        privileged=on("privileged"),
        detach=on("detach"),
    )
    open_missing_stdio()
    execute(Containers().find(name), request, explainer())
