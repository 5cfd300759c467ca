"""`kist diff`, `export` and `commit`; images that containers need, and what prune leaves."""

import json
import os
import shutil
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from containers import KIST, ROOT, code, inside, kist, needs_root, ok
from images import busybox_layer, member, put_image, symlink, tar_of
from kist.spec.image import ContainerConfig
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore

EXTRA = tar_of(
    member("srv"), member("srv/keep", b"k"), member("srv/change", b"old"), member("srv/drop", b"d"),
    member("srv/tree"), member("srv/tree/a", b"a"), member("srv/tree/b", b"b"), symlink("srv/l", "keep"),
)  # fmt: skip
SCRIPT = """
echo new > /srv/change; rm /srv/drop; rm -r /srv/tree; mkdir /srv/tree; echo c > /srv/tree/c
mkdir -p /new/dir; echo x > /new/file; ln /new/file /new/hard; ln -s file /new/soft; chmod 4711 /new/file
mkfifo /new/fifo; rm /srv/l; mkdir /srv/l; rm /bin/yes
"""
CHANGES = """\
C /bin
D /bin/yes
A /new
A /new/dir
A /new/fifo
A /new/file
A /new/hard
A /new/soft
C /srv
C /srv/change
D /srv/drop
C /srv/l
C /srv/tree
D /srv/tree/a
D /srv/tree/b
A /srv/tree/c"""


@pytest.fixture
def box() -> str:
    layer = busybox_layer()
    if layer is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    config = ContainerConfig(env=("FROM=image",), cmd=("sh",), labels={"l": "image"})
    with BlobStore(os.environ["KIST_DATA_DIR"]) as blobs:
        ImageStore().add("box", put_image(blobs, [layer, EXTRA], config=config))
    return "box"


@pytest.fixture
def changed(box) -> str:
    ok("run", "--name", "changed", "-e", "OWN=1", "-v", "vol:/vol", box, "sh", "-c", SCRIPT)
    return "changed"


def test_diff_says_what_was_changed(changed):
    assert ok("diff", changed) == CHANGES + "\nA /vol"
    assert json.loads(ok("diff", "--format", "json", changed))["deleted"] == [
        "/bin/yes", "/srv/drop", "/srv/tree/a", "/srv/tree/b",
    ]  # fmt: skip


def test_one_that_was_never_started_has_changed_nothing(box):
    ok("create", "--name", "never", box, "true")
    assert ok("diff", "never") == ""
    assert ok("export", "-o", os.devnull, "never") == ""
    assert inside(ok("commit", "never"), "cat", "/srv/keep") == "k"


def test_export_is_what_the_container_sees(changed, tmp_path):
    ok("export", "-o", str(tmp_path / "out.tar"), changed)
    with tarfile.open(tmp_path / "out.tar") as tar:
        found = {entry.name.removeprefix("./"): entry for entry in tar}
    assert {"srv/keep", "srv/tree/c", "new/fifo", "bin/busybox"} <= found.keys()
    assert not {"srv/drop", "srv/tree/a", "bin/yes"} & found.keys()
    assert found["new/file"].mode == 0o4711
    assert found["new/hard"].islnk() or found["new/file"].islnk()
    assert found["srv/l"].isdir()
    ok("import", str(tmp_path / "out.tar"), "flat")
    assert inside("flat", "cat", "/srv/change", "/srv/tree/c") == "new\nc\n"


def test_a_commit_is_the_same_container_again(changed):
    image = ok(
        "commit", "-m", "why", "-a", "who", "-c", 'CMD ["cat", "/new/file"]', "-c", "ENV MORE=2", changed, "made"
    )
    assert image.startswith("sha256:")
    assert inside("made") == "x\n"
    script = "cat /srv/change /srv/keep; ls /srv/tree /new; stat -c %a /new/file; test -e /bin/yes || echo gone"
    assert (
        inside("made", "sh", "-c", script) == "new\nk/new:\ndir\nfifo\nfile\nhard\nsoft\n\n/srv/tree:\nc\n4711\ngone\n"
    )
    assert inside("made", "sh", "-c", "echo $FROM $OWN $MORE; test -p /new/fifo && test -d /srv/l") == "image 1 2\n"
    (shown,) = json.loads(ok("image", "inspect", "made"))
    assert (shown["Comment"], shown["Author"], shown["Config"]["Labels"]) == ("why", "who", {"l": "image"})
    assert len(shown["RootFS"]["Layers"]) == 3
    again = ok("image", "diff", "box", "made")
    assert "/srv/keep" not in again
    assert "/etc/hosts" not in again  # what kist puts there is not the container's
    assert ok("store", "check")
    # and once more, on top
    ok("run", "--name", "second", "made", "rm", "/new/hard")
    assert inside(ok("commit", "second"), "ls", "/new") == "dir\nfifo\nfile\nsoft\n"


