"""A page of Markdown as blocks to run, with what they should print. README.md says how blocks are marked."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
PLACES = {"root", "user", "v1", "v2", "limits", "disk", "quick"}
WAYS = {"any", "eventually"}


class Malformed(Exception):
    """A page is marked in a way that nothing is known about."""


class Expectation(NamedTuple):
    places: frozenset[str]
    text: str


class Block(NamedTuple):
    """Code to run. `line` is that of its first line, `at` says page and line."""

    at: str
    language: str
    places: frozenset[str]
    ways: frozenset[str]
    status: int
    text: str
    expectations: tuple[Expectation, ...]


def pages() -> list[Path]:
    """All pages of the repository that may hold blocks to run."""
    return [REPOSITORY / "README.md", *sorted(p for p in (REPOSITORY / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Raises Malformed."""
    name = page.relative_to(REPOSITORY) if page.is_relative_to(REPOSITORY) else page.name
    found: list[Block] = []
    for line, info, text in _fences(page, str(name)):
        language, *words = info.split() or [""]
        at = f"{name}:{line}"
        if "run" in words:
            if language not in ("sh", "python"):
                raise Malformed(f"{at}: {language} cannot be run")
            found.append(_block(at, language, text, words))
        elif "expect" in words:
            places = frozenset(words) - {"expect"}
            if not found:
                raise Malformed(f"{at}: nothing was run")
            if unknown := places - PLACES:
                raise Malformed(f"{at}: unknown: {' '.join(unknown)}")
            found[-1] = found[-1]._replace(expectations=(*found[-1].expectations, Expectation(places, text)))
        elif words:
            raise Malformed(f"{at}: neither run nor expect: {' '.join(words)}")
    for block in found:
        if "eventually" in block.ways and not block.expectations:
            raise Malformed(f"{block.at}: eventually what?")
    return found


def _block(at: str, language: str, text: str, words: list[str]) -> Block:
    status, rest = 0, set(words) - {"run"}
    for word in words:
        if match := re.fullmatch(r"status=(\d+)", word):
            status = int(match[1])
            rest.remove(word)
    if unknown := rest - PLACES - WAYS:
        raise Malformed(f"{at}: unknown: {' '.join(unknown)}")
    return Block(at, language, frozenset(rest & PLACES), frozenset(rest & WAYS), status, text, ())


def _fences(page: Path, name: str) -> Iterator[tuple[int, str, str]]:
    """Line of the first line within, info string, text."""
    start, info, inside = 0, "", list[str]()
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            if start:
                yield start, info, "\n".join(inside)
                start, inside = 0, []
            else:
                start, info = number + 1, line[3:]
        elif start:
            inside.append(line)
    if start:
        raise Malformed(f"{name}:{start}: the block has no end")


def matches(expected: str, printed: str) -> bool:
    """`...` is anything within a line, alone on a line any lines; blanks at the ends don't count, nor how many."""
    pattern = ""
    for line in expected.strip().splitlines():
        words = " ".join(line.split())
        pattern += r"(?:[^\n]*\n)*" if words == "..." else "[^\n]*".join(map(re.escape, words.split("..."))) + r"\n"
    lines = [" ".join(line.split()) for line in printed.strip().splitlines()]
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None
