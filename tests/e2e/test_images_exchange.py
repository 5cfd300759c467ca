"""`kist save` and `kist load` with each other, with skopeo and with podman, both ways: same ids, names and files."""

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import inside, kist, needs_root
from images import ARCHITECTURE, busybox_layer, digest_of, member, put_image, tar_of
from kist.codec import dumps
from kist.spec.image import CONFIG, INDEX, MANIFEST, ContainerConfig, Index, Manifest, Platform
from kist.store.blobs import BlobStore
from kist.store.images import Image, ImageStore
from kist.value import replace

Switch = Callable[[str], None]


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Switch:
    """Go on with another, empty store."""
    return lambda name: monkeypatch.setenv("KIST_DATA_DIR", str(tmp_path / name))


@pytest.fixture
def image() -> Image:
    box = busybox_layer()
    if box is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    with BlobStore() as blobs:
        config = ContainerConfig(env=("A=1",), cmd=("cat", "/file"), labels={"k": "v"})
        root = put_image(blobs, [box, tar_of(member("file", b"hello\n"))], config=config)
        return ImageStore().add("team/app:1", root)


def needs(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"needs {program}: apt-get install {program}")


def tool(*argv: str, **kwargs) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def podman() -> Iterator[Callable[..., str]]:
    needs("podman")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="kist") as path:  # it takes 50 characters at most
        base = ["podman", "--root", f"{path}/root", "--runroot", f"{path}/run", "--storage-driver", "vfs"]
        yield lambda *argv, **kwargs: tool(*base, *argv, **kwargs)


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive", "oci-dir"])
def test_what_is_saved_loads_with_all_its_digests(image: Image, switch: Switch, tmp_path: Path, format: str) -> None:
    target = str(tmp_path / "saved")
    assert kist("tag", "team/app:1", "other:2").returncode == 0
    done = kist("save", "--format", format, "-o", target, "team/app:1", "other:2")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("saved*")] == ["saved"]
    switch("second")
    done = kist("load", "-i", target)
    assert done.stdout == "Loaded image: team/app:1\nLoaded image: other:2\n", done.stderr
    again = ImageStore().get("team/app:1")
    assert (again.id, again.digest, again.layers) == (image.id, image.digest, image.layers)
    assert again.names == ("other:2", "team/app:1")
    assert inside("other:2") == "hello\n"


def test_a_pipe_and_the_same_bytes_twice(image: Image, tmp_path: Path, switch: Switch) -> None:
    first, second = (subprocess.run(["env", *_command("save", image.id)], capture_output=True).stdout for _ in "12")
    assert first == second
    switch("second")
    assert kist("load", input="").returncode == 125
    done = subprocess.run(_command("load", "-q"), input=first, capture_output=True, text=False)
    assert done.stdout.decode() == f"{image.id}\n"


def _command(*argv: str) -> list[str]:
    from containers import KIST

    return [*KIST, *argv]


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
def test_skopeo_takes_and_gives(image: Image, switch: Switch, tmp_path: Path, format: str) -> None:
    needs("skopeo")
    saved, back = tmp_path / "saved.tar", tmp_path / "back.tar"
    assert kist("save", "--format", format, "-o", str(saved), "team/app:1").returncode == 0
    found = json.loads(tool("skopeo", "inspect", "--config", f"{format}:{saved}"))
    assert found["config"]["Env"] == ["A=1"]
    tool("skopeo", "copy", f"{format}:{saved}", f"{format}:{back}:docker.io/team/app:back")
    switch("second")
    done = kist("load", "-i", str(back))
    assert done.stdout == "Loaded image: team/app:back\n", done.stderr
    assert ImageStore().get("team/app:back").id == image.id
    assert inside("team/app:back") == "hello\n"


def test_a_dir_as_skopeo_has_it(image: Image, switch: Switch, tmp_path: Path) -> None:
    needs("skopeo")
    saved, back = tmp_path / "saved", tmp_path / "back"
    assert kist("save", "--format", "dir", "-o", str(saved), "team/app:1").returncode == 0
    tool("skopeo", "copy", f"dir:{saved}", f"dir:{back}")
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == {p.name: p.read_bytes() for p in back.iterdir()}
    assert "one image" in kist("save", "--format", "dir", "-o", f"{saved}2", "team/app:1", image.id).stderr
    switch("second")
    done = kist("load", "-i", str(back))
    assert done.stdout == f"Loaded image ID: {image.id}\n", done.stderr
    assert ImageStore().get(image.id).digest == image.digest
    assert inside(image.id) == "hello\n"
    (back / "version").unlink()
    (back / "manifest.json").write_text("[]")
    done = kist("load", "-i", str(back))
    assert done.returncode == 125 and "tar -C" in done.stderr


