"""`kist version`."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="version",
    usage=("[--format FORMAT]",),
    summary="Print the version of kist, of Python and of the kernel",
    groups=(("Flags", (Flag("format", "one", "FORMAT", "json, or a Go template: '{{.Version}}'", words.plain, "f"),)),),
)


def main(argv: list[str]) -> int:
    format = parse(COMMAND, argv).last("format")
    import os
    import sys
    from importlib.metadata import version  # slow to import, so only here

    from kist.registry.client import host_platform

    uname, python = os.uname(), ".".join(map(str, sys.version_info[:3]))
    own = {"Version": version("kist"), "PythonVersion": python, "Os": "linux", "Arch": host_platform().architecture,
           "KernelVersion": uname.release}  # fmt: skip
    if not format:
        print(f"kist {own['Version']} (Python {python}, Linux {uname.release})")
        return 0
    from kist.codec import dumps
    from kist.faces.cli.template import compile_template

    found = {"Client": own, "Server": own, **own}  # as docker and podman have it; there is no daemon to differ
    print(dumps(found) if format == "json" else compile_template(format)(found))
    return 0
