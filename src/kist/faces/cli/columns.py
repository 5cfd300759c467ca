"""Lists for people and for programs: a table in docker's columns, JSON lines, or a template."""

from __future__ import annotations

import sys
import time

from kist.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = Mapping[str, object]
    Heads = Mapping[str, str]  # field -> heading


def size_words(size_bytes: int) -> str:
    """`7.8 MiB`: at most four digits and a unit of 1024."""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.1f} {units[0]}" if size < 9.95 and units[0] != "B" else f"{size:.0f} {units[0]}"


def ago(then_s: float) -> str:
    """`3 weeks ago`, in docker's words; "N/A" for 1970."""
    if then_s <= 0:
        return "N/A"
    seconds = max(time.time() - then_s, 0)
    for limit, unit_s, word in (
        (60, 1, "second"), (3600, 60, "minute"), (48 * 3600, 3600, "hour"), (14 * 86400, 86400, "day"),
        (60 * 86400, 7 * 86400, "week"), (2 * 365 * 86400, 30 * 86400, "month"), (1e12, 365 * 86400, "year"),
    ):  # fmt: skip
        if seconds < limit:
            count = int(seconds / unit_s)
            return f"{count} {word}{'' if count == 1 else 's'} ago"
    return "long ago"


def print_rows(rows: Sequence[Row], heads: Heads, shown: Iterable[str], format: str) -> None:
    """`format`: "" or "table" for the columns `shown`, "json" for a line of JSON each, else a template, which after
    "table " gets a heading. Raises InvalidInput for what is no template."""
    from kist.faces.cli.template import compile_template

    if format == "json":
        from kist.codec import dumps

        plain = [{key: value for key, value in row.items() if not callable(value)} for row in rows]
        print("".join([dumps(row) + "\n" for row in plain]), end="")
        return
    fits = format in ("", "table")
    if fits:
        format = "table " + "\t".join(f"{{{{.{field}}}}}" for field in shown)
    render = compile_template(format.removeprefix("table "))
    if format.startswith("table ") or sys.stdout.isatty():
        rows = [{key: _shown(value) for key, value in row.items()} for row in rows]
    lines = [render(row) for row in rows]
    if not format.startswith("table "):
        print("".join(line + "\n" for line in lines), end="")
        return
    head = render({field: heads.get(field, (lambda key: key) if callable(value) else field.upper())
                   for field, value in (rows[0] if rows else heads).items()})  # fmt: skip
    print_table([line.split("\t") for line in (head, *lines)], _terminal() if fits else 0)


def _shown(value: object) -> object:
    """As a cell has it: on one line, and nothing that a terminal obeys."""
    if isinstance(value, str):
        return printable(value)
    if callable(value):
        return lambda *words: _shown(value(*words))
    return value


def print_table(rows: Sequence[Sequence[str]], width: int = 0) -> None:
    """In columns, three blanks between them, or two where it would be wider than `width` (0: as wide as it gets);
    then the widest columns are cut."""
    columns = max(map(len, rows), default=0)
    widths = [max((len(row[i]) for row in rows if len(row) > i), default=0) for i in range(columns)]
    blanks = 3 if not width or sum(widths) + 3 * (columns - 1) <= width else 2
    while width and sum(widths) + blanks * (columns - 1) > width and max(widths) > _NARROW:
        widths[widths.index(max(widths))] -= 1
    for row in rows:
        cells = [_cut(cell, room).ljust(room) for cell, room in zip(row, widths, strict=False)]
        print((" " * blanks).join(cells).rstrip())


_NARROW = 8


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _terminal() -> int:
    """The width of standard output, 0 when it is no terminal: what another program reads is never cut."""
    from kist.faces.cli.terminal import columns

    return columns() if sys.stdout.isatty() else 0


def print_documents(documents: Sequence[object], format: str) -> None:
    """For `inspect`: JSON for people (""), for programs ("json"), or each by a template. Raises InvalidInput."""
    from kist.codec import dumps
    from kist.faces.cli.template import compile_template

    if format in ("", "json"):
        print(_escaped(dumps(documents, indent=4)) if not format else dumps(documents))
        return
    render = compile_template(format)
    for document in documents:
        text = render(document)
        print("\n".join(map(printable, text.split("\n"))) if sys.stdout.isatty() else text)


def _escaped(text: str) -> str:
    """JSON with all that is not printable as JSON has it: it can only be within strings."""
    from json import dumps

    return "\n".join(
        [line if line.isprintable() else "".join([c if c.isprintable() else dumps(c)[1:-1] for c in line])
         for line in text.split("\n")]
    )  # fmt: skip
