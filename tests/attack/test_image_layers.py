"""Layers that try to get out of their image, or to be more than this machine has: nothing outside changes, nothing gets
a name. The control is an unpacker that joins paths, as many did."""

import gzip
import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from containers import ROOT
from images import ARCHITECTURE, digest_of, hardlink, member, put_image, symlink, tar_of
from kist.codec import dumps
from kist.errors import InvalidInput, KistError, NotFound, Unsupported
from kist.spec.image import CONFIG, INDEX, LAYER, MANIFEST, Descriptor
from kist.store import view
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore
from kist.store.importing import import_tar
from kist.store.source import Source
from kist.store.tar import Limits
from trees import use_directories

Attack = Callable[[Path], list[bytes]]


@pytest.fixture(params=["best", "directories"] if ROOT else ["directories"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    path = str(tmp_path / "data")
    if request.param == "directories":
        use_directories(path)
    return ImageStore(path)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host, as deep as the store's trees or deeper, with a file that matters."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "canary").write_text("sings")
    return path


def state(path: Path) -> object:
    return sorted((p.name, p.lstat().st_mode, p.lstat().st_nlink, p.read_bytes()) for p in path.iterdir())


def naive(layers: list[bytes], root: Path) -> None:
    """What not to do."""
    root.mkdir(parents=True)
    for layer in layers:
        tar = tarfile.open(fileobj=io.BytesIO(layer))  # noqa: SIM115
        for info in tar:
            path = os.path.join(root, info.name)
            try:
                if os.path.basename(path) == ".wh..wh..opq":
                    for name in os.listdir(os.path.dirname(path)):
                        os.unlink(os.path.join(os.path.dirname(path), name))
                elif os.path.basename(path).startswith(".wh."):
                    os.unlink(os.path.join(os.path.dirname(path), os.path.basename(path)[4:]))
                elif info.isdir():
                    os.makedirs(path, exist_ok=True)
                elif info.issym():
                    os.symlink(info.linkname, path)
                elif info.islnk():
                    os.link(os.path.join(root, info.linkname), path)
                elif (content := tar.extractfile(info)) is not None:
                    with open(path, "wb") as file:
                        file.write(content.read())
            except FileExistsError:
                pass


def up(path: Path) -> str:
    return "../" * 30 + str(path).lstrip("/")


ESCAPES: dict[str, Attack] = {
    "dots": lambda out: [tar_of(member(up(out) + "/canary", b"dead"))],
    "absolute": lambda out: [tar_of(member(f"{out}/canary", b"dead"))],
    "a symlinked parent": lambda out: [tar_of(symlink("d", str(out)), member("d/canary", b"dead"))],
    "a symlinked parent of a lower layer": lambda out: [
        tar_of(symlink("d", str(out))), tar_of(member("d/canary", b"dead")),
    ],
    "a symlink up": lambda out: [tar_of(symlink("d", up(out)), member("d/canary", b"dead"))],
    "a chain of symlinks": lambda out: [
        tar_of(symlink("a", "b"), symlink("b", "c"), symlink("c", str(out)), member("a/canary", b"dead")),
    ],
    "a symlink at the file itself": lambda out: [tar_of(symlink("f", f"{out}/canary"), member("f", b"dead"))],
    "a hard link out, written through": lambda out: [tar_of(hardlink("h", up(out) + "/canary"), member("h", b"dead"))],
    "a hard link through a symlink": lambda out: [
        tar_of(symlink("d", str(out)), hardlink("h", "d/canary"), member("h", b"dead")),
    ],
    "a whiteout through a symlink": lambda out: [
        tar_of(symlink("d", str(out))), tar_of(member("d/.wh.canary", b"")),
    ],
    "an opaque mark through a symlink": lambda out: [
        tar_of(symlink("d", str(out))), tar_of(member("d/.wh..wh..opq", b"")),
    ],
    "a whiteout with dots": lambda out: [tar_of(member(up(out) + "/.wh.canary", b""))],
}  # fmt: skip


@pytest.mark.parametrize("what", ESCAPES)
def test_a_layer_changes_nothing_outside(store: ImageStore, outside: Path, tmp_path: Path, what: str) -> None:
    layers = ESCAPES[what](outside)
    before = state(outside)
    try:
        with BlobStore(store.data_dir) as blobs:
            store.add("it", put_image(blobs, layers))
    except InvalidInput:
        assert store.list() == []
    assert state(outside) == before
    # No other name of the file came to be either: nothing in the store is the same file.
    canary = (outside / "canary").stat()
    for path in Path(store.data_dir).rglob("*"):
        found = path.lstat()
        assert (found.st_dev, found.st_ino) != (canary.st_dev, canary.st_ino)
    # The control: the attack is one.
    naive(layers, tmp_path / "naive" / "root")
    assert state(outside) != before


@pytest.mark.parametrize("name", [b".wh.", b".wh...", b".wh..", b"d/.wh..", b".wh.a/b"])
def test_whiteouts_of_no_name(name: bytes) -> None:
    below = view.apply(view.empty(), [])
    if name == b".wh.a/b":
        assert view.apply(below, [], [name]).root.children == {}
        return
    with pytest.raises(InvalidInput):
        view.apply(view.apply(below, []), [], [name.rpartition(b"/")[2]])


def test_attributes_that_would_steer_an_overlay_are_left_out(store: ImageStore, tmp_path: Path) -> None:
    names = (
        "trusted.overlay.redirect",
        "user.overlay.redirect",
        "trusted.overlay.opaque",
        "security.selinux",
        "user.fine",
    )
    info, _ = member("d")
    info.pax_headers = {f"SCHILY.xattr.{name}": "/etc" for name in names}
    with BlobStore(store.data_dir) as blobs:
        image = store.add("it", put_image(blobs, [tar_of((info, b""))]))
    (skipped,) = image.skipped
    assert (skipped.reason, skipped.count) == ("xattr", 4)


# --- more than there is


class Endless:
    """Zeros after a head, for as long as somebody reads; counts them."""

    def __init__(self, head: bytes) -> None:
        self._head = head
        self.given = 0

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._head) or len(buffer))
        buffer[:count] = self._head[:count] or bytes(count)
        self._head = self._head[count:]
        self.given += count
        return count


