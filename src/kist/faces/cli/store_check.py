"""`kist store check`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="store check",
    usage=("[--repair]",),
    summary="Read all that is stored and compare it with its digests; status 1 when something is damaged",
    groups=(("Flags", (Flag("repair", "bool", "", "Make again what can be, remove what is damaged", words.boolean),)),),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    repair = words.boolean("--repair", parsed.last("repair", "false"))
    from kist.store.check import check
    from kist.store.images import ImageStore

    problems = check(ImageStore(), repair=repair)
    for problem in problems:
        print(problem.what + (f": {problem.why}" if problem.why else ""))
        if problem.repaired:
            print(f"    {problem.repaired}")
    left = [problem for problem in problems if not problem.repaired]
    if not problems:
        print("everything is whole")
    elif left and not repair:
        print("'kist store check --repair' mends what can be mended")
    return 1 if left else 0
