"""`kist-oci`: an OCI runtime with runc's command line, for podman, docker, containerd and whoever else calls one.

Nothing is imported here that the command at hand does not need: it is started for every step of a container's life.
"""

from __future__ import annotations

import sys

from kist.errors import KistError
from kist.faces import leave
from kist.faces.cli.parse import HelpAsked, parse
from kist.faces.oci.commands import COMMANDS, GLOBAL, command_module
from kist.faces.oci.messages import Log, Session
from kist.system import os
from kist.value import replace

FAILED = 1


def run(argv: list[str]) -> int:
    """Everything but the exit."""
    session = Session(Log())
    try:
        parsed = parse(GLOBAL, argv)
        if parsed.given.get("version"):
            from kist.faces.oci.spec import version_text

            print(version_text())
            return 0
        session = Session.from_flags(parsed)
        if not parsed.arguments:
            raise HelpAsked(GLOBAL)
        name, *rest = parsed.arguments
        if name == "help":
            raise HelpAsked(GLOBAL)
        module = command_module(name)
        command = module.COMMAND
        if name not in ("exec", command.name):  # one module for two
            command = replace(command, name=name, summary=COMMANDS[name])
        words = parse(command, rest)
        status: int = module.main(session, words)
        sys.stdout.flush()
        return status
    except HelpAsked as e:
        from kist.faces.oci.help import help_text

        print(help_text(e.command, COMMANDS), end="")
        return 0
    except KistError as e:
        session.log.error(session.words(e))
        return session.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        return 130
    except OSError as e:
        from kist.engine.making import os_error

        session.log.error(session.words(os_error("kist-oci", e)))
        return FAILED


def main() -> None:
    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
