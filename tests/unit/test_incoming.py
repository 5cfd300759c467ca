"""Layers that are prepared while they come."""

import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import digest_of, member, tar_of
from kist.spec.image import LAYER, Descriptor
from kist.store import forms
from kist.store.blobs import BlobStore
from kist.store.incoming import Incoming, PreparingSink
from kist.store.prepared import Prepared

FILES = {f"file{i}": os.urandom(1000) for i in range(50)}
WHOLE = tar_of(*(member(name, data) for name, data in FILES.items()))
DATA = gzip.compress(WHOLE)


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[BlobStore]:
    with BlobStore(str(tmp_path)) as blobs:
        blobs.begin()
        yield blobs


@pytest.fixture(params=[forms.EROFS, forms.DIRECTORIES])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("kist.store.incoming.best_form", lambda _: request.param)
    monkeypatch.setattr("kist.store.incoming.needs_other_ids", lambda: False)
    return request.param


def test_a_layer_that_begins_again_is_ready_with_its_blob(blobs: BlobStore, form: str) -> None:
    diff_id, descriptor = digest_of(WHOLE), Descriptor(LAYER + "+gzip", digest_of(DATA), len(DATA))
    prepared = Prepared(blobs.data_dir)
    with Incoming(prepared) as incoming:
        with PreparingSink(blobs, incoming).ingest(descriptor) as writer:
            writer.write(DATA[:30000])
            writer.restart()
            for at in range(0, len(DATA), 7000):
                writer.write(DATA[at : at + 7000])
            writer.commit()
        incoming.finish()
        assert blobs.has(descriptor)
        if form == forms.EROFS:
            assert prepared.came[0] == (diff_id,)
            assert set(prepared.came[1].root.children) == {name.encode() for name in FILES}
            assert Path(prepared.layer_path(diff_id), "tar").read_bytes() == WHOLE
        else:
            assert len(os.listdir(f"{blobs.data_dir}/tmp")) == 1  # staged
    assert os.listdir(f"{blobs.data_dir}/tmp") == []


@pytest.mark.parametrize("data", [b"", DATA[:20000], DATA + b"more", b"\x1f\x8bno"])
def test_what_is_no_layer_leaves_nothing(blobs: BlobStore, form: str, data: bytes) -> None:
    with Incoming(Prepared(blobs.data_dir)) as incoming:
        feed = incoming.begin()
        assert feed
        with feed:
            feed.write(data)
            feed.end()
    with Incoming(Prepared(blobs.data_dir)) as incoming:
        with pytest.raises(OSError, match="cut"):
            with incoming.begin() as feed:
                feed.write(DATA)
                raise OSError("cut")
    assert os.listdir(f"{blobs.data_dir}/tmp") == os.listdir(f"{blobs.data_dir}/layers") == []


def test_an_error_does_not_wait_for_who_fetches(blobs: BlobStore, form: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        with Incoming(Prepared(blobs.data_dir)) as incoming:
            feed = incoming.begin()
            assert feed
            feed.write(DATA[:1000])
            raise KeyboardInterrupt
    for _ in range(20):
        feed.write(DATA)  # who did not hear of it: nothing is kept, nobody waits
    assert os.listdir(f"{blobs.data_dir}/tmp") == []


@pytest.mark.parametrize("umask", [0, 0o027, 0o777])
def test_modes_are_the_archives_whatever_the_umask(blobs: BlobStore, umask: int) -> None:
    modes = [0o644, 0o600, 0o666, 0o4755, 0o2711, 0o1777, 0]
    archive = tar_of(*(member(f"file{mode:o}", b"data", mode=mode) for mode in modes))
    prepared, before = Prepared(blobs.data_dir), os.umask(umask)
    try:
        prepared.stage(io.BytesIO(archive), owners=False, below=None)
    finally:
        os.umask(before)
    (stage,) = Path(blobs.data_dir, "tmp").glob("*/stage")
    assert [os.stat(stage / "r0" / f"file{mode:o}").st_mode & 0o7777 for mode in modes] == modes
    assert len(os.listdir(stage / "r0")) == len(modes)
    prepared.close()
