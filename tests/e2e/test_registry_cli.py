"""kist pull, push, login, logout and run against Debian's docker-registry."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import KIST, kist
from faults import Exchange, Rule, proxy
from images import ARCHITECTURE, busybox_layer, member, put_image, tar_of
from kist.codec import dumps, plain
from kist.registry.client import Client
from kist.spec.image import INDEX, MANIFEST, Index
from kist.spec.manifests import parse_platform
from kist.spec.reference import parse_reference
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore
from kist.value import replace
from registries import docker_registry, needs_registry, needs_skopeo, skopeo
from terminal import Terminal

pytestmark = needs_registry


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def image(run_dir: Path, host: str) -> str:
    layer = busybox_layer()
    if layer is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    name = f"{host}/team/box:1"
    with BlobStore() as blobs:
        ImageStore().add(name, put_image(blobs, [layer, layer]))
    return name


def ok(*argv: str, **options: object) -> str:
    done = kist(*argv, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_push_remove_pull_and_run(image: str) -> None:
    digest = ImageStore().get(image).digest
    assert f"digest: {digest}" in ok("push", image)
    ok("rmi", image)
    out = ok("pull", image)
    assert f"Digest: {digest}" in out and "Downloaded newer image" in out and out.splitlines()[-1] == image
    assert "up to date" in ok("pull", image)
    assert ok("pull", "--quiet", image) == f"{image}\n"
    assert ok("run", "--rm", image, "echo", "hello") == "hello\n"


def test_run_pulls_what_is_missing(image: str) -> None:
    ok("push", "-q", image)
    ok("rmi", image)
    done = kist("run", "--rm", "--pull", "never", image, "true")
    assert done.returncode == 125 and "no such image" in done.stderr
    done = kist("run", "--rm", image, "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n") and f"{image} is not here: pulling" in done.stderr
    done = kist("run", "--rm", image, "echo", "again")
    assert done.stdout == "again\n" and "pulling" not in done.stderr
    assert "already there" in kist("run", "--rm", "--pull", "always", image, "true").stderr


def test_a_digest_is_a_name_too(image: str) -> None:
    digest = ImageStore().get(image).digest
    ok("push", "-q", image)
    ok("rmi", image)
    name = f"{image.rpartition(':')[0]}@{digest}"
    assert ok("pull", "-q", name) == f"{name}\n"
    assert ok("run", "--rm", name, "echo", "hello") == "hello\n"
    repository = image.rpartition(":")[0]
    shown = ok("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}")
    assert shown == f"{repository} <none> {digest}\n"
    assert ok("image", "inspect", "--format", "{{json .RepoTags}} {{json .RepoDigests}}", name) == f'[] ["{name}"]\n'
    assert "deleted" not in ok("image", "prune", "--force")  # it has a name
    ok("tag", name, image)
    assert ok("images", "--format", "{{.Tag}}") == "1\n"
    assert ok("rmi", f"{repository}:other@{digest}") == f"Untagged: {name}\n"
    assert ok("images", "--format", "{{.Repository}}:{{.Tag}}") == f"{image}\n"
    assert ok("run", "--rm", name, "echo", "again") == "again\n"


def test_all_tags(image: str) -> None:
    repository = f"{image.rpartition(':')[0]}-tags"
    names = [f"{repository}:{tag}" for tag in ("1", "2", "latest")]
    for name in names:
        ok("tag", image, name)
    assert ok("push", "-q", "--all-tags", repository).split() == names
    assert "contradicts a tag" in kist("push", "-a", names[0]).stderr
    assert "no-image" in kist("push", "-a", f"{repository}-none").stderr
    ok("rmi", "--force", image, *names)
    assert sorted(ok("pull", "-q", "--all-tags", repository).split()) == names
    assert set(names) <= set(ok("images", "--format", "{{.Repository}}:{{.Tag}}").split())
    assert "contradicts a tag" in kist("pull", "-a", names[0]).stderr
    with BlobStore() as blobs:  # an image of which kist makes nothing does not stand in the way of the others
        config = blobs.put(b"{}", "application/vnd.example.config")
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": plain(config), "layers": []}
        odd = blobs.put(json.dumps(document).encode(), MANIFEST)
        with Client() as client:
            client.push(parse_reference(f"{repository}:odd"), blobs, odd)
    done = kist("pull", "-q", "-a", repository)
    assert done.returncode == 125 and sorted(done.stdout.split()) == names and "[not-an-image]" in done.stderr


def test_what_is_not_there(image: str, host: str) -> None:
    done = kist("pull", f"{host}/none")
    assert done.returncode == 125 and "not-in-registry" in done.stderr and "manifest unknown" in done.stderr
    done = kist("run", "--rm", f"{host}/none", "true")
    assert done.returncode == 125 and "cannot pull" in done.stderr
    assert kist("pull", "Debian").returncode == 125
    assert "no-image" in kist("push", f"{host}/none").stderr
    assert "no-platform" not in kist("pull", "--platform", "linux/s390x", image).stderr


def test_the_platform_of_an_image(host: str, run_dir: Path) -> None:
    """A 64-bit x86 runs 32-bit images as well, and says that they are for another machine when it is asked."""
    layer = busybox_layer()
    if layer is None or ARCHITECTURE != "amd64":
        pytest.skip("needs busybox, on x86_64: apt-get install busybox-static")
    name = f"{host}/team/platforms"
    platforms = ("linux/amd64", "linux/386", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8")
    with BlobStore() as blobs, Client() as client:
        entries = []
        for text in platforms:
            platform = parse_platform(text)
            own = tar_of(member("platform", text.encode()))
            made = put_image(blobs, [layer, own], architecture=platform.architecture)
            entries.append(replace(made, platform=platform))
        index = blobs.put(dumps(Index(2, tuple(entries), INDEX)).encode(), INDEX)
        client.push(parse_reference(name), blobs, index)
    ImageStore().gc()

    def which(*flags: str) -> str:
        return ok("run", "--rm", "-q", *flags, name, "cat", "/platform")

    assert which() == "linux/amd64"
    assert which("--platform", "386") == "linux/386"
    assert which() == "linux/386"  # the one that is here now
    refused = kist("run", "--rm", "--pull", "never", "--platform", "linux/x86_64", name, "true")
    assert refused.returncode == 125 and "the one that is here is for linux/386" in refused.stderr
    assert which("--platform", "linux/x86_64") == "linux/amd64"
    assert "is not here: pulling it" not in kist("run", "--rm", "--platform", "linux/amd64", name, "true").stderr
    for asked, entry in zip(("linux/arm/v6", "linux/arm/v7", "arm64"), entries[2:], strict=True):
        ok("pull", "-q", "--platform", asked, name)
        assert ImageStore().get(name).manifest == entry.digest
    assert "linux/s390x" in kist("run", "--rm", "--platform", "linux/s390x", name, "true").stderr
    assert "bad-platform" in kist("run", "--rm", "--platform", "a/b/c/d", name, "true").stderr


def test_on_a_terminal(image: str) -> None:
    ok("push", "-q", image)
    ok("rmi", image)
    terminal = Terminal([*KIST, "pull", image])
    terminal.expect("\x1b\\[J.*pulled .*Status: Downloaded")
    assert terminal.wait() == 0


@needs_skopeo
def test_skopeo_sees_the_same_image(image: str, tmp_path: Path) -> None:
    ok("push", "-q", image)
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{image}"))
    assert shown["Digest"] == ImageStore().get(image).digest
    skopeo("copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{image}", f"docker://{image}-copy")
    ok("pull", "-q", f"{image}-copy")
    assert ImageStore().get(f"{image}-copy").digest == ImageStore().get(image).digest


def test_login_and_logout(tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = subprocess.run(["htpasswd", "-Bbn", "anna", "s3cret"], capture_output=True, check=True)
    (tmp_path / "htpasswd").write_bytes(made.stdout)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    auth = f"auth:\n  htpasswd:\n    realm: tests\n    path: {tmp_path}/htpasswd"
    with docker_registry(tmp_path / "registry", auth) as host:
        assert f"kist login {host}" in kist("pull", f"{host}/app").stderr
        done = kist("login", "-u", "anna", "--password-stdin", host, input="wrong\n")
        assert done.returncode == 125 and "unauthorized" in done.stderr and "wrong" not in done.stderr
        done = kist("login", "-u", "anna", "--password-stdin", host, input="s3cret\n")
        assert done.returncode == 0 and done.stdout == "Login Succeeded\n", done.stderr
        assert os.stat(tmp_path / "docker/config.json").st_mode & 0o777 == 0o600
        assert "not-in-registry" in kist("pull", f"{host}/app").stderr
        assert ok("logout", host) == f"Removing login credentials for {host}\n"
        assert ok("logout", host) == f"Not logged in to {host}\n"
        assert "unauthorized" in kist("pull", f"{host}/app").stderr


class Half:
    """Sends half of a blob, says so, and waits until the client has gone."""

    def __init__(self) -> None:
        self.sent = threading.Event()

    def __call__(self, e: Exchange) -> None:
        code, headers, body = e.forward()
        e.send((code, headers, body[: len(body) // 2]), len(body))
        self.sent.set()
        e.until_gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_pull_that_is_killed_leaves_no_image_and_the_next_one_continues(image: str, host: str, number: int) -> None:
    blob = max(ImageStore().get(image).layers, key=lambda layer: layer.size)
    ok("push", "-q", image)
    ok("rmi", image)
    half, ranges = Half(), list[str]()

    def note(e: Exchange) -> None:
        ranges.append(e.handler.headers.get("Range", ""))
        e.send(e.forward())

    with proxy(host, Rule(f"GET .*{blob.digest}", half, times=1), Rule(f"GET .*{blob.digest}", note)) as front:
        name = image.replace(host, front)
        process = subprocess.Popen([*KIST, "pull", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert half.sent.wait(60)
            partial = Path(os.environ["KIST_DATA_DIR"], "ingest", blob.digest.replace(":", "-"))
            while not (partial.exists() and partial.stat().st_size == blob.size // 2):
                assert process.poll() is None  # what was sent is on its way through two sockets
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == (130 if number == signal.SIGINT else -9), err
        assert b"Traceback" not in err
        assert name not in kist("images", "--format", "{{.Repository}}:{{.Tag}}").stdout
        assert ok("run", "--rm", name, "echo", "whole") == "whole\n"
    assert ranges == [f"bytes={blob.size // 2}-"]


def test_two_pulls_at_once_fetch_each_blob_once(image: str, host: str) -> None:
    ok("push", "-q", image)
    ok("rmi", image)
    every = Rule("GET .*/blobs/", lambda e: e.send(e.forward()))
    with proxy(host, every) as front:
        name = image.replace(host, front)
        running = [subprocess.Popen([*KIST, "pull", "-q", name], stdout=subprocess.PIPE, text=True) for _ in range(3)]
        for process in running:
            out, _ = process.communicate(timeout=120)
            assert (process.returncode, out) == (0, f"{name}\n")
    assert every.hits == 2  # the configuration and the layer, which is there twice
