"""A host for tests of networks: a network namespace of the test's own, so that nothing reaches this machine."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containers import KIST
from kist.engine.state import StateDirectory
from netns import Namespace


class Machine(Namespace):
    """A host."""

    def kist(self, *args: str, **kwargs) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*KIST, *args), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, **kwargs
        )

    def run(self, *args: str) -> str:
        done = self.kist("run", "--rm", "--cap-add", "NET_RAW", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def container(self, *args: str) -> Iterator[subprocess.Popen]:
        """One that runs; its command says when it is ready, by a line."""
        process = subprocess.Popen(
            self.argv(*KIST, "run", "--rm", "--init", "--cap-add", "NET_RAW", *args), stdout=subprocess.PIPE, text=True
        )
        with process:
            try:
                assert process.stdout
                process.first = process.stdout.readline().strip()
                yield process
                process.terminate()
            except BaseException:
                process.kill()
                raise

    def links(self) -> set[str]:
        return {link["ifname"] for link in self.ip("link", "show")} - {"lo"}


@pytest.fixture
def machine(run_dir: Path) -> Iterator[Machine]:
    here = Machine()
    yield here
    here.inside(StateDirectory(str(run_dir)).sweep)
    here.close()
    shutil.rmtree(run_dir / ".network", ignore_errors=True)  # what networks are outlives containers


def wait_until(what, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)
