"""SIGKILL, and a full disk, at every step of load, import, rmi, prune and tag: the store stays whole, a retry works, no
name stands for something that is not whole.

A child of this process dies before the nth step, for every n until it gets through.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from containers import ROOT
from dying import DONE, ERROR, dying, fill, kill
from images import busybox_layer, member, put_image, tar_of
from kist.errors import KistError
from kist.kernel.mounts import attach, new_mount, unmount
from kist.store.blobs import BlobStore
from kist.store.check import check
from kist.store.images import ImageStore
from kist.store.importing import import_tar
from kist.store.loading import load
from kist.store.saving import save
from trees import use_directories

LONG = os.environ.get("KIST_LONG")
FILES = tar_of(member("etc"), member("etc/passwd", b"root:x:0:0::/:\n"), member("f", b"f" * 3000), member("d/e", b""))
TOP = tar_of(member("f", b"new"), member("d/.wh.e", b""))


@pytest.fixture(params=["best", "directories"] if ROOT else ["directories"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    path = str(tmp_path / "data")
    if request.param == "directories":
        use_directories(path)
    return ImageStore(path)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A saved image of two layers."""
    store = ImageStore(str(tmp_path_factory.mktemp("saved") / "data"))
    with BlobStore(store.data_dir) as blobs:
        store.add("it:1", put_image(blobs, [FILES, TOP]))
    out = io.BytesIO()
    save(store, ["it:1"], out, "docker-archive")
    return out.getvalue()


def loaded(store: ImageStore, archive: bytes) -> None:
    load(store, io.BytesIO(archive))


def imported(store: ImageStore, _archive: bytes) -> None:
    import_tar(store, io.BytesIO(FILES), "it:1", replace=True)


ACTS: dict[str, tuple[bool, Callable[[ImageStore, bytes], object]]] = {  # whether the image is there before
    "load": (False, loaded),
    "import": (False, imported),
    "import over another": (True, imported),
    "rmi": (True, lambda store, _: store.remove("it:1")),
    "prune": (True, lambda store, _: store.prune({"dangling": ["false"]})),
    "tag": (True, lambda store, _: store.tag("it:1", "it:2")),
}


@pytest.mark.parametrize("how", [kill, fill])
@pytest.mark.parametrize("what", ACTS)
def test_at_every_step(store: ImageStore, archive: bytes, what: str, how: Callable[[], None]) -> None:
    before, act = ACTS[what]
    stride = 1 if LONG else 13
    n, through = 1 + (len(what) % stride if stride > 1 else 0), 0
    while not through:
        assert n < 2000
        if before:
            loaded(store, archive)
        status = dying(n, lambda: act(store, archive), how)
        through = status == 0
        if how is fill:
            assert os.waitstatus_to_exitcode(status) in (0, DONE, ERROR), f"step {n}: no KistError"
        assert check(store) == [], f"step {n}"
        for image in store.list():  # what has a name can be used
            with store.lease(image.manifest) as lease:
                assert lease.read("passwd").startswith("root:")
        store.gc()
        assert check(store) == [], f"step {n}, collected"
        act(store, archive) if not (before and what in ("rmi", "prune") and not store.list()) else None
        assert check(store) == [], f"step {n}, again"
        for image in store.list():
            store.remove(image.manifest, force=True)
        left = [p for name in ("images", "layers", "chains", "tmp") for p in Path(store.data_dir, name).iterdir()]
        assert left == [], f"step {n}"
        n += stride
    assert n > 2


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_a_disk_that_is_full(tmp_path: Path, archive: bytes) -> None:
    """Of every size up to one that is enough."""
    box = busybox_layer() or FILES
    size, done = 64 << 10, False
    while not done:
        path = tmp_path / f"disk{size}"
        path.mkdir()
        mount = new_mount("tmpfs", "tmpfs", [f"size={size}"])
        attach(mount, str(path))
        os.close(mount)
        try:
            store = ImageStore(str(path / "data"))
            try:
                import_tar(store, io.BytesIO(box), "it")
                done = True
            except KistError as e:
                assert e.code == "disk-full", size
                assert store.list() == []
            assert check(store) == []
            store.gc()
            assert check(store) == []
        finally:
            unmount(str(path))
        size = size * 3 // 2
        assert size < 1 << 30
