"""CVE-2018-15664, CVE-2019-14271, CVE-2026-42306: copies in and out while their paths are being exchanged.

The control is the same copy by somebody who goes by names below /proc/PID/root: that one ends outside.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import KIST, kist
from images import busybox_layer, member, put_image, tar_of
from kist.engine.containers import Containers
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore
from swapping import Swapper

TIMES = 400 if "KIST_LONG" in os.environ else 8


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """`shared/dir` is a directory, `shared/link` leads to `canary` on the host; both hold a file `f`."""
    for name in ("shared/dir", "canary"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "shared/dir/f").write_text("inside")
    (tmp_path / "canary/f").write_text("host")
    (tmp_path / "shared/link").symlink_to(tmp_path / "canary")
    (tmp_path / "new").write_text("copied")
    return tmp_path


@pytest.fixture(params=["running", "stopped"])
def box(request, place: Path) -> Iterator[str]:
    """A container with `shared` at /s."""
    layer = busybox_layer()
    if layer is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    with BlobStore(os.environ["KIST_DATA_DIR"]) as blobs:
        ImageStore().add("box", put_image(blobs, [layer], compress=None, suffix=""))
    if request.param == "stopped":
        assert kist("create", "--name", "box", "-v", f"{place}/shared:/s", "box", "true").returncode == 0
        yield "stopped"
        return
    argv = [*KIST, "run", "--rm", "-i", "--name", "box", "-v", f"{place}/shared:/s", "box", "sh", "-c", "echo up; cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        yield "running"
        process.communicate(b"")


def escapes(naive: Callable[[], bool]) -> bool:
    """Whether somebody who is not careful is misled: that the race is on."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if naive():
                return True
        except OSError:
            continue
    return False


def root() -> str:
    """Of the running container, by name."""
    containers = Containers()
    return f"/proc/{containers.find('box').pid}/root"


def test_copies_in_stay_inside(box, place):
    canary = place / "canary"
    with Swapper(place / "shared/dir", place / "shared/link") as swapper:
        for i in range(TIMES):
            done = kist("cp", str(place / "new"), f"box:/s/dir/in{i}")
            assert "Traceback" not in done.stderr
        assert os.listdir(canary) == ["f"]
        if box == "running":

            def naive() -> bool:
                shutil.copyfile(place / "new", f"{root()}/s/dir/naive")
                return (canary / "naive").exists()

            assert escapes(naive)
    assert swapper.swaps > 1000


def test_copies_out_bring_nothing_of_the_host(box, place):
    out, found = place / "out", set()
    with Swapper(place / "shared/dir", place / "shared/link") as swapper:
        for _ in range(TIMES):
            out.unlink(missing_ok=True)
            done = kist("cp", "box:/s/dir/f", str(out))
            assert "Traceback" not in done.stderr
            found.add(out.read_text() if out.exists() else "")
        assert found <= {"inside", ""}
        if box == "running":
            assert escapes(lambda: Path(f"{root()}/s/dir/f").read_text() == "host")
    assert swapper.swaps > 1000


def test_whole_trees_bring_nothing_of_the_host_and_write_nothing_outside(box, place):
    """The exchange is below what is copied: on the way out links of the container must not lead the host's side."""
    out = place / "out"
    with Swapper(place / "shared/dir", place / "shared/link") as swapper:
        for _ in range(TIMES):
            shutil.rmtree(out, ignore_errors=True)
            done = kist("cp", "box:/s", str(out))
            assert "Traceback" not in done.stderr
            contents = {path.read_text() for path in out.rglob("f") if not path.parent.is_symlink()}
            assert contents <= {"inside"}
            assert (place / "canary/f").read_text() == "host"
    assert swapper.swaps > 1000


def test_a_tree_goes_in_beside_links_and_not_through_them(box, place):
    tree = place / "tree"
    (tree / "dir").mkdir(parents=True)
    (tree / "dir/f").write_text("overwritten")
    with Swapper(place / "shared/dir", place / "shared/link") as swapper:
        for _ in range(TIMES):
            assert "Traceback" not in kist("cp", f"{tree}/.", "box:/s").stderr
        assert (place / "canary/f").read_text() == "host"
        archive = tar_of(member("dir/f", b"overwritten"))
        for _ in range(TIMES):
            subprocess.run([*KIST, "cp", "-", "box:/s"], input=archive, capture_output=True)
        assert (place / "canary/f").read_text() == "host"
    assert swapper.swaps > 1000


def test_a_fifo_in_a_files_place_hangs_nobody(box, place):
    os.mkfifo(place / "shared/fifo")
    (place / "shared/file").write_text("text")
    out = place / "out"
    with Swapper(place / "shared/fifo", place / "shared/file") as swapper:
        for _ in range(TIMES):
            out.unlink(missing_ok=True)
            begun = time.monotonic()
            done = kist("cp", "box:/s/file", str(out))
            assert "Traceback" not in done.stderr
            assert time.monotonic() - begun < 20
            kist("cp", str(place / "new"), "box:/s/file")
    assert swapper.swaps > 1000


def test_a_part_of_a_volume_is_never_a_part_of_the_host(box, place):
    if box == "stopped":
        pytest.skip("once is enough")
    assert kist("run", "--rm", "-v", "data:/d", "box", "mkdir", "/d/dir").returncode == 0
    data = Path(os.environ["KIST_DATA_DIR"], "volumes/data/_data")
    (data / "link").symlink_to(place / "canary")
    found = set()
    with Swapper(data / "dir", data / "link") as swapper:
        for _ in range(TIMES):
            done = kist("run", "--rm", "--mount", "type=volume,src=data,dst=/p,volume-subpath=dir", "box", "ls", "/p")
            assert "Traceback" not in done.stderr
            found.add(done.stdout)
    assert found <= {""}
    assert swapper.swaps > 1000


def test_no_program_of_the_container_runs(place):
    """Neither programs nor libraries that copying or decompressing could look for."""
    layer = busybox_layer()
    if layer is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    script = f"#!/bin/sh\necho ran >> {place}/ran; echo ran >> /ran\n".encode()
    names = [f"{where}/{name}" for where in ("usr/bin", "usr/local/bin") for name in ("tar", "gzip", "unpigz", "zstd")]
    fake = tar_of(*(member(name, script, mode=0o755) for name in names),
                  member("lib/x86_64-linux-gnu/libnss_files.so.2", b"\x7fELF" + bytes(60), mode=0o755),
                  member("etc/ld.so.preload", b"/lib/x86_64-linux-gnu/libnss_files.so.2\n"))  # fmt: skip
    with BlobStore(os.environ["KIST_DATA_DIR"]) as blobs:
        ImageStore().add("fake", put_image(blobs, [layer, fake], compress=None, suffix=""))
    assert kist("create", "--name", "fake", "fake", "true").returncode == 0
    import gzip

    archive = gzip.compress(tar_of(member("srv"), member("srv/f", b"x")))
    assert subprocess.run([*KIST, "cp", "-", "fake:/"], input=archive, capture_output=True).returncode == 0
    assert kist("cp", "fake:/srv", str(place / "back")).returncode == 0
    assert (place / "back/f").read_text() == "x"
    assert not (place / "ran").exists()
    assert kist("cp", "fake:/ran", str(place / "ran")).returncode != 0
