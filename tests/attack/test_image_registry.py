"""Registries that lie, and images that come from them: nothing outside changes, nothing gets a name, and no answer
costs more time or memory than it is worth. The controls are clients that do without the protection."""

import gzip
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import faults
from containers import inside, kist
from images import ARCHITECTURE, busybox_layer, digest_of, measured, member, tar_of
from kist.engine.pull import pull_image
from kist.errors import KistError
from kist.registry.client import Credentials
from kist.spec.image import CONFIG, INDEX, LAYER, MANIFEST, Descriptor
from kist.spec.reference import parse_reference
from kist.store.images import ImageStore
from registries import Blobs, FakeRegistry, Handler, client, server

Document = dict[str, object]
_MEMORY_BYTES = 200 << 20  # what issue 4 allows for any layer
_TIME_S = 300  # for whoever hangs


def described(blob: Descriptor, **changes: object) -> Document:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size, **changes}


class Evil:
    """A registry of one image, app:latest, of which tests change parts."""

    def __init__(self) -> None:
        self.blobs = Blobs()
        self.fake = FakeRegistry(self.blobs)
        self.layer = self.put_layer(tar_of(member("file", b"good")))
        self.config = self.put_config(digest_of(tar_of(member("file", b"good"))))

    def put_layer(self, tar: bytes) -> Descriptor:
        return self.blobs.put(gzip.compress(tar, 9, mtime=0), f"{LAYER}+gzip")

    def put_config(self, *diff_ids: str) -> Descriptor:
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        return self.put({"architecture": ARCHITECTURE, "os": "linux", "rootfs": rootfs}, CONFIG)

    def put(self, document: object, media_type: str) -> Descriptor:
        return self.blobs.put(json.dumps(document).encode(), media_type)

    def manifest(self, **changes: object) -> Document:
        layers = [described(self.layer)]
        document: Document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(self.config),
            "layers": layers,
        }
        return {**document, **changes}

    def serve(self, document: object, media_type: str = MANIFEST) -> None:
        self.fake.tag("latest", self.put(document, media_type))

    def pull(self) -> str:
        """The code of the error, "" if there is none; then the image is app:latest of the store."""
        store = ImageStore()
        with server(self.fake.answer) as host, client() as c:
            try:
                pull_image(store, c, parse_reference(f"{host}/app"))
            except KistError as e:
                assert store.list() == [], "an image came of it"
                return e.code
        return ""


@pytest.fixture
def evil(run_dir: Path) -> Evil:
    return Evil()


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "canary"
    path.write_text("sings")
    before = path.stat()
    yield path
    assert path.read_text() == "sings"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_control_is_an_image(evil: Evil) -> None:
    evil.serve(evil.manifest())
    assert evil.pull() == ""
    (image,) = ImageStore().list()
    assert image.id == evil.config.digest


# --- CVE-2021-41190: one document, two meanings


def test_a_manifest_that_is_an_index_too(evil: Evil) -> None:
    other_layer = evil.put_layer(tar_of(member("file", b"evil")))
    other_config = evil.put_config(digest_of(tar_of(member("file", b"evil"))))
    other = evil.put(evil.manifest(config=described(other_config), layers=[described(other_layer)]), MANIFEST)
    both = {**evil.manifest(), "manifests": [described(other)]}
    del both["mediaType"]
    # The control: who goes by the type and who goes by the fields get different images.
    assert _by_type(both, INDEX) == other.digest
    assert _by_type(both, MANIFEST) == evil.config.digest
    for media_type in (MANIFEST, INDEX):
        evil.serve(both, media_type)
        assert evil.pull() == "bad-image"
        evil.serve({**both, "mediaType": media_type}, media_type)
        assert evil.pull() == "bad-image"
    evil.serve(evil.manifest(), INDEX)  # the type of the answer is another than the document's
    assert evil.pull() == "bad-image"


def _by_type(document: Document, media_type: str) -> object:
    item = document["manifests"][0] if media_type == INDEX else document["config"]  # type: ignore[index]
    return item["digest"]


def test_a_key_that_is_there_twice(evil: Evil) -> None:
    """Go takes keys in any case, and the last one counts; so another client would pull other layers than we do."""
    other = evil.put_layer(tar_of(member("file", b"evil")))
    good = json.dumps(evil.manifest())
    for key, code in (("layers", "json"), ("Layers", "bad-image")):
        text = f'{good[:-1]}, "{key}": [{json.dumps(described(other))}]}}'
        assert _as_go(text)["layers"][0]["digest"] == other.digest  # the control
        evil.fake.tag("latest", evil.blobs.put(text.encode(), MANIFEST))
        assert evil.pull() == code
    inside_of_one = {**evil.manifest(), "layers": [{**described(evil.layer), "Digest": other.digest}]}
    evil.serve(inside_of_one)
    assert evil.pull() == "bad-image"
    evil.serve(evil.manifest(annotations={"Layers": "of a cake"}))  # annotations are anybody's words
    assert evil.pull() == ""


