"""Each block of each page is a test; the blocks of a page share a shell."""

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from page import PLACES, Block, blocks, pages
from shell import Shell

from containers import ROOT, can_limit, no_cgroup_is_left
from kist.kernel.probe import probe

__all__ = ["no_cgroup_is_left"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "block" in metafunc.fixturenames:
        rows = [(page, block) for page in pages() for block in blocks(page)]
        metafunc.parametrize(("shell", "block"), rows, ids=[b.at for _, b in rows], indirect=["shell"], scope="module")


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory of commands: this kist, this Python."""
    directory = tmp_path_factory.mktemp("bin")
    (directory / "kist").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m kist.faces.cli "$@"\n')
    (directory / "kist").chmod(0o755)
    (directory / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (directory / "python").chmod(0o755)
    return str(directory)


@pytest.fixture(scope="session", autouse=True)
def alone() -> Iterator[None]:
    """Cgroups have their names on the whole machine: one run of the pages at a time, of root's."""
    with open("/proc/self/comm") as file:
        directory = os.open("/sys/fs/cgroup", os.O_RDONLY) if ROOT else file.fileno()
        fcntl.flock(directory, fcntl.LOCK_EX) if ROOT else None
        yield
        os.close(directory) if ROOT else None


@pytest.fixture(scope="module")
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, path: str) -> Iterator[Shell]:
    shell = Shell(tmp_path_factory.mktemp(Path(request.param).stem), path)
    yield shell
    left = shell.close()
    assert not left or shell.failed, f"{request.param} leaves {left}"


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What this place is not, and in what words."""
    version = probe().cgroup.version
    not_here = {
        "root": "" if ROOT else "needs root",
        "user": "is for an ordinary user" if ROOT else "",
        "v1": "" if version == 1 else "needs cgroup v1",
        "v2": "" if version == 2 else "needs cgroup v2",
        "limits": "" if can_limit() else "this user may make no cgroup with limits",
        "disk": "" if os.major(os.stat(tmp_path_factory.getbasetemp()).st_dev) else "the directory is on no disk",
        "quick": "takes too long in an emulated machine" if "KIST_TEST_VM" in os.environ else "",
    }
    assert set(not_here) == PLACES
    return not_here


@pytest.fixture
def reason(block: Block, places: dict[str, str]) -> str:
    """Why the block cannot run here; empty if it can."""
    return "; ".join(sorted(places[word] for word in block.places if places[word]))