def test_a_dir_of_several_platforms(image: Image, switch: Switch, tmp_path: Path) -> None:
    """Its index is manifest.json; the layers of other platforms are there too."""
    needs("skopeo")
    with BlobStore() as blobs:
        other = put_image(blobs, [tar_of(member("other", b"x"))], architecture="s390x")
        entries = [
            {"mediaType": d.media_type, "digest": d.digest, "size": d.size,
             "platform": {"os": "linux", "architecture": name}}
            for d, name in ((ImageStore().root(image.manifest), ARCHITECTURE), (other, "s390x"))
        ]  # fmt: skip
        index = blobs.put(dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode(), INDEX)
        assert ImageStore().add("multi", index).id == image.id
        assert kist("save", "--format", "dir", "-o", str(tmp_path / "saved"), "multi").returncode == 0
    tool("skopeo", "copy", "--all", f"dir:{tmp_path}/saved", f"dir:{tmp_path}/back")
    assert {p.name for p in (tmp_path / "saved").iterdir()} == {p.name for p in (tmp_path / "back").iterdir()}
    switch("second")
    done = kist("load", "-i", str(tmp_path / "back"))
    assert done.stdout == f"Loaded image ID: {image.id}\n", done.stderr
    assert ImageStore().get(image.id).digest == index.digest


@pytest.mark.parametrize("format", ["docker-archive", "oci-dir", "dir"])
def test_an_index_with_an_attestation(image: Image, switch: Switch, tmp_path: Path, format: str) -> None:
    """As docker buildx writes it: a manifest for no platform, whose layer is a statement."""
    with BlobStore() as blobs:
        statement = blobs.put(b'{"_type": "https://in-toto.io/Statement/v0.1"}', "application/vnd.in-toto+json")
        note = blobs.put(dumps(Manifest(2, blobs.put(b"{}", CONFIG), (statement,), MANIFEST)).encode(), MANIFEST)
        unknown = Platform("unknown", "unknown")
        root = replace(ImageStore().root(image.manifest), platform=Platform(ARCHITECTURE, "linux"))
        index = blobs.put(dumps(Index(2, (root, replace(note, platform=unknown)), INDEX)).encode(), INDEX)
        assert ImageStore().add("built", index).id == image.id
        assert kist("save", "--format", format, "-o", str(tmp_path / "saved"), "built").returncode == 0
    switch("second")
    done = kist("load", "-q", "-i", str(tmp_path / "saved"))
    assert done.stdout == f"{image.id}\n", done.stderr
    assert ImageStore().get(image.id).digest == index.digest
    assert inside(image.id) == "hello\n"


def test_skopeo_reads_the_store_itself(image: Image) -> None:
    needs("skopeo")
    layout = os.environ["KIST_DATA_DIR"]
    assert json.loads(tool("skopeo", "inspect", f"oci:{layout}:team/app:1"))["Digest"] == image.digest


@needs_root
@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
def test_podman_takes_and_gives(
    image: Image, switch: Switch, tmp_path: Path, format: str, podman: Callable[..., str]
) -> None:
    saved, back = tmp_path / "saved.tar", tmp_path / "back.tar"
    assert kist("save", "--format", format, "-o", str(saved), "team/app:1").returncode == 0
    podman("load", "-i", str(saved))
    assert image.id.partition(":")[2] in podman("images", "--no-trunc", "--quiet")
    podman("save", "--format", format, "-o", str(back), "docker.io/team/app:1")
    switch("second")
    done = kist("load", "-i", str(back))
    assert done.stdout == "Loaded image: team/app:1\n", done.stderr
    assert ImageStore().get("team/app:1").id == image.id
    assert inside("team/app:1") == "hello\n"


