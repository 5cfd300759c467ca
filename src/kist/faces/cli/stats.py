"""`kist stats`."""

from __future__ import annotations

import sys
import time

from kist.faces.cli.columns import print_rows
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.engine.containers import Container
    from kist.engine.usage import Sample

HEADS = {
    "Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
_INTERVAL_S = 1.0
_FIRST_S = 0.25  # the counters have nanoseconds: that is long enough for who waits for the first numbers
_CLEAR = "\033[H\033[J"

COMMAND = Command(
    name="stats",
    usage=("[FLAG...] [CONTAINER...]",),
    summary="Show what containers use, again and again until Ctrl-C",
    groups=(
        (
            "Flags",
            (
                Flag("all", "bool", "", "Also those that do not run", words.boolean, "a"),
                Flag("format", "one", "FORMAT", "table, json, or a Go template: '{{.Name}} {{.CPUPerc}}'", words.plain),
                Flag("no-stream", "bool", "", "Once", words.boolean),
                Flag("no-trunc", "bool", "", "Whole ids", words.boolean),
            ),
        ),
    ),
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    on = {name: words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("all", "no-stream", "no-trunc")}
    from kist.engine.containers import Containers, Still
    from kist.engine.usage import cpu_sample, sample

    containers = Containers()
    named = [containers.find(name) for name in parsed.arguments]

    def everyone() -> list[Still]:
        if named:
            return [Still(c) for c in named]
        return [c for c in map(Still, containers.all()) if on["all"] or c.running]

    seen = everyone()
    before = {c.id: cpu_sample(c) for c in seen}
    time.sleep(_FIRST_S)
    while True:
        found = [(c, sample(c)) for c in seen]
        rows = [row(c, before.get(c.id), now, whole=on["no-trunc"]) for c, now in found]
        if not on["no-stream"] and sys.stdout.isatty():
            print(_CLEAR, end="")
        print_rows(rows, HEADS, [h for h in HEADS if h != "Container"], parsed.last("format"))
        sys.stdout.flush()
        if on["no-stream"]:
            return 0
        before = {c.id: now for c, now in found}
        time.sleep(_INTERVAL_S)
        seen = everyone()


def row(container: Container, before: Sample | None, now: Sample | None, *, whole: bool) -> dict[str, object]:
    """`--` stands for what one that does not run has not."""
    id = container.id if whole else container.id[:12]

    def shown(text: Callable[[Sample], str], nothing: str = "--") -> str:
        return text(now) if now else nothing

    pair = "-- / --"
    return {
        "Container": id,
        "ID": id,
        "Name": container.name,
        "CPUPerc": shown(lambda s: f"{s.cpu_percent(before) if before else 0:.2f}%"),
        "MemUsage": shown(lambda s: f"{binary(s.memory_bytes)} / {binary(s.memory_limit_bytes)}", pair),
        "MemPerc": shown(lambda s: f"{s.memory_percent:.2f}%"),
        "NetIO": shown(lambda s: f"{decimal(s.received_bytes)} / {decimal(s.sent_bytes)}", pair),
        "BlockIO": shown(lambda s: f"{decimal(s.read_bytes)} / {decimal(s.written_bytes)}", pair),
        "PIDs": shown(lambda s: str(s.pids)),
    }


def binary(size_bytes: float) -> str:
    """`1.5MiB`, as docker stats has memory."""
    return _scaled(size_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def decimal(size_bytes: float) -> str:
    """`1.5MB`, as docker stats has what was moved."""
    return _scaled(size_bytes, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def _scaled(size: float, base: int, units: tuple[str, ...]) -> str:
    unit, *rest = units
    while size >= base and rest:
        size, unit, *rest = size / base, *rest
    return f"{size:.4g}{unit}" if unit == units[0] else f"{size:.3g}{unit}" if size < 999.5 else f"{size:.0f}{unit}"