def _as_go(text: str) -> Document:
    return json.loads(text, object_pairs_hook=lambda pairs: {key.lower(): value for key, value in pairs})


# --- CVE-2020-15157: a layer that is elsewhere


def test_urls_of_a_layer_are_not_visited(evil: Evil) -> None:
    told: list[str] = []

    def note(handler: Handler) -> None:
        told.append(handler.headers.get("Authorization", ""))
        handler.reply(200, b"x")

    with server(note) as other:
        for media_type in (evil.layer.media_type, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"):
            away = {"mediaType": media_type, "digest": digest_of(b"x"), "size": 1, "urls": [f"http://{other}/layer"]}
            evil.serve(evil.manifest(layers=[away]))
            with server(evil.fake.answer) as host, client(credentials=Credentials("anna", "s3cret")) as c:
                with pytest.raises(KistError):
                    pull_image(ImageStore(), c, parse_reference(f"{host}/app"))
            assert told == []
            # The control: who follows it shows its credentials to whoever wrote the manifest.
            url = away["urls"][0]  # type: ignore[index]
            asked = urllib.request.Request(url, headers={"Authorization": Credentials("anna", "s3cret").basic})
            urllib.request.urlopen(asked).close()
            assert told and told.pop().startswith("Basic ")
    assert ImageStore().list() == []


# --- CVE-2024-3727: a digest that is a path


def test_a_digest_is_no_path(evil: Evil, canary: Path, tmp_path: Path) -> None:
    way = f"sha256:{'../' * 30}{str(canary).lstrip('/')}"
    for digest in (way, "sha256:", f"sha256:{'0' * 63}/", f"../sha256:{'0' * 64}", f"sha256:{'A' * 64}", "", "md5:0"):
        for changes in (
            {"config": described(evil.config, digest=digest)},
            {"layers": [described(evil.layer, digest=digest)]},
            {"layers": [described(evil.layer), described(evil.layer, digest=digest)]},
        ):
            evil.serve(evil.manifest(**changes))
            assert evil.pull() in ("bad-digest", "bad-image", "invalid-input"), (digest, changes)
        evil.serve({"schemaVersion": 2, "mediaType": INDEX, "manifests": [described(evil.layer, digest=digest)]}, INDEX)
        assert evil.pull() in ("bad-digest", "bad-image", "invalid-input")
    assert not any("canary" in line for line in evil.fake.requests)  # nor was the registry asked for it
    # The control: joined to a directory it is a way out.
    assert (tmp_path / "naive" / way.partition(":")[2]).resolve() == canary


def test_a_digest_in_a_header_is_no_path(evil: Evil, canary: Path) -> None:
    evil.serve(evil.manifest())

    def answer(handler: Handler) -> None:
        if "/manifests/" not in handler.path:
            evil.fake.answer(handler)
            return
        data = json.dumps(evil.manifest()).encode()
        way = f"sha256:{'../' * 30}{str(canary).lstrip('/')}"
        handler.reply(200, data, Content_Type=MANIFEST, Docker_Content_Digest=way)

    with server(answer) as host, client() as c, pytest.raises(KistError) as e:
        pull_image(ImageStore(), c, parse_reference(f"{host}/app"))
    assert e.value.code == "bad-digest"
    assert ImageStore().list() == []


# --- content that is something else


def _swapped(evil: Evil) -> None:
    """A layer of the same size and another content under the good one's digest."""
    data = bytearray(evil.blobs.whole[evil.layer.digest])
    data[4] ^= 1  # the time in gzip's header: it unpacks as before
    assert gzip.decompress(bytes(data)) == gzip.decompress(evil.blobs.whole[evil.layer.digest])  # the control
    evil.blobs.whole[evil.layer.digest] = bytes(data)
    evil.serve(evil.manifest())


def _config_swapped(evil: Evil) -> None:
    data = evil.blobs.whole[evil.config.digest]
    evil.blobs.whole[evil.config.digest] = data.replace(b"linux", b"Linux")
    evil.serve(evil.manifest())


def _smaller(evil: Evil) -> None:
    evil.serve(evil.manifest(layers=[described(evil.layer, size=evil.layer.size - 1)]))


def _larger(evil: Evil) -> None:
    evil.serve(evil.manifest(layers=[described(evil.layer, size=evil.layer.size + 1)]))


def _negative(evil: Evil) -> None:
    evil.serve(evil.manifest(layers=[described(evil.layer, size=-1)]))


def _another_diff_id(evil: Evil) -> None:
    """The blob is what its digest says; the config speaks of another archive, which a scanner may know as harmless."""
    evil.config = evil.put_config(digest_of(tar_of(member("file", b"harmless"))))
    evil.serve(evil.manifest())


def _too_few_diff_ids(evil: Evil) -> None:
    evil.config = evil.put_config()
    evil.serve(evil.manifest())


def _config_is_a_layer(evil: Evil) -> None:
    evil.serve(evil.manifest(config=described(evil.layer, mediaType=CONFIG)))


def _layer_is_the_config(evil: Evil) -> None:
    evil.serve(evil.manifest(layers=[described(evil.config, mediaType=f"{LAYER}+gzip")]))


CONFUSED: dict[str, tuple[Callable[[Evil], None], tuple[str, ...]]] = {
    "a layer of another content": (_swapped, ("digest-mismatch",)),
    "a configuration of another content": (_config_swapped, ("digest-mismatch",)),
    "a layer that is longer than it should be": (_smaller, ("blob-size",)),
    "a layer that is shorter than it should be": (_larger, ("truncated", "blob-size")),
    "a layer of less than nothing": (_negative, ("bad-image",)),
    "a DiffID of another archive": (_another_diff_id, ("digest-mismatch",)),
    "layers without DiffIDs": (_too_few_diff_ids, ("bad-image",)),
    "a configuration that is a layer": (_config_is_a_layer, ("json",)),
    "a layer that is no archive": (_layer_is_the_config, ("not-a-tar", "tar-corrupt", "digest-mismatch")),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFUSED)
def test_content_is_what_was_promised(evil: Evil, name: str) -> None:
    attack, codes = CONFUSED[name]
    attack(evil)
    assert evil.pull() in codes


# --- more than there is


def header(name: str, size: int, type: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, type
    return info.tobuf(tarfile.GNU_FORMAT)


def _zeros() -> bytes:
    """A file of 100 GiB, of which one GiB comes: a mebibyte as it is sent."""
    return gzip.compress(header("zeros", 100 << 30)) + gzip.compress(bytes(16 << 20), 9) * 64


def _pax() -> bytes:
    return gzip.compress(header("pax", 100 << 20, b"x")) + gzip.compress(bytes(10 << 20), 9) * 10


def _holes() -> bytes:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "s",
                        "GNU.sparse.size": str(1 << 60), "GNU.sparse.map": f"{(1 << 60) - 1},1"}  # fmt: skip
    return gzip.compress(tar_of((info, b"x")))


# Entries without end: test_image_layers.py, since up to the limit each of them costs a file.
BOMBS = {"zeros": _zeros, "pax header": _pax, "holes": _holes}


@pytest.mark.parametrize("name", BOMBS)
def test_a_layer_that_explodes(evil: Evil, name: str) -> None:
    bomb = BOMBS[name]()
    evil.layer = evil.blobs.put(bomb, f"{LAYER}+gzip")
    evil.config = evil.put_config(f"sha256:{'1' * 64}")
    evil.serve(evil.manifest())
    error = pulled_within_bounds(evil.fake.answer)
    assert any(code in error for code in ("[tar-bomb]", "[tar-limit]", "[tar-corrupt]")), error
    data = Path(os.environ["KIST_DATA_DIR"])
    assert ImageStore().list() == []
    assert sum(path.lstat().st_blocks * 512 for path in data.rglob("*")) < 64 << 20  # nor is the disk full of it


def test_the_control_runs_out_of_memory() -> None:
    """What unpacks as a whole does not live with as much as kist may take."""
    script = f"import gzip, sys, resource; resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY_BYTES}, {_MEMORY_BYTES})); "
    script += "gzip.decompress(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", script], input=_zeros(), capture_output=True)
    assert done.returncode == 1 and b"MemoryError" in done.stderr


