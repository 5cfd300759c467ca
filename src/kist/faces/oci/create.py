"""`kist-oci create` and `kist-oci run`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.plan import words
from kist.system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

COMMAND = Command(
    name="create",
    usage=("[OPTION...] ID",),
    summary="Make a container from a bundle: a directory with config.json and a root file system",
    groups=(
        (
            "Options",
            (
                Flag("bundle", "one", "DIR", "The bundle (the working directory)", None, "b"),
                Flag("config", "one", "FILE", "The config in place of the bundle's config.json", None, "f"),
                Flag("console-socket", "one", "PATH", "A socket that gets the terminal's master side", None),
                Flag("pidfd-socket", "one", "PATH", "A socket that gets a pidfd of the first process", None),
                Flag("pid-file", "one", "PATH", "Write the first process's number there", None),
                Flag("no-pivot", "bool", "", "Do not use pivot_root", words.boolean),
                Flag("no-new-keyring", "bool", "", "Keep the caller's session keyring", words.boolean),
                Flag("preserve-fds", "one", "NUMBER", "File descriptors to pass on, from 3", words.number(0, 1000)),
                Flag("detach", "bool", "", "run: go on without waiting for its end", words.boolean, "d"),
                Flag("keep", "bool", "", "run: keep what the container holds when it ends", words.boolean),
                Flag("no-subreaper", "bool", "", "Accepted", words.boolean),
            ),
        ),
    ),
    least=1,
    most=1,
)


def flag(parsed: Parsed, name: str) -> bool:
    return words.boolean(f"--{name}", parsed.last(name, "false"))


def absolute(parsed: Parsed, name: str) -> str:
    return os.path.abspath(parsed.last(name)) if parsed.last(name) else ""


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.create import CreateRequest, create
    from kist.plan.setting import CREATE, DETACH, RUN

    bundle = os.path.abspath(parsed.last("bundle") or ".")
    request = CreateRequest(
        id=parsed.arguments[0],
        bundle=bundle,
        config=absolute(parsed, "config"),
        cgroup_manager=session.cgroup_manager,
        console_socket=absolute(parsed, "console-socket"),
        pidfd_socket=absolute(parsed, "pidfd-socket"),
        pid_file=absolute(parsed, "pid-file"),
        no_pivot=flag(parsed, "no-pivot"),
        no_new_keyring=flag(parsed, "no-new-keyring"),
        preserve_fds=words.number(0, 1000)("--preserve-fds", parsed.last("preserve-fds", "0")) or 0,
        keep=flag(parsed, "keep"),
    )
    mode = CREATE if session.command == "create" else DETACH if flag(parsed, "detach") else RUN
    create(Containers(session.root), request, mode, session.explainer(), session.log.warn, session.debug)
