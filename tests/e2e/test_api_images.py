"""Images from Python: `kist.pull` and its like."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import kist
from images import ARCHITECTURE, busybox_layer, member, put_image, tar_of
from kist.errors import Conflict, InvalidInput, NotFound, Unauthorized
from kist.spec.image import ContainerConfig
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore
from registries import docker_registry, needs_registry


@pytest.fixture
def image(run_dir: Path) -> kist.Image:
    box = busybox_layer()
    if box is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    config = ContainerConfig(entrypoint=("cat",), cmd=("/file",), env=("A=1",), labels={"k": "v"}, working_dir="/srv")
    with BlobStore() as blobs:
        ImageStore().add("app", put_image(blobs, [box, tar_of(member("file", b"hello\n"))], config=config))
    return kist.image("app")


def test_what_an_image_is(image: kist.Image) -> None:
    assert (image.names, image.platform, len(image.layers)) == (("app:latest",), f"linux/{ARCHITECTURE}", 2)
    assert (image.entrypoint, image.command, image.env) == (("cat",), ("/file",), ("A=1",))
    assert (image.labels, image.workdir, image.user, image.created) == ({"k": "v"}, "/srv", "", "2024-01-02T03:04:05Z")
    assert kist.images() == [image] == [kist.image(image.id[7:20])]
    assert kist.run([], image=image.id).stdout == "hello\n"


def test_names(image: kist.Image) -> None:
    assert kist.tag("app", "other/name:2").names == ("app:latest", "other/name:2")
    with pytest.raises(Conflict):
        kist.remove_image(image.id)
    assert kist.remove_image("other/name:2") == kist.Removed(("other/name:2",), ())
    assert kist.remove_image("app") == kist.Removed(("app:latest",), (image.id,))
    with pytest.raises(NotFound, match="no such image: app"):
        kist.image("app")
    assert kist.images() == []


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive", "oci-dir", "dir"])
def test_archives(image: kist.Image, tmp_path: Path, format: str) -> None:
    path = str(tmp_path / "saved")
    kist.save("app", path, format=format)
    kist.remove_image("app")
    (again,) = kist.load(path)
    assert (again.id, again.digest) == (image.id, image.digest)
    assert again.names == (() if format == "dir" else ("app:latest",))


def test_a_root_file_system(tmp_path: Path, run_dir: Path) -> None:
    (tmp_path / "root.tar").write_bytes(tar_of(member("etc"), member("etc/motd", b"hi")))
    made = kist.import_image(str(tmp_path / "root.tar"), "made")
    assert made.names == ("made:latest",) and len(made.layers) == 1
    with pytest.raises(Conflict):
        kist.import_image(str(tmp_path / "root.tar"), "made")
    with pytest.raises(InvalidInput, match="oci-archive"):
        kist.save("made", str(tmp_path / "x"), format="zip")
    assert not list(tmp_path.glob("x*"))


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    made = subprocess.run(["htpasswd", "-Bbn", "anna", "s3cret"], capture_output=True, check=True)
    (tmp_path / "htpasswd").write_bytes(made.stdout)
    auth = f"auth:\n  htpasswd:\n    realm: tests\n    path: {tmp_path}/htpasswd"
    with docker_registry(tmp_path / "registry", auth) as host:
        yield host


@needs_registry
def test_registries(image: kist.Image, guarded: str) -> None:
    name, anna = f"{guarded}/app:1", ("anna", "s3cret")
    kist.tag("app", name)
    with pytest.raises(Unauthorized):
        kist.push(name)
    assert kist.push(name, credentials=anna) == image.digest
    kist.remove_image(image.id, force=True)
    told: dict[str, tuple[int, int]] = {}
    lock = threading.Lock()

    def progress(digest: str, done: int, size: int) -> None:
        with lock:
            told[digest] = (done, size)

    pulled = kist.pull(name, credentials=anna, progress=progress)
    assert (pulled.id, pulled.names) == (image.id, (name,))
    assert len(told) == 3 and all(done == size for done, size in told.values())
    with pytest.raises(NotFound):
        kist.pull(f"{guarded}/none", credentials=anna)


def test_the_public_names_are_there() -> None:
    assert all(hasattr(kist, name) for name in kist.__all__)
    with pytest.raises(AttributeError):
        kist.nothing  # noqa: B018
