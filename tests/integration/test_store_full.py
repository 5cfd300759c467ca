"""A disk that gets full at each of its blocks: a clear error, a whole store, and what deletes still works.

The disk is an ext4 in a file. Before each try all but so many blocks of it are taken.
"""

import errno
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import needs_root
from images import member, put_image, tar_of
from kist.errors import KistError
from kist.store.blobs import BlobStore
from kist.store.check import check
from kist.store.images import ImageStore
from kist.store.importing import import_tar
from kist.store.loading import load
from kist.store.saving import save
from registries import noise
from trees import use_directories

pytestmark = needs_root
BLOCK = 4096
STRIDE = 1 if os.environ.get("KIST_LONG") else 7
LAYERS = [
    tar_of(member("etc/passwd", b"root:x:0:0::/:\n"), *(member(f"f{i}", noise(3000, i)) for i in range(20))),
    tar_of(member("f3", noise(9000)), member("d"), member("d/e", b"")),
]  # fmt: skip


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where it is mounted."""
    for program in ("mkfs.ext4", "losetup"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}: apt-get install e2fsprogs mount")
    directory = tmp_path_factory.mktemp("disk")
    file, place = directory / "file", directory / "place"
    place.mkdir()
    with open(file, "xb") as out:
        out.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", str(BLOCK), str(file)], check=True, capture_output=True)
    found = subprocess.run(["losetup", "-f", "--show", str(file)], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"needs a loop device: {found.stderr}")
    device = found.stdout.strip()
    try:
        subprocess.run(["mount", "-t", "ext4", device, str(place)], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


@pytest.fixture(params=["best", "directories"])
def store(request: pytest.FixtureRequest, disk: Path) -> Iterator[ImageStore]:
    path = disk / "data"
    if request.param == "directories":
        use_directories(str(path))
    yield ImageStore(str(path))
    leave(disk, None)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    store = ImageStore(str(tmp_path_factory.mktemp("saved") / "data"))
    with BlobStore(store.data_dir) as blobs:
        store.add("it:1", put_image(blobs, LAYERS))
    out = io.BytesIO()
    save(store, ["it:1"], out, "docker-archive")
    return out.getvalue()


def leave(disk: Path, blocks: int | None) -> None:
    """Take all blocks but so many; None: give all back."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    os.sync()
    if blocks is None:
        return
    free = os.statvfs(disk).f_bavail
    assert free > blocks + 2
    with open(ballast, "xb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, max(free - blocks - 1, 1) * BLOCK)
        file.seek(0, os.SEEK_END)
        try:
            while os.statvfs(disk).f_bavail > blocks:
                file.write(bytes(BLOCK))
                os.fsync(file.fileno())
        except OSError as e:  # the last ones are for the file system's own books
            assert e.errno == errno.ENOSPC


@pytest.mark.parametrize("what", ["load", "import"])
def test_full_at_each_block(disk: Path, store: ImageStore, archive: bytes, what: str) -> None:
    def act() -> None:
        if what == "load":
            load(store, io.BytesIO(archive))
        else:
            import_tar(store, io.BytesIO(LAYERS[0]), "it:1")

    blocks, failed = 0, 0
    while True:
        leave(disk, blocks)
        try:
            act()
            break
        except KistError as e:
            assert e.code == "disk-full", blocks
            failed += 1
        assert store.list() == [], blocks
        store.gc()
        leave(disk, None)
        assert check(store) == [], blocks
        blocks += STRIDE
    assert failed > 3
    leave(disk, None)
    assert check(store) == []
    with store.lease("it:1") as lease:
        assert lease.read("passwd").startswith("root:")


@pytest.mark.parametrize("what", ["rmi", "prune"])
def test_what_deletes_works_on_a_full_disk(disk: Path, store: ImageStore, archive: bytes, what: str) -> None:
    load(store, io.BytesIO(archive))
    leave(disk, 0)
    if what == "rmi":
        store.remove("it:1")
    else:
        store.prune({"dangling": ["false"]})
    assert store.list() == []
    assert check(store) == []
    assert [path for name in ("images", "layers", "chains", "tmp") for path in (disk / "data" / name).iterdir()] == []
