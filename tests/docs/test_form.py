"""Pages have a form: links lead to something, and a terminal of 80 columns shows all."""

import re
from pathlib import Path

import pytest
from page import REPOSITORY, pages

PAGES = [*pages(), *sorted((REPOSITORY / "tests").rglob("README.md"))]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_links(page: Path):
    dead = [target for target in _LINK.findall(page.read_text()) if not _leads(page, target)]
    assert dead == []


def test_every_page_is_linked():
    linked = {(p.parent / t.partition("#")[0]).resolve() for p in PAGES for t in _LINK.findall(p.read_text())}
    assert [str(p) for p in PAGES if p.name != "README.md" and p.resolve() not in linked] == []


def _leads(page: Path, target: str) -> bool:
    if target.startswith("https://"):
        return True  # no internet in tests
    path, _, anchor = target.partition("#")
    to = page.parent / path if path else page
    return to.exists() and (not anchor or anchor in _anchors(to))


def _anchors(page: Path) -> set[str]:
    """As forges make them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs/tutorial").glob("*.md")), ids=lambda p: p.name)
def test_pages_fit_a_terminal_of_80_columns(page: Path):
    lines = [line for line in page.read_text().splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 80] == []
