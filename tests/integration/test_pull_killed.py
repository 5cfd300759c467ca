"""SIGKILL, and a full disk, at the steps of a pull: the store stays whole, no half image has a name, a retry works."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import ROOT
from dying import DONE, ERROR, dying, fill, kill
from images import member, put_image, tar_of
from kist.engine.pull import pull_image
from kist.spec.reference import parse_reference
from kist.store.blobs import BlobStore
from kist.store.check import check
from kist.store.images import ImageStore
from registries import client, docker_registry, needs_registry, noise
from trees import use_directories

pytestmark = needs_registry
LONG = os.environ.get("KIST_LONG")
STRIDE = 1 if LONG else 17
LAYERS = [
    tar_of(member("etc"), member("etc/passwd", b"root:x:0:0::/:\n"), member("big", noise(700_000))),
    tar_of(member("file", b"new"), member("noise", noise(300_000, 2))),
]


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an image in a registry."""
    directory = tmp_path_factory.mktemp("killed")
    with docker_registry(directory / "registry") as host, BlobStore(str(directory / "data")) as blobs:
        with client() as c:
            c.push(parse_reference(f"{host}/app:1"), blobs, put_image(blobs, LAYERS))
        yield f"{host}/app:1"


@pytest.fixture(params=["best", "directories"] if ROOT else ["directories"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    path = str(tmp_path / "data")
    if request.param == "directories":
        use_directories(path)
    return ImageStore(path)


def pull(store: ImageStore, name: str) -> None:
    with client() as c:
        pull_image(store, c, parse_reference(name))


@pytest.mark.parametrize("how", [kill, fill])
def test_at_every_step(store: ImageStore, name: str, how: Callable[[], None]) -> None:
    pull(store, name)  # all modules are here now: what is opened from now on is the store's
    store.remove(name)
    n = 1
    while True:
        status = dying(n, lambda: pull(store, name), how)
        if how is fill:
            assert os.waitstatus_to_exitcode(status) in (0, DONE, ERROR), f"step {n}: no KistError"
        assert check(store) == [], f"step {n}"
        assert [image.names for image in store.list()] in ([], [(name,)])
        if status == 0:
            break
        pull(store, name)
        assert check(store) == [], f"step {n}, again"
        with store.lease(name) as lease:
            assert lease.read("passwd").startswith("root:")
        store.remove(name)
        store.gc()
        left = [p for d in ("images", "layers", "chains", "tmp", "ingest") for p in Path(store.data_dir, d).iterdir()]
        assert left == [], f"step {n}"
        n += STRIDE
        assert n < 3000
    assert n > 2 * STRIDE
