"""`kist top` without a container: all of them on the whole screen, drawn by textual (the extra `kist[top]`).

What is shown is read anew each second; a key acts on the container under the cursor through the same commands that a
shell would run, with the screen given to them for as long as they want it.
"""

from __future__ import annotations

import sys

from kist.engine.containers import Containers
from kist.engine.usage import Sample, sample
from kist.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import App

    from kist.engine.containers import Container

_INTERVAL_S = 1.0
_KEPT = 20  # values in a sparkline
_BARS = "▁▂▃▄▅▆▇█"
COLUMNS = ("NAME", "STATUS", "CPU %", "CPU", "MEMORY", "LIMIT", "NET I/O", "BLOCK I/O", "PIDS")
KEYS = {
    "l": ("Logs", ("logs",)), "s": ("Stop", ("stop",)), "e": ("Shell", ("exec", "-it")), "n": ("Namespaces", ("ns",)),
    "p": ("Plan", ("explain",)), "q": ("Quit", ()),
}  # fmt: skip


def sparkline(values: Sequence[float]) -> str:
    """One character a value; the highest, or 1, is a full block."""
    most = max((*values, 1.0))
    return "".join(_BARS[min(int(value / most * len(_BARS)), len(_BARS) - 1)] for value in values)


class Watch:
    """What is known of the containers that run: the newest samples, and the CPU's past."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._before: dict[str, Sample] = {}
        self._past: dict[str, list[float]] = {}
        self.found: list[Container] = []

    def rows(self) -> list[tuple[str, ...]]:
        """One for each container, in the order of `found`; what has ended is forgotten."""
        self.found = sorted((c for c in self._containers.all() if c.running), key=lambda c: c.name)
        samples = {c.id: found for c in self.found if (found := sample(c))}
        rows = [self._row(c, samples.get(c.id)) for c in self.found]
        self._before = samples
        self._past = {id: past for id, past in self._past.items() if id in samples}
        return rows

    def _row(self, container: Container, now: Sample | None) -> tuple[str, ...]:
        from kist.faces.cli.ps import status_words
        from kist.faces.cli.stats import binary, decimal

        if now is None:
            return (container.name, status_words(container), *("--",) * (len(COLUMNS) - 2))
        before = self._before.get(container.id)
        percent = now.cpu_percent(before) if before else 0.0
        past = self._past.setdefault(container.id, [])
        past[:] = [*past, percent][-_KEPT:]
        return (
            container.name, status_words(container), f"{percent:.1f}", sparkline(past), binary(now.memory_bytes),
            binary(now.memory_limit_bytes), f"{decimal(now.received_bytes)} / {decimal(now.sent_bytes)}",
            f"{decimal(now.read_bytes)} / {decimal(now.written_bytes)}", str(now.pids),
        )  # fmt: skip


def command(key: str, container: Container) -> list[str]:
    """What a key runs: the command line of kist, of this Python."""
    words = KEYS[key][1]
    target = str(container.pid) if key == "n" else container.id
    return [sys.executable, "-m", "kist.faces.cli", *words, target, *(("sh",) if key == "e" else ())]


def screen(containers: Containers) -> App[None]:
    """The application. Raises Unsupported without textual."""
    try:
        from textual.app import App
        from textual.widgets import DataTable, Footer, Header
    except ImportError as e:
        raise Unsupported("kist top without a container needs textual", why="it is not installed",
                          next="pip install 'kist[top]', or use kist stats", code="no-textual") from e  # fmt: skip

    class Screen(App[None]):
        TITLE = "kist top"
        BINDINGS = [(key, f"act('{key}')" if key != "q" else "quit", text) for key, (text, _) in KEYS.items()]

        def compose(self):  # type: ignore[no-untyped-def]
            yield Header()
            yield DataTable(cursor_type="row")
            yield Footer()

        def on_mount(self) -> None:
            self.watch_ = Watch(containers)
            self.table: DataTable[str] = self.query_one(DataTable)
            self.table.add_columns(*COLUMNS)
            self.renew()
            self.set_interval(_INTERVAL_S, self.renew)

        def renew(self) -> None:
            at = self.table.cursor_row
            self.table.clear()
            for row in self.watch_.rows():
                self.table.add_row(*row)
            self.table.move_cursor(row=at)

        def action_act(self, key: str) -> None:
            import subprocess

            if not 0 <= self.table.cursor_row < len(self.watch_.found):
                return
            argv = command(key, self.watch_.found[self.table.cursor_row])
            if key == "s":
                self.run_worker(lambda: subprocess.run(argv, capture_output=True, check=False), thread=True)
                return
            with self.suspend():
                subprocess.run(argv, check=False)
                if key != "e":
                    input("-- Enter --")
            self.renew()

    return Screen()


def show() -> int:
    """Until `q`. Raises Unsupported without textual, or without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Unsupported("kist top needs a terminal", next="kist stats --no-stream", code="no-terminal")
    screen(Containers()).run()
    return 0
