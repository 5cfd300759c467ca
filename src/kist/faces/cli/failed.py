"""What the launcher becomes when a step fails while it has this process's place: says what went wrong.

python -m kist.faces.cli.failed [CONTAINER-ID] PLAN-FD STEP ERRNO ARGUMENT WORDS

With the id of a container that is kept, its record says so, too.
"""

from __future__ import annotations

import sys

from kist.errors import KistError


def explainer() -> list[str]:
    """The command line that kernel.program.become takes."""
    flags = ["-I"] if sys.flags.isolated else ["-P"]  # never a module of the working directory
    return [sys.executable, *flags, "-m", __name__]


def main() -> int:
    from kist.kernel.launcher import explain_failure

    words = sys.argv[1:]
    id = words.pop(0) if len(words[0]) == 64 else ""
    try:
        error: KistError = explain_failure(words)
    except KistError as e:
        error = e
    if id:
        from kist.engine.containers import Containers
        from kist.engine.start import failed

        failed(Containers().find(id), error)
    print(f"kist: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