def test_a_commit_of_one_that_runs(box):
    argv = [*KIST, "run", "--name", "live", "-i", box, "sh", "-c", "echo before > /f; echo up; cat > /dev/null; true"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        ok("commit", "live", "made")
        ok("commit", "--pause=false", "live", "other")
        process.communicate(b"")
        assert process.returncode == 0  # it went on
    assert inside("made", "cat", "/f") == inside("other", "cat", "/f") == "before\n"


def test_what_cannot_be_committed(box, tmp_path):
    ok("create", "--name", "host", "host", "true")
    assert code("commit", "host") == "no-base"
    ok("create", "--name", "named", box, "true")
    assert code("commit", "-c", "RUN true", "named") == "invalid-input"
    assert code("commit", "-c", "CMD [", "named") == "invalid-input"
    assert code("commit", "none") == "no-container"
    ok("run", "--name", "odd", box, "touch", "/.wh.name")
    assert code("commit", "odd", "made") == "whiteout-name"
    assert code("image", "inspect", "made") == "no-image"
    assert not os.listdir(Path(os.environ["KIST_DATA_DIR"], "tmp"))


@needs_root
@pytest.mark.parametrize("peer", ["podman", "skopeo"])
def test_others_take_what_was_committed(changed, tmp_path, peer):
    if not shutil.which(peer):
        pytest.skip(f"no {peer}")
    ok("commit", "-c", 'CMD ["cat", "/srv/tree/c"]', changed, "made")
    ok("save", "-o", str(tmp_path / "made.tar"), "made")
    if peer == "skopeo":
        done = subprocess.run(["skopeo", "inspect", f"docker-archive:{tmp_path}/made.tar"], capture_output=True)
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["Layers"]) == 3
        return
    with TemporaryDirectory(dir="/tmp", prefix="kist") as path:  # it takes 50 characters at most
        base = ["podman", "--root", f"{path}/root", "--runroot", f"{path}/run", "--storage-driver", "vfs"]
        subprocess.run([*base, "load", "-q", "-i", str(tmp_path / "made.tar")], check=True, capture_output=True)
        name = subprocess.run([*base, "images", "-q"], check=True, capture_output=True, text=True).stdout.strip()
        made = subprocess.run([*base, "create", name], check=True, capture_output=True, text=True).stdout.strip()
        out = subprocess.run([*base, "export", made], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(out)) as tar:
        names = set(tar.getnames())
    assert {"srv/tree/c", "srv/keep", "new/fifo"} <= names
    assert not {"srv/tree/a", "srv/drop", "bin/yes"} & names


@needs_root
def test_a_full_disk_leaves_no_half_image(tmp_path, box):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(small)], check=True)
    try:
        environ = os.environ | {"KIST_DATA_DIR": str(small)}
        with BlobStore(str(small)) as blobs:
            ImageStore(str(small)).add("box", put_image(blobs, [busybox_layer() or b""]))
        ok("run", "--name", "full", "box", "dd", "if=/dev/urandom", "of=/f", "bs=1M", "count=6", env=environ)
        assert code("commit", "full", "made", env=environ) == "disk-full"
        assert ok("images", "-q", env=environ).count("\n") == 0
        assert not os.listdir(small / "tmp")
        assert kist("cp", "full:/f", str(small / "copy"), env=environ).returncode != 0
        assert not (small / "copy").exists()
        assert kist("rm", "full", env=environ).returncode == 0
    finally:
        subprocess.run(["umount", str(small)], check=True)


# --- images and containers


def test_an_image_that_a_kept_container_needs(box):
    ok("create", "--name", "keeper", box, "cat", "/srv/keep")
    done = kist("rmi", box)
    assert done.returncode
    assert "image-in-use" in done.stderr and "keeper" in done.stderr
    ok("image", "prune", "-af")
    ok("store", "gc")
    assert "Untagged" in ok("rmi", "-f", box)
    assert code("rmi", "-f", ok("images", "-q")) == "image-in-use"
    ok("image", "prune", "-af")
    ok("store", "gc")
    assert kist("start", "-a", "keeper").stdout == "k"
    ok("rm", "keeper")
    ok("image", "prune", "-f")
    assert ok("images", "-q") == ""


def test_prune(box):
    ok("create", "--name", "labelled", "--label", "keep", box, "true")
    ok("run", "--name", "ended", "-v", "/own", box, "true")
    assert code("container", "prune") == "refused"  # nobody to ask
    table = [line.split() for line in ok("system", "df").splitlines()]
    assert [row[:3] for row in table[1:3]] == [["Images", "1", "1"], ["Containers", "2", "0"]]
    assert table[3][:4] == ["Local", "Volumes", "1", "1"]
    assert "Deleted Containers:" in ok("container", "prune", "-f", "--filter", "label!=keep")
    assert ok("ps", "-a", "--format", "{{.Names}}") == "labelled"
    assert ok("container", "prune", "-f", "--filter", "until=24h") == "Total reclaimed space: 0 B"
    out = ok("system", "prune", "-af", "--volumes")
    assert "Deleted Containers:" in out and "Deleted Volumes:" in out and "Deleted Images:" in out
    assert ok("images", "-q") + ok("ps", "-aq") + ok("volume", "ls", "-q") == ""
    assert ROOT or os.geteuid()
