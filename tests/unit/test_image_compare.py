"""`kist image diff`: what differs, whichever layers it came with."""

import tarfile
from pathlib import Path

import pytest

from containers import ROOT
from images import hardlink, member, put_image, symlink, tar_of
from kist.store.blobs import BlobStore
from kist.store.compare import Difference, compare
from kist.store.images import ImageStore
from trees import use_directories


@pytest.fixture(params=["best", "directories"] if ROOT else ["directories"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    path = str(tmp_path / "data")
    if request.param == "directories":
        use_directories(path)
    return ImageStore(path)


def add(store: ImageStore, name: str, *layers: bytes) -> None:
    with BlobStore(store.data_dir) as blobs:
        store.add(name, put_image(blobs, layers))


SAME = (member("same", b"s"), member("d"), member("d/in", b"i" * 3000), symlink("l", "d"))


def test_what_differs(store: ImageStore) -> None:
    with_attribute, data = member("attribute", b"x")
    with_attribute.pax_headers = {"SCHILY.xattr.user.a": "1"}
    add(store, "one", tar_of(
        *SAME, member("gone"), member("gone/below", b"x"), member("content", b"a" * 2000), member("size", b"1"),
        member("mode", b"x", mode=0o600), member("time", b"x"), symlink("link", "a"), member("kind", b"x"),
        member("attribute", b"x"), member("h", b"x"),
    ))  # fmt: skip
    add(store, "two", tar_of(*SAME), tar_of(
        member("content", b"a" * 1999 + b"b"), member("size", b"12"), member("mode", b"x", mode=0o640),
        member("time", b"x", mtime=5), symlink("link", "b"), member("kind"), (with_attribute, data),
        member("new"), member("new/below", b"x"), member("h0", b"x"), hardlink("h", "h0"),
    ))  # fmt: skip
    found = {d.path.decode(): (d.kind, d.what) for d in compare(store, "one", "two")}
    assert found == {
        "attribute": ("C", ("attributes",)), "content": ("C", ("content",)), "gone": ("D", ()), "h0": ("A", ()),
        "kind": ("C", ("type",)), "link": ("C", ("target",)), "mode": ("C", ("mode",)), "new": ("A", ()),
        "size": ("C", ("size",)), "time": ("C", ("time",)),
    }  # fmt: skip
    assert {d.kind for d in compare(store, "two", "one")} == {"A", "C", "D"}
    assert list(compare(store, "one", "one")) == []


def test_the_same_files_in_other_layers_are_the_same(store: ImageStore) -> None:
    add(store, "one", tar_of(*SAME))
    add(store, "two", *(tar_of(entry) for entry in SAME))
    add(store, "gnu", tar_of(*SAME, format=tarfile.GNU_FORMAT))
    assert list(compare(store, "one", "two")) == []
    assert list(compare(store, "gnu", "two")) == []
    assert all(isinstance(d, Difference) for d in compare(store, "one", "two"))
