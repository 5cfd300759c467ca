"""The command `kist`: runs a verb, turns errors into text and an exit status.

Nothing is imported here that `kist run` does not need: the time it takes is part of every container's start.
"""

import gc
import sys

from kist.errors import InvalidInput, KistError
from kist.faces import leave
from kist.faces.cli.parse import HelpAsked
from kist.faces.cli.verbs import VERBS, split_verb, verb_main
from kist.system import os

BROKEN_PIPE = 128 + 13  # as if SIGPIPE had killed us
INTERRUPTED = 128 + 2
FAILED = 125
_SHORTHANDS = {"--help": "help", "-h": "help", "--version": "version", "-v": "version"}


def _say(text: str) -> None:
    if sys.stderr is not None:  # fd 2 may be closed; print() would then write to stdout
        print(text, file=sys.stderr)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _dispatch(verb: str, argv: list[str]) -> int:
    try:
        return verb_main(verb)(argv)
    except HelpAsked as e:
        from kist.faces.cli.help import command_help

        print(command_help(e.command), end="")
        return 0
    except KistError as e:
        _flush()
        _say(f"kist: {e}")
        if isinstance(e, InvalidInput) and not e.path.startswith("$"):
            _say(f"See 'kist {verb} --help'." if verb in VERBS else "See 'kist --help'.")
        return e.exit_code


def _bug(error: Exception, verb: str) -> None:
    if os.environ.get("KIST_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
        return
    text = " ".join(str(error).split())[:200]
    _say(f"kist: {verb}: {type(error).__name__}: {text}")
    _say("  why:  this is a bug in kist, not in what you typed")
    _say("  next: please report it with what the same command prints under KIST_DEBUG=1  [bug]")


def _abandon_stdout() -> None:
    """Nobody reads it any more: send the rest nowhere, so that Python's exit does not complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def run(argv: list[str]) -> int:
    """Everything but the exit."""
    verb, rest = split_verb(argv or ["help"])
    verb, rest = (_SHORTHANDS[verb], []) if verb in _SHORTHANDS else (verb, rest)
    try:
        status = _dispatch(verb, rest)
        _flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_stdout()
        return BROKEN_PIPE
    except Exception as e:
        _bug(e, verb)
        return FAILED
    return status


def main() -> None:
    # Threads that decompress and hash need the GIL often and briefly: waiting 5 ms each time makes a load slower.
    sys.setswitchinterval(0.0001)
    gc.set_threshold(100_000)  # an image's files are many objects, none of them garbage: a tenth of a load's time
    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
