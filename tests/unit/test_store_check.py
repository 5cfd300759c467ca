"""`kist store check` and `rebuild`: whatever is damaged is found, and what follows from the rest is made again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from images import member, put_image, tar_of
from kist.errors import CorruptStore
from kist.store.blobs import BlobStore
from kist.store.check import check, rebuild
from kist.store.forms import EROFS, best_form
from kist.store.images import Image, ImageStore

LAYER = tar_of(member("etc"), member("etc/passwd", b"root:x:0:0::/:/bin/sh\n"), member("big", b"x" * 100_000))


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(str(tmp_path / "data"))


def add(store: ImageStore, name: str, layers: list[bytes]) -> Image:
    with BlobStore(store.data_dir) as blobs:
        return store.add(name, put_image(blobs, layers))


@pytest.fixture
def image(store: ImageStore) -> Image:
    return add(store, "it:1", [LAYER, tar_of(member("top", b"t"))])


def spoil(path: Path) -> None:
    """Change one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def blob(store: ImageStore, digest: str) -> Path:
    return Path(store.data_dir, "blobs", *digest.split(":"))


def test_a_whole_store(store: ImageStore, image: Image) -> None:
    assert check(store) == []
    assert check(ImageStore(store.data_dir + "-none")) == []


def test_a_damaged_layer_blob_goes_and_the_image_still_runs(store: ImageStore, image: Image) -> None:
    path = blob(store, image.layers[0].digest)
    spoil(path)
    (problem,) = check(store)
    assert image.layers[0].digest in problem.what
    assert path.exists()
    check(store, repair=True)
    assert not path.exists()
    with store.lease("it:1") as lease:
        assert lease.read("passwd").startswith("root:")
    (problem,) = check(store)
    assert "cannot be saved" in problem.what
    add(store, "it:1", [LAYER, tar_of(member("top", b"t"))])  # loaded again
    assert check(store) == []


PARTS: dict[str, Callable[[Path, Image], Path]] = {
    "the archive": lambda data, image: data / "layers" / image.layers[0].diff_id.replace(":", "-") / "tar",
    "the index": lambda data, image: next((data / "chains").glob("*/index")),
    "its books": lambda data, image: data / "layers" / image.layers[0].diff_id.replace(":", "-") / "changes",
    "the record": lambda data, image: data / "images" / image.manifest.replace(":", "-") / "record.json",
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("harm", ["spoiled", "cut", "gone"])
def test_what_follows_from_blobs_is_made_again(store: ImageStore, image: Image, part: str, harm: str) -> None:
    if best_form(store.data_dir) != EROFS and part != "the record":
        pytest.skip("this host keeps images as directories")
    path = PARTS[part](Path(store.data_dir), image)
    if part == "the archive" and harm == "gone":
        shutil.rmtree(path.parent)
    elif harm == "gone":
        path.unlink()
    elif harm == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif part == "the record":
        path.write_bytes(b"{" + path.read_bytes())
    else:
        spoil(path)
    assert check(store)
    problems = check(store, repair=True)
    assert problems
    assert all(problem.repaired for problem in problems), problems
    assert check(store) == []
    with store.lease("it:1") as lease:
        assert lease.read("passwd").startswith("root:")


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"{")], ids=["gone", "cut"])
def test_names_are_found_again(store: ImageStore, image: Image, harm: Callable[[Path], object]) -> None:
    add(store, "other", [LAYER])
    store.tag("it:1", "also:2")
    assert [entry.names for entry in store.list()]  # which brings the catalog up to date
    path = Path(store.data_dir, "index.json")
    harm(path)
    if path.exists():
        with pytest.raises(CorruptStore, match="rebuild"):
            store.list()
    assert rebuild(store) == ["also:2", "it:1", "other:latest"]
    assert {name for entry in store.list() for name in entry.names} == {"also:2", "it:1", "other:latest"}
    assert store.get("it:1").id == image.id
    assert check(store) == []


def test_without_names_images_are_found_all_the_same(store: ImageStore, image: Image) -> None:
    for name in ("index.json", "catalog.db"):
        Path(store.data_dir, name).unlink(missing_ok=True)
    assert rebuild(store) == []
    (found,) = store.list()
    assert (found.id, found.names) == (image.id, ())


def test_a_damaged_catalog_is_made_anew(store: ImageStore, image: Image) -> None:
    store.list()
    for harm in (b"", b"not a database, by any means" * 100):
        Path(store.data_dir, "catalog.db").write_bytes(harm)
        assert [found.id for found in store.list()] == [image.id]


def test_stray_files_among_the_blobs(store: ImageStore, image: Image) -> None:
    blob(store, "sha256:stray").write_bytes(b"x")
    (problem,) = check(store, repair=True)
    assert "stray" in problem.what
    assert check(store) == []


def test_what_is_strange_among_the_records_is_collected(store: ImageStore, image: Image) -> None:
    Path(store.data_dir, "images", "strange-thing").mkdir()
    Path(store.data_dir, "layers", "x").write_bytes(b"x")
    store.gc()
    assert [path.name for path in Path(store.data_dir, "images").iterdir()] == [image.manifest.replace(":", "-")]
    assert not Path(store.data_dir, "layers", "x").exists()
    assert check(store) == []
