"""One image through docker-registry and through archives, between kist, skopeo, podman and docker: the same digests.

The registry is Debian's: plain; with TLS of a private authority and passwords, which only `kist login` is given.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engines
from containers import inside, kist, needs_root
from engines import Engine
from images import busybox_layer, member, put_image, tar_of
from kist.spec.image import ContainerConfig
from kist.store.blobs import BlobStore
from kist.store.images import Image, ImageStore
from registries import docker_registry, make_certificates

pytestmark = needs_root
_NEEDED = ("docker-registry", "skopeo", "podman", "dockerd", "docker", "htpasswd", "openssl")
Tool = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    if missing := [program for program in _NEEDED if not shutil.which(program)]:
        pytest.skip(f"needs {', '.join(missing)}: Debian has packages")


@pytest.fixture(scope="module")
def docker(rootfs: Path) -> Iterator[Engine]:
    """A dockerd of our own, which takes any certificate of a registry on loopback."""
    with engines.docker(rootfs) as engine:
        yield engine


@pytest.fixture(scope="module")
def podman() -> Iterator[Tool]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="kist") as path:  # it takes 50 characters at most
        base = ["podman", "--root", f"{path}/root", "--runroot", f"{path}/run", "--storage-driver", "vfs"]
        yield lambda *argv: tool(*base, *argv)


def tool(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def ok(*argv: str, **kwargs) -> str:
    done = kist(*argv, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def image() -> Image:
    box = busybox_layer()
    if box is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    top = tar_of(member("file", b"hello\n"), member("gone", b"x"))
    with BlobStore() as blobs:
        root = put_image(
            blobs, [box, top, tar_of(member(".wh.gone", b""))], config=ContainerConfig(cmd=("cat", "/file"))
        )
        return ImageStore().add("team/app:1", root)


class Registry:
    """`certificates` is a directory with its authority, "" for the system's."""

    def __init__(self, host: str, certificates: str) -> None:
        self.host, self.certificates = host, certificates

    def trusted(self, side: str = "") -> list[str]:
        """Flags of podman's and skopeo's, which has two sides of a copy."""
        return [f"--{side}cert-dir={self.certificates}"] if self.certificates else [f"--{side}tls-verify=false"]


@pytest.fixture(params=["plain", "tls and password"])
def registry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "docker/config.json"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text("{}")
    more = ""
    guarded = request.param != "plain"
    if guarded:
        certificates = make_certificates(tmp_path / "ca")
        more = f"  tls:\n    certificate: {certificates}/server.crt\n    key: {certificates}/server.key\n"
        made = subprocess.run(["htpasswd", "-Bbn", "anna", "s3cret"], capture_output=True, check=True)
        (tmp_path / "htpasswd").write_bytes(made.stdout)
        more += f"auth:\n  htpasswd:\n    realm: tests\n    path: {tmp_path}/htpasswd"
    with docker_registry(tmp_path / "registry", more) as host:
        trusted = ""
        if guarded:
            trusted = str(tmp_path / "config/containers/certs.d" / host)
            os.makedirs(trusted)
            shutil.copy(tmp_path / "ca/ca.crt", trusted)
            ok("login", "-u", "anna", "--password-stdin", host, input="s3cret")
        yield Registry(host, trusted)


def test_every_engine_gets_the_same_image(
    image: Image, registry: Registry, tmp_path: Path, docker: Engine, podman: Tool
) -> None:
    name = f"{registry.host}/team/app"
    ok("save", "--format", "oci-dir", "-o", str(tmp_path / "layout"), image.id)
    tool("skopeo", "copy", *registry.trusted("dest-"), f"oci:{tmp_path}/layout", f"docker://{name}:skopeo")
    ok("rmi", "team/app:1")
    assert f"Digest: {image.digest}\n" in ok("pull", f"{name}:skopeo")
    ok("tag", f"{name}:skopeo", f"{name}:kist")
    assert f"digest: {image.digest} " in ok("push", f"{name}:kist")

    tool("skopeo", "copy", *registry.trusted("src-"), f"docker://{name}:kist", f"dir:{tmp_path}/dir")
    assert f"sha256:{hashlib.sha256((tmp_path / 'dir/manifest.json').read_bytes()).hexdigest()}" == image.digest
    podman("pull", "--quiet", *registry.trusted(), f"{name}:kist")
    found = json.loads(podman("image", "inspect", f"{name}:kist"))[0]
    assert (found["Digest"], f"sha256:{found['Id']}") == (image.digest, image.id)
    docker("pull", "--quiet", f"{name}:kist")
    found = json.loads(docker("image", "inspect", f"{name}:kist").stdout)[0]
    assert (found["RepoDigests"], found["Id"]) == ([f"{name}@{image.digest}"], image.id)
    assert docker("run", "--rm", "--network", "none", f"{name}:kist").stdout == "hello\n"

    docker("tag", f"{name}:kist", f"{name}:docker")
    docker("push", "--quiet", f"{name}:docker")
    podman("push", "--quiet", *registry.trusted(), f"{name}:kist", f"docker://{name}:podman")
    ok("rmi", "--force", image.id)
    for tag in ("docker", "podman"):
        ok("pull", "-q", f"{name}:{tag}")
        assert ImageStore().get(f"{name}:{tag}").id == image.id
        digest = json.loads(tool("skopeo", "inspect", *registry.trusted(), f"docker://{name}:{tag}"))["Digest"]
        assert ImageStore().get(f"{name}:{tag}").digest == digest
        assert inside(f"{name}:{tag}") == "hello\n"
        assert "gone" not in inside(f"{name}:{tag}", "ls", "/")
    docker("rmi", "--force", image.id)


