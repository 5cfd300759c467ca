"""`kist ns`: the namespaces of a container or process beside the host's."""

from __future__ import annotations

import os

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

_FORMAT = Flag("format", "one", "FORMAT", "table (for people) or json", words.choice("table", "json"))

COMMAND = Command(
    name="ns",
    usage=("[--format FORMAT] [CONTAINER|PID]",),
    summary="Compare the namespaces of a container or process (by default of kist itself) with the host's",
    groups=(("Flags", (_FORMAT,)),),
    examples=(("kist ns web", "which namespaces the container 'web' shares with the host"),),
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    format = words.choice("table", "json")("--format", parsed.last("format", "table"))
    from kist.engine.ns import Comparison, compare, find_pid

    comparison: Comparison = compare(find_pid(parsed.arguments[0]) if parsed.arguments else os.getpid())
    if format == "json":
        from kist.codec import dumps

        print(dumps(comparison, indent=2))
        return 0
    print(f"{'NAMESPACE':<10}{'HOST':<12}{'PROCESS':<12}{'':<11}ISOLATES")
    for row in comparison.namespaces:
        verdict = "same" if row.same else "different"
        print(f"{row.name:<10}{row.host or '-':<12}{row.process or '-':<12}{verdict:<11}{row.isolates}")
    if not comparison.host_is_pid_1:
        print("\nHOST is what this shell sees: PID 1 may not be looked at from here.")
    return 0
