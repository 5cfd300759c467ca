"""`kist logs`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words as w

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container
    from kist.engine.logs import Shown

COMMAND = Command(
    name="logs",
    usage=("[FLAG...] CONTAINER",),
    summary="Show what a container printed: its errors on standard error",
    groups=(
        (
            "Flags",
            (
                Flag("follow", "bool", "", "Go on until it ends", w.boolean, "f"),
                Flag("since", "one", "TIME", "Only what is not older: 2026-11-26T11:37:29Z, or 10m", w.plain),
                Flag("until", "one", "TIME", "Only what is not newer", w.plain),
                Flag("tail", "one", "LINES", "Only so many of the last lines, or all", None, "n"),
                Flag("timestamps", "bool", "", "Show when each line was printed", w.boolean, "t"),
                Flag("net", "bool", "", "Instead: what --allow-net denied to it", w.boolean),
                Flag("details", "bool", "", "Accepted: there are no more", w.boolean),
            ),
        ),
    ),
    examples=(
        ("kist logs -f --since 10m web", "the last ten minutes, and what comes"),
        ("kist logs --net web", "what it wanted to reach and may not"),
    ),
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    import time

    from kist.engine.containers import Containers
    from kist.engine.logs import LogRequest, Shown, logs
    from kist.plan.moment import moment, stamp

    def on(name: str) -> bool:
        return w.boolean(f"--{name}", parsed.last(name, "false"))

    def at(name: str) -> str:
        return stamp(moment(f"--{name}", parsed.last(name), time.time_ns())) if parsed.last(name) else ""

    on("details")
    shown = Shown(on("timestamps"), at("since"), at("until"))
    if on("net"):
        return denials(Containers().find(parsed.arguments[0]), shown)
    request = LogRequest(shown, lines("--tail", parsed.last("tail", "all")), on("follow"))
    logs(Containers().find(parsed.arguments[0]), request)
    return 0


def denials(container: Container, shown: Shown) -> int:
    from kist.engine.denials import log_of, parse, text

    try:
        with open(log_of(container), "rb") as file:
            found = parse(file.read())
    except FileNotFoundError:
        return 0
    for denial in found:
        if shown.since <= denial.time and (not shown.until or denial.time <= shown.until):
            print(text(denial))
    return 0


def lines(flag: str, text: str) -> int | None:
    """As docker: what is negative means all, too."""
    count = None if text == "all" else w.integer(text)
    if count is None and text != "all":
        raise w.bad(flag, text, "it is not a number of lines", "a number, or all")
    return count if count is None or count >= 0 else None
