"""`kist version`."""

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(name="version", usage=("",), summary="Print the version of kist, of Python and of the kernel")


def main(argv: list[str]) -> int:
    parse(COMMAND, argv)
    import os
    import sys
    from importlib.metadata import version  # slow to import, so only here

    python = ".".join(map(str, sys.version_info[:3]))
    print(f"kist {version('kist')} (Python {python}, Linux {os.uname().release})")
    return 0
