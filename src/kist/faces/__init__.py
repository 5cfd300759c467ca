"""Ways to ask kist for something: commands, and a function; and what the commands share."""

import sys

from kist.system import os


def leave(status: int) -> None:
    """Exit without taking the interpreter apart first, which is a seventh of what `kist run -d` costs."""
    for file in (sys.stdout, sys.stderr):
        try:
            if file is not None:  # fd 1 or 2 was closed
                file.flush()
        except OSError:
            status = status or 1
    os._exit(status)