def pulled_within_bounds(answer: Callable[[Handler], object]) -> str:
    """What `kist pull` says, in a process of its own, which takes no more time and memory than it may."""
    with server(answer) as host:
        done, peak_bytes = measured("pull", "-q", f"{host}/app", timeout=_TIME_S)
    assert done.returncode == 125, done.stderr
    assert peak_bytes < _MEMORY_BYTES, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def _giant(handler: Handler) -> None:
    handler.reply(200, b'{"schemaVersion": 2, "x": "' + b"x" * (64 << 20) + b'"}', Content_Type=MANIFEST)


def _many(handler: Handler) -> None:
    item = {"mediaType": f"{LAYER}+gzip", "digest": f"sha256:{'0' * 64}", "size": 1}
    document = {"schemaVersion": 2, "config": {**item, "mediaType": CONFIG}, "layers": [item] * 20_000}
    handler.reply(200, json.dumps(document).encode(), Content_Type=MANIFEST)


def _deep(handler: Handler) -> None:
    handler.reply(200, b"[" * (3 << 20), Content_Type=MANIFEST)


def _wide(handler: Handler) -> None:
    document = {"schemaVersion": 2, "config": {str(i): [] for i in range(150_000)}, "layers": []}
    handler.reply(200, json.dumps(document).encode(), Content_Type=MANIFEST)


