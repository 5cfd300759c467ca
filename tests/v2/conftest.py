"""Tests that need cgroup v2 alone; they run in the test machine: `tests/vm/run`."""

import os
import select
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "KIST_TEST_VM" in os.environ:
        return
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason="needs the cgroup v2 machine: tests/vm/run"))


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A new cgroup below the root, for processes of one test: those still in it afterwards are killed."""
    path = Path("/sys/fs/cgroup", f"kist-test-{uuid.uuid4().hex[:12]}")
    path.mkdir()
    yield path
    with open(path / "cgroup.events") as events:
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        (path / "cgroup.kill").write_text("1")
        while "populated 1" in events.read():
            changed.poll()
            events.seek(0)
    path.rmdir()