def refused(store: ImageStore, stream: Source, *codes: str, limits: Limits | None = None) -> None:
    with pytest.raises(InvalidInput) as e:
        import_tar(store, stream, "bomb", limits=limits)
    assert e.value.code in codes
    assert store.list() == []
    store.gc()
    data = Path(store.data_dir)
    assert [p for name in ("tmp", "layers", "chains", "images") for p in (data / name).iterdir()] == []


def header(name: str, size: int, type: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, type
    return info.tobuf(tarfile.GNU_FORMAT)


def test_a_compression_bomb(store: ImageStore) -> None:
    member_ = gzip.compress(bytes(16 << 20), 9)
    bomb = gzip.compress(header("zeros", 100 << 30)) + member_ * 64  # a gibibyte in one mebibyte
    refused(store, io.BytesIO(bomb), "tar-bomb")


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_of_a_hundred_megabytes(store: ImageStore, kind: bytes) -> None:
    stream = Endless(header("h", 100 << 20, kind))
    refused(store, stream, "tar-limit")
    assert stream.given < 4 << 20


def test_a_file_that_is_larger_than_everything(store: ImageStore) -> None:
    stream = Endless(header("f", 1 << 50))
    refused(store, stream, "tar-limit")
    assert stream.given < 4 << 20


def test_holes_larger_than_everything(store: ImageStore) -> None:
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "s",
                        "GNU.sparse.size": str(1 << 60), "GNU.sparse.map": f"{(1 << 60) - 1},1"}  # fmt: skip
    refused(store, io.BytesIO(tar_of((info, b"x"))), "tar-limit", "tar-corrupt")


def test_entries_without_end(store: ImageStore) -> None:
    class Entries(Endless):
        def readinto(self, buffer: memoryview, /) -> int:
            self._head = self._head or header(f"f{self.given}", 0)
            return super().readinto(buffer[: len(self._head)])

    refused(store, Entries(b""), "tar-limit", limits=Limits(entries=5000))


def test_names_that_cost_more_than_they_bring(store: ImageStore) -> None:
    """Symlinks that lead through symlinks: each step doubles the way."""
    links = [symlink("l0", ".")]
    links += [symlink(f"l{i}", f"l{i - 1}/l{i - 1}") for i in range(1, 40)]
    refused(store, io.BytesIO(tar_of(*links, member("l39/x", b"x"))), "tar-path", "tar-limit")


@pytest.mark.parametrize("number", [1 << 32, 1 << 40, -1, -(1 << 40)])
def test_owners_are_of_32_bits(store: ImageStore, number: int) -> None:
    info, _ = member("f", b"")
    info.uid = number
    data = bytearray(tar_of((info, b""), format=tarfile.GNU_FORMAT) if number > 0 else tar_of(member("f", b"")))
    if number < 0:
        data[108:116] = b"\xff" + number.to_bytes(7, "big", signed=True)
        data[148:156] = b"        "
        data[148:156] = b"%06o\0 " % sum(data[:512])
    refused(store, io.BytesIO(bytes(data)), "tar-corrupt", "tar-limit", "tar-owner")