def _endless(action: faults.Action) -> Callable[[Handler], object]:
    return lambda handler: action(faults.Exchange(handler, "", b""))


def _digits(handler: Handler) -> None:
    """Python takes a second for 100,000 digits, and the square of that for more."""
    handler.reply(200, b'{"schemaVersion": ' + b"1" * 4_000_000 + b"}", Content_Type=MANIFEST)


def _token(handler: Handler) -> None:
    if handler.path.startswith("/token"):
        handler.reply(200, b'{"token": "' + b"x" * (64 << 20) + b'"}')
    else:
        realm = f'Bearer realm="http://{handler.headers["Host"]}/token"'
        handler.reply(401, b"", WWW_Authenticate=realm)


ANSWERS: dict[str, tuple[Callable[[Handler], object], str]] = {
    "a giant manifest": (_giant, "too-large"),
    "a manifest of many layers": (_many, "bad-image"),
    "a manifest nested without end": (_deep, "json"),
    "a manifest of strange keys": (_wide, ""),
    "a number without end": (_digits, "json"),
    "a body without end": (_endless(faults.endless_body), "too-large"),
    "headers without end": (_endless(faults.endless_headers), "bad-answer"),
    "a header line without end": (_endless(faults.endless_line), "bad-answer"),
    "a giant token": (_token, "too-large"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_too_much(run_dir: Path, name: str) -> None:
    answer, code = ANSWERS[name]

    def to_get(handler: Handler) -> None:
        if handler.command == "HEAD":  # of the manifest: nothing is known yet
            handler.reply(405)
        else:
            answer(handler)

    error = pulled_within_bounds(to_get)
    assert f"[{code}" in error, error
    assert len(error) < 2000


# --- CVE-2026-53488: a label is nobody's command


def test_labels_are_only_noted(run_dir: Path, canary: Path, tmp_path: Path) -> None:
    box = busybox_layer()
    if box is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    command = f"sh -c 'echo dead > {canary}'"
    labels = {
        key: text
        for text in (command, f"$({command})", f"; {command}")
        for key in (
            "run", "RUN", "INSTALL", "UNINSTALL", "io.podman.annotations.label", "io.containers.autoupdate",
            "io.containers.capabilities", "run.oci.hooks.stdin", "org.opencontainers.image.stopSignal",
            "com.docker.compose.project", "io.kubernetes.cri-o.Devices", f"name{text}", "",
        )
    }  # fmt: skip
    evil = Evil()
    evil.layer = evil.put_layer(box)
    rootfs = {"type": "layers", "diff_ids": [digest_of(box)]}
    document = {"architecture": ARCHITECTURE, "os": "linux", "rootfs": rootfs, "config": {"Labels": labels}}
    evil.config = evil.put(document, CONFIG)
    evil.serve(evil.manifest(annotations=labels))
    assert evil.pull() == ""
    (image,) = ImageStore().list()
    assert image.config.labels == labels
    assert inside(image.id, "echo", "ran") == "ran\n"
    for argv in (("image", "inspect", image.id), ("history", image.id), ("images",), ("search-local", "dead"),
                 ("images", "--filter", f"label=run=; {command}"), ("save", "-o", str(tmp_path / "x.tar"), image.id),
                 ("image", "inspect", "--format", "{{json .Config.Labels}}", image.id)):  # fmt: skip
        done = kist(*argv)
        assert done.returncode == 0, done.stderr
    # No label changes what a container is made of.
    steps = json.loads(kist("explain", "--format", "json", image.id, "true").stdout)
    evil.config = evil.put({**document, "config": {}}, CONFIG)
    evil.serve(evil.manifest())
    assert evil.pull() == ""
    plainer = next(i for i in ImageStore().list() if i.id != image.id)
    assert steps == json.loads(kist("explain", "--format", "json", plainer.id, "true").stdout)


def test_the_control_obeys_a_label(tmp_path: Path) -> None:
    """As `podman container runlabel` and atomic did, by intention."""
    path = tmp_path / "canary"
    subprocess.run(["sh", "-c", f"sh -c 'echo dead > {path}'"], check=True)
    assert path.read_text() == "dead\n"
