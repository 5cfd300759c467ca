"""The blob store: what is in it is whole, whatever happens on the way."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kist.errors import CorruptStore, InvalidInput, KistError, NotFound, Refused
from kist.spec.image import Descriptor
from kist.store import locks
from kist.store.blobs import BlobStore
from kist.store.data import Behind
from kist.store.locks import Lock

DATA = b"a layer, let us say" * 1000


def descriptor(data: bytes = DATA, algorithm: str = "sha256") -> Descriptor:
    return Descriptor("application/x", f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}", len(data))


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "data"))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512", "sha384"])
def test_what_is_put_in_comes_out(blobs: BlobStore, algorithm: str) -> None:
    wanted = descriptor(algorithm=algorithm)
    assert not blobs.has(wanted)
    with blobs.ingest(wanted) as writer:
        for start in range(0, len(DATA), 999):
            writer.write(DATA[start : start + 999])
        writer.commit()
        assert writer.done
    assert blobs.has(wanted)
    assert blobs.read(wanted, 1 << 20) == DATA
    fd = blobs.open(wanted.digest)
    assert os.pread(fd, 7, 0) == DATA[:7]
    os.close(fd)
    assert Path(blobs.path(wanted.digest)).stat().st_mode & 0o777 == 0o600


def test_it_is_an_oci_layout(blobs: BlobStore) -> None:
    put = blobs.put(b"{}", "application/json")
    root = Path(blobs.data_dir)
    assert (root / "oci-layout").read_text() == '{"imageLayoutVersion":"1.0.0"}'
    assert (root / "blobs" / "sha256" / put.digest.removeprefix("sha256:")).read_bytes() == b"{}"
    assert root.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "0" * 32, "sha256:" + "0" * 63 + "/"],
)
def test_a_digest_is_no_path(blobs: BlobStore, digest: str) -> None:
    """CVE-2024-3727."""
    for use in (blobs.path, blobs.open):
        with pytest.raises(InvalidInput, match="no digest"):
            use(digest)
    with pytest.raises(InvalidInput):
        blobs.ingest(Descriptor("x", digest, 1))
    assert not os.path.exists(blobs.data_dir)


def test_a_wrong_digest_leaves_nothing(blobs: BlobStore) -> None:
    wanted = descriptor()
    with blobs.ingest(wanted) as writer:
        writer.write(bytes(len(DATA)))
        with pytest.raises(InvalidInput) as caught:
            writer.commit()
        assert caught.value.code == "digest-mismatch"
        writer.write(DATA)  # from somewhere else
        writer.commit()
    assert blobs.has(wanted)


def test_wrong_sizes(blobs: BlobStore) -> None:
    with blobs.ingest(descriptor()) as writer:
        writer.write(DATA[:-1])
        with pytest.raises(InvalidInput) as caught:
            writer.commit()
        assert caught.value.code == "blob-size"
        with pytest.raises(InvalidInput) as caught:
            writer.write(b"xy")
        assert caught.value.code == "blob-size"
        assert writer.offset == 0
    assert not blobs.has(descriptor())
    assert os.listdir(f"{blobs.data_dir}/ingest") == []


def test_it_continues_where_a_killed_process_ended(blobs: BlobStore) -> None:
    wanted = descriptor()
    blobs.has(wanted)
    program = f"""if True:
        import os, sys
        from kist.store.blobs import BlobStore
        from kist.spec.image import Descriptor
        writer = BlobStore({blobs.data_dir!r}).ingest(Descriptor("x", {wanted.digest!r}, {wanted.size})).__enter__()
        writer.write({DATA[:5000]!r})
        os.kill(os.getpid(), 9)
        """
    assert subprocess.run([sys.executable, "-c", program]).returncode == -9
    with blobs.ingest(wanted) as writer:
        assert (writer.done, writer.offset) == (False, 5000)
        writer.write(DATA[5000:])
        writer.commit()
    with blobs.ingest(wanted) as writer:
        assert writer.done


def test_a_damaged_partial_is_found_at_the_end(blobs: BlobStore) -> None:
    wanted = descriptor()
    with blobs.ingest(wanted) as writer:
        writer.write(b"x" * 5000)
    with blobs.ingest(wanted) as writer:
        assert writer.offset == 5000
        writer.write(DATA[5000:])
        with pytest.raises(InvalidInput) as caught:
            writer.commit()
        assert caught.value.code == "digest-mismatch"
    with blobs.ingest(wanted) as writer:
        writer.restart()
        assert writer.offset == 0


def test_one_at_a_time(blobs: BlobStore) -> None:
    """Ten come at once; one fetches, the others find it there."""
    wanted = descriptor()
    fetched = []

    def fetch() -> None:
        own = BlobStore(blobs.data_dir)
        with own.ingest(wanted) as writer:
            if not writer.done:
                fetched.append(writer.offset)
                writer.write(DATA)
                writer.commit()

    threads = [threading.Thread(target=fetch) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetched == [0]


def test_nothing_is_collected_while_it_is_open(blobs: BlobStore) -> None:
    blobs.put(b"x", "x")
    with pytest.raises(BlockingIOError):
        Lock(blobs.data_dir, locks.USE, wait=False)
    blobs.close()
    Lock(blobs.data_dir, locks.USE, wait=False).close()


def test_damage_is_seen_when_it_is_read(blobs: BlobStore) -> None:
    put = blobs.put(b"hello", "x")
    Path(blobs.path(put.digest)).write_bytes(b"hallo")
    with pytest.raises(CorruptStore):
        blobs.read(put, 100)


def test_what_is_missing_or_large(blobs: BlobStore) -> None:
    with pytest.raises(NotFound):
        blobs.read(descriptor(), 1 << 20)
    put = blobs.put(b"hello", "x")
    with pytest.raises(InvalidInput) as caught:
        blobs.read(put, 4)
    assert caught.value.code == "too-large"


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KistError) as caught:
        BlobStore(str(tmp_path / "file" / "data")).put(b"", "x")
    assert caught.value.code == "data-dir"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_store_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 12345, 12345)
    with pytest.raises(Refused):
        BlobStore(str(tmp_path / "data")).put(b"", "x")


def test_a_large_blob_is_hashed_to_its_end_also_when_it_begins_again(tmp_path):
    data = os.urandom(1 << 20) * 9
    with BlobStore(str(tmp_path)) as store, store.ingest(descriptor(data)) as writer:
        writer.write(data[: 3 << 20])
        writer.restart()
        for at in range(0, len(data), 1 << 19):
            writer.write(memoryview(data)[at : at + (1 << 19)])
        writer.commit()
        assert writer.done


def test_what_is_written_behind_leaves_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, *rest: left.append(rest))
    path, piece = tmp_path / "file", os.urandom(300_000)
    path.write_bytes(piece)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        file = Behind(fd, len(piece))
        for _ in range(199):
            file.write(piece)
    finally:
        os.close(fd)
    assert path.read_bytes() == 200 * piece
    ends = [start + size for start, size, advice in left if advice == os.POSIX_FADV_DONTNEED]
    assert len(ends) == 60_000_000 >> 21  # once in 2 MiB
    for (start, size, _), end in zip(left, ends, strict=True):
        assert end % 300_000 == 0
        assert size == min(end, 32 << 20)
        assert start >= 0