# --- documents


def put(blobs: BlobStore, document: object, media_type: str) -> Descriptor:
    return blobs.put(dumps(document).encode(), media_type)


def test_a_document_is_what_its_type_says(tmp_path: Path) -> None:
    """CVE-2021-41190: one that is read in two ways is refused."""
    store = ImageStore(str(tmp_path / "data"))
    layer = tar_of(member("f", b"f"))
    with BlobStore(store.data_dir) as blobs:
        blob = blobs.put(layer, LAYER)
        rootfs = {"type": "layers", "diff_ids": [digest_of(layer)]}
        config = put(blobs, {"architecture": ARCHITECTURE, "os": "linux", "rootfs": rootfs}, CONFIG)

        def described(d: Descriptor) -> dict[str, object]:
            return {"mediaType": d.media_type, "digest": d.digest, "size": d.size}

        good = {"schemaVersion": 2, "config": described(config), "layers": [described(blob)]}
        root = put(blobs, good, MANIFEST)
        assert store.add("control", root)
        bad_digest = {**described(blob), "digest": "sha256:../../../../etc/passwd"}
        short = {**described(blob), "digest": digest_of(layer)[:20]}
        foreign = {**described(blob), "mediaType": "application/x"}
        lying = {**described(blob), "size": 5}
        for document, media_type, errors in (
            ({**good, "manifests": []}, MANIFEST, InvalidInput),
            ({**good, "mediaType": INDEX}, MANIFEST, InvalidInput),
            ({"schemaVersion": 2, "manifests": [described(root)], "layers": []}, INDEX, InvalidInput),
            ({"schemaVersion": 2, "manifests": [described(root)], "config": described(config)}, INDEX, InvalidInput),
            ({**good, "layers": [bad_digest]}, MANIFEST, InvalidInput),  # CVE-2024-3727
            ({**good, "layers": [short]}, MANIFEST, InvalidInput),
            ({**good, "layers": [foreign]}, MANIFEST, Unsupported),
            ({**good, "layers": [lying]}, MANIFEST, NotFound),
            ({**good, "layers": [described(blob)] * 2}, MANIFEST, InvalidInput),  # more than the config has
            ({**good, "layers": [described(config)]}, MANIFEST, Unsupported),
            ({**good, "config": described(blob)}, MANIFEST, Unsupported),
            ([], MANIFEST, InvalidInput),
        ):
            with pytest.raises(errors):
                store.add("attack", put(blobs, document, media_type))
        assert store.add("control", root, replace=True)
    assert {name for image in store.list() for name in image.names} == {"control:latest"}


def test_layers_are_what_their_config_says(store: ImageStore) -> None:
    """Digest confusion: the blob is right, what is in it is another thing than the DiffID."""
    layer, other = tar_of(member("f", b"f")), tar_of(member("f", b"g"))
    with BlobStore(store.data_dir) as blobs, pytest.raises(InvalidInput) as e:
        store.add("it", put_image(blobs, [layer], diff_ids=(digest_of(other),)))
    assert e.value.code == "digest-mismatch"
    assert store.list() == []


def test_a_blob_that_changed_on_the_disk_is_not_used(store: ImageStore) -> None:
    with BlobStore(store.data_dir) as blobs:
        root = put_image(blobs, [tar_of(member("f", b"f" * 5000))])
        for path in Path(store.data_dir, "blobs/sha256").iterdir():
            data = bytearray(path.read_bytes())
            if data.startswith(b"\x1f\x8b"):
                data[-6] ^= 1
                path.write_bytes(data)
        with pytest.raises(KistError):
            store.add("it", root)
    assert store.list() == []


def test_the_store_is_nobody_elses(store: ImageStore) -> None:
    """CVE-2021-41091: set-uid programs of images are out of other users' reach."""
    with BlobStore(store.data_dir) as blobs:
        store.add("it", put_image(blobs, [tar_of(member("su", b"x", mode=0o4755))]))
    assert stat.S_IMODE(os.stat(store.data_dir).st_mode) == 0o700
    os.chmod(store.data_dir, 0o755)
    store.list()
    assert stat.S_IMODE(os.stat(store.data_dir).st_mode) == 0o700
