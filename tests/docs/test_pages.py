"""The pages say what happens."""

import pytest
from page import REPOSITORY, Block, blocks, matches
from shell import Shell, Stuck

from kist.kernel.probe import probe

pytestmark = pytest.mark.skipif(not probe().user_namespaces, reason=probe().user_namespaces_reason)


def test_block(shell: Shell, block: Block, places: dict[str, str]):
    if shell.failed:
        pytest.skip(f"{shell.failed} has failed")
    if reason := _not_here(block, places):
        pytest.skip(f"{block.at.rpartition(':')[0]}: {reason}")
    _catch_up(shell, block, places)
    shell.done += 1
    wrong = _run(shell, block, places)
    if wrong:
        shell.failed = block.at
        pytest.fail(f"{block.at}:\n{block.text}\n\n{wrong}", pytrace=False)


def _not_here(block: Block, places: dict[str, str]) -> str:
    return "; ".join(sorted(places[word] for word in block.places if places[word]))


def _catch_up(shell: Shell, block: Block, places: dict[str, str]) -> None:
    """Where only some blocks of a page are asked for, those before them."""
    here = [b for b in blocks(REPOSITORY / block.at.rpartition(":")[0]) if not _not_here(b, places)]
    while here[shell.done].at != block.at:
        shell.run(here[shell.done])
        shell.done += 1


def _run(shell: Shell, block: Block, places: dict[str, str]) -> str:
    """What is wrong with it; empty if nothing is."""
    expected = tuple(e for e in block.expectations if not any(places[word] for word in e.places))
    block = block._replace(expectations=expected)
    try:
        printed, status = shell.run(block)
    except Stuck as e:
        return str(e)
    if status != block.status:
        return f"ended with status {status}, not {block.status}, and printed:\n{printed}"
    if not expected and "any" not in block.ways and printed.strip():
        return f"was to print nothing, and printed:\n{printed}"
    for expectation in expected:
        if not matches(expectation.text, printed):
            return f"was to print:\n{expectation.text}\n\nand printed:\n{printed}"
    return ""
