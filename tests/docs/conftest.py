"""Each block of each page is a test; the blocks of a page share a shell."""

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from page import PLACES, blocks, pages
from shell import Shell

from containers import ROOT, can_limit
from kist.kernel.probe import probe


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


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """What pages look for has the same name in each run: processes, and root's cgroups. So one run after the other."""
    directory = os.open("/sys/fs/cgroup", os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    yield
    os.close(directory)


@pytest.fixture(scope="module")
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, path: str) -> Iterator[Shell]:
    in_machine = "KIST_TEST_VM" in os.environ  # the disk, not memory
    directory = Path(mkdtemp(dir="/var/tmp/disk")) if in_machine else tmp_path_factory.mktemp("page")
    shell = Shell(directory, path)
    yield shell
    left = shell.close()
    assert not left or shell.failed, f"{request.param} leaves {left}"


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What this place is not, and in what words."""
    version, in_machine = probe().cgroup.version, "KIST_TEST_VM" in os.environ
    not_here = {
        "root": "" if ROOT else "needs root",
        "user": "is for an ordinary user" if ROOT else "",
        "v1": "" if version == 1 else "needs cgroup v1",
        "v2": "" if version == 2 else "needs cgroup v2",
        "limits": "" if can_limit() else "this user may make no cgroup with limits",
        "disk": "" if in_machine or os.major(tmp_path_factory.getbasetemp().stat().st_dev) else "needs a disk",
        "quick": "takes too long in an emulated machine" if in_machine else "",
    }
    assert set(not_here) == PLACES
    return not_here