def test_dockers_older_form(switch: Switch, tmp_path: Path) -> None:
    """A directory for each layer; two layers that are one are a symlink, as docker 1.10 to 24 wrote them."""
    switch("older")
    box, top = busybox_layer() or tar_of(member("d")), tar_of(member("file", b"hello\n"))
    config = dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine),
            "os": "linux",
            "config": {"Cmd": ["cat", "/file"], "Labels": None},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(box), digest_of(top), digest_of(top)]},
        }
    ).encode()
    manifest = [
        {"Config": "c.json", "RepoTags": ["old:1", "old:2"], "Layers": ["a/layer.tar", "b/layer.tar", "e/layer.tar"]}
    ]
    link = tarfile.TarInfo("e/layer.tar")
    link.type, link.linkname = tarfile.SYMTYPE, "../b/layer.tar"
    archive = tar_of(
        (link, b""), member("a/layer.tar", box), member("b/layer.tar", top), member("a/VERSION", b"1.0"),
        member("c.json", config), member("manifest.json", dumps(manifest).encode()), member("repositories", b"{}"),
    )  # fmt: skip
    path = tmp_path / "old.tar"
    path.write_bytes(archive)
    done = kist("load", "-i", str(path))
    assert done.stdout == "Loaded image: old:1\nLoaded image: old:2\n", done.stderr
    assert ImageStore().get("old:1").id == digest_of(config)
    if busybox_layer():
        assert inside("old:2") == "hello\n"


@pytest.mark.parametrize("cut", [0, 100, 512, 1500, 3000, 6000, -600])
def test_what_is_cut_off_names_nothing(image: Image, switch: Switch, tmp_path: Path, cut: int) -> None:
    saved = tmp_path / "saved.tar"
    assert kist("save", "-o", str(saved), "team/app:1").returncode == 0
    data = saved.read_bytes()
    saved.write_bytes(data[: cut if cut >= 0 else len(data) // 2])
    switch("second")
    done = kist("load", "-i", str(saved))
    assert done.returncode == 125
    assert "bug" not in done.stderr
    assert ImageStore().list() == []


def test_other_archives_are_no_images(switch: Switch, tmp_path: Path) -> None:
    switch("none")
    path = tmp_path / "rootfs.tar"
    path.write_bytes(tar_of(member("etc"), member("etc/passwd", b"root:x:0:0::/:/bin/sh\n")))
    done = kist("load", "-i", str(path))
    assert done.returncode == 125
    assert "kist import" in done.stderr


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda members: {**members, "manifest.json": b"{"}, "json"),
        (lambda members: {**members, "manifest.json": b"{}"}, "bad-image"),
        (lambda members: {**members, "manifest.json": b'[{"Config":"../../etc/passwd"}]'}, "tar-escape"),
        (lambda members: {**members, "manifest.json": b'[{"Config":"/etc/passwd"}]'}, "bad-image"),
        (lambda members: {**members, "l.tar": tar_of(member("other", b"x"))}, "digest-mismatch"),
        (lambda members: {**members, "blobs/sha256/" + "0" * 64: b"wrong"}, "digest-mismatch"),
        (lambda members: {**members, "blobs/sha256/0": b"wrong"}, "bad-digest"),
        (lambda members: {**members, "blobs/md5/" + "0" * 32: b"wrong"}, "bad-digest"),
        (lambda members: {**members, "index.json": b'{"schemaVersion":2,"manifests":[{"mediaType":"x/y","digest":'
                          b'"sha256:' + b"1" * 64 + b'","size":1}]}'}, ""),
    ],
)  # fmt: skip
def test_hostile_archives(
    switch: Switch, tmp_path: Path, change: Callable[[dict[str, bytes]], dict[str, bytes]], code: str
) -> None:
    switch("hostile")
    layer = tar_of(member("file", b"x"))
    config = dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}
    )
    whole = {
        "manifest.json": dumps([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l.tar"]}]).encode(),
        "c.json": config.encode(),
        "l.tar": layer,
    }
    path = tmp_path / "x.tar"
    path.write_bytes(tar_of(*(member(name, data) for name, data in whole.items())))
    assert kist("load", "-i", str(path)).returncode == 0  # the control
    assert kist("rmi", "x:1").returncode == 0
    path.write_bytes(tar_of(*(member(name, data) for name, data in change(whole).items())))
    done = kist("load", "-i", str(path))
    assert done.returncode == 125, done.stdout
    assert f"[{code}" in done.stderr
    assert "bug" not in done.stderr
    assert ImageStore().list() == []
