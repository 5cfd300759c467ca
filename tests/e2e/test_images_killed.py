"""SIGKILL at random moments of pull, load, rmi and prune, as anybody runs them: nothing half done has a name."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import KIST, kist
from images import busybox_layer, member, put_image, tar_of
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore
from registries import docker_registry, needs_registry, noise

pytestmark = needs_registry
KILLED = 50 if os.environ.get("KIST_LONG") else 3  # times, each command


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def image(run_dir: Path, host: str) -> str:
    """In the store and in the registry, of four layers that take a moment."""
    box = busybox_layer()
    if box is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    layers = [tar_of(*(member(f"{i}/{j}", noise(200_000, i * 10 + j)) for j in range(10))) for i in range(3)]
    name = f"{host}/team/box:1"
    with BlobStore() as blobs:
        ImageStore().add(name, put_image(blobs, [box, *layers]))
    ok("push", "-q", name)
    return name


def ok(*argv: str) -> str:
    done = kist(*argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names() -> list[str]:
    return ok("images", "--format", "{{.Repository}}:{{.Tag}}").split()


@pytest.mark.parametrize("what", ["pull", "load", "rmi", "prune"])
def test_at_a_random_moment(image: str, tmp_path: Path, what: str) -> None:
    saved = str(tmp_path / "saved.tar")
    ok("save", "-o", saved, image)
    argv = {
        "pull": ["pull", "-q", image], "load": ["load", "-i", saved],
        "rmi": ["rmi", image], "prune": ["image", "prune", "-af"],
    }[what]  # fmt: skip
    makes, seed = what in ("pull", "load"), random.randrange(1 << 32)
    rng, took, killed = random.Random(seed), 0.0, 0
    for i in range(10 * KILLED):
        if killed == KILLED:
            break
        if makes and names():
            ok("rmi", image)
        elif not makes and not names():
            ok("load", "-i", saved)
        began = time.monotonic()
        process = subprocess.Popen([*KIST, *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if i:  # the first one goes through, and says how long it takes
            try:
                process.wait(rng.uniform(0.2, 1.0) * took)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        if process.returncode == 0:
            took = time.monotonic() - began
        killed += process.returncode == -signal.SIGKILL
        where = f"seed {seed}, round {i}: {process.returncode}"
        assert process.returncode in (0, -signal.SIGKILL), err
        assert kist("store", "check").returncode == 0, where
        for name in names():  # what has a name is whole
            assert ok("run", "--rm", "--pull", "never", name, "wc", "-c", "2/9") == "200000 2/9\n", where
        if makes or names():
            ok(*argv)
        assert names() == ([image] if makes else []), where
    assert killed == KILLED