@pytest.mark.parametrize("compression", ["zstd", "zstd:chunked"])
def test_what_podman_compresses_with_zstd(image: Image, tmp_path: Path, podman: Tool, compression: str) -> None:
    with docker_registry(tmp_path / "registry") as host:
        name = f"{host}/{compression.replace(':', '-')}"
        ok("save", "-o", str(tmp_path / "app.tar"), "team/app:1")
        podman("load", "--quiet", "-i", str(tmp_path / "app.tar"))
        flags = ("--tls-verify=false", "--format", "oci", "--compression-format", compression)
        podman("push", "--quiet", *flags, "docker.io/team/app:1", f"docker://{name}")
        podman("rmi", "docker.io/team/app:1")
        ok("pull", "-q", name)
        made = ImageStore().get(name)
        assert {layer.media_type.partition("+")[2] for layer in made.layers} == {"zstd"}
        assert [layer.diff_id for layer in made.layers] == [layer.diff_id for layer in image.layers]
        ok("rmi", "team/app:1")
        assert inside(name) == "hello\n"


def test_docker_loads_and_saves_several_images(image: Image, tmp_path: Path, docker: Engine) -> None:
    ok("tag", image.id, "other/name:2")
    with BlobStore() as blobs:
        second = ImageStore().add("second:1", put_image(blobs, [tar_of(member("only", b"1"))]))
    saved, back = tmp_path / "saved.tar", tmp_path / "back.tar"
    ok("save", "-o", str(saved), "team/app:1", "other/name:2", "second:1")
    docker("load", "--quiet", "-i", str(saved))
    listed = docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").stdout
    ids = dict(line.split() for line in listed.splitlines())
    assert (ids["team/app:1"], ids["other/name:2"], ids["second:1"]) == (image.id, image.id, second.id)
    for name, id in (("other/name:2", image.id), ("second:1", second.id)):
        source = f"docker-archive:{saved}:docker.io/{name if '/' in name else f'library/{name}'}"
        config = tool("skopeo", "inspect", "--config", "--raw", source)
        assert f"sha256:{hashlib.sha256(config.encode()).hexdigest()}" == id
    docker("save", "-o", str(back), "team/app:1", "other/name:2", "second:1")
    ok("rmi", "--force", image.id, second.id)
    loaded = ok("load", "-i", str(back)).splitlines()
    assert sorted(loaded) == [f"Loaded image: {name}" for name in ("other/name:2", "second:1", "team/app:1")]
    assert (ImageStore().get("other/name:2").id, ImageStore().get("second:1").id) == (image.id, second.id)
    assert inside("team/app:1") == "hello\n"
    docker("rmi", "--force", image.id, second.id)


def test_a_container_of_dockers_becomes_an_image(image: Image, tmp_path: Path, docker: Engine) -> None:
    ok("save", "-o", str(tmp_path / "app.tar"), "team/app:1")
    docker("load", "--quiet", "-i", str(tmp_path / "app.tar"))
    id = docker("create", "--network", "none", "team/app:1").stdout.strip()
    docker("export", "-o", str(tmp_path / "root.tar"), id)
    docker("rm", id)
    docker("rmi", "--force", image.id)
    ok("import", str(tmp_path / "root.tar"), "exported")
    assert inside("exported", "cat", "/file") == "hello\n"
