"""`kist cp`: docker's rules, of containers that run, have stopped, and were never started."""

import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from containers import KIST, MANY_IDS, ROOT, code, kist, needs_ids, ok
from images import busybox_layer, member, put_image, symlink, tar_of
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore

EXTRA = tar_of(
    member("srv"), member("srv/file", b"content\n"), symlink("srv/link", "file"), symlink("srv/dirlink", "dir"),
    member("srv/dir"), member("srv/dir/a", b"a"), member("srv/dir/sub"), member("srv/dir/sub/b", b"b", mode=0o600),
    symlink("srv/out", "../../../../../../etc/hostname"), symlink("srv/root", "/"),
)  # fmt: skip


@pytest.fixture(params=["created", "stopped", "running"] if MANY_IDS else ["running"])
def box(request) -> Iterator[str]:
    """A container named `box` with /srv as above and a volume at /vol."""
    layer = busybox_layer()
    if layer is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    with BlobStore(os.environ["KIST_DATA_DIR"]) as blobs:
        ImageStore().add("box", put_image(blobs, [layer, EXTRA], compress=None, suffix=""))
    if request.param == "running":
        argv = [*KIST, "run", "--rm", "-i", "--name", "box", "-v", "vol:/vol", "box", "sh", "-c", "echo up; cat"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout and process.stdout.readline() == b"up\n"
            yield "box"
            process.communicate(b"")
        return
    ok("create", "--name", "box", "-v", "vol:/vol", "box", "true")
    if request.param == "stopped":
        assert kist("run", "--name", "gone", "box", "true").returncode == 0
        ok("rm", "box")
        assert kist("run", "--name", "box", "-v", "vol:/vol", "box", "true").returncode == 0
    yield "box"


def inside(path: str) -> str:
    """A file of the container's, by the archive form."""
    done = subprocess.run([*KIST, "cp", f"box:{path}", "-"], capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(done.stdout)) as tar:
        (first, *_) = tar.getmembers()
        file = tar.extractfile(first)
        assert file
        return file.read().decode()


def names(path: str) -> list[str]:
    done = subprocess.run([*KIST, "cp", f"box:{path}", "-"], capture_output=True, check=True)
    with tarfile.open(fileobj=BytesIO(done.stdout)) as tar:
        return sorted(tar.getnames())


def test_a_file_out(box, tmp_path):
    """Where the destination is nothing, a file, a directory, or nothing with a slash."""
    ok("cp", "box:/srv/file", str(tmp_path / "new"))
    assert (tmp_path / "new").read_text() == "content\n"
    (tmp_path / "old").write_text("old")
    ok("cp", "box:srv/file", str(tmp_path / "old"))  # relative paths begin at the root
    assert (tmp_path / "old").read_text() == "content\n"
    ok("cp", "box:/srv/file", str(tmp_path))
    assert (tmp_path / "file").read_text() == "content\n"
    assert code("cp", "box:/srv/file", str(tmp_path / "none") + "/") == "no-file"
    assert code("cp", "box:/srv/file", str(tmp_path / "none/file")) == "no-file"
    assert code("cp", "box:/srv/file/", str(tmp_path)) != ""
    assert code("cp", "box:/srv/none", str(tmp_path)) == "no-file"
    assert not list(tmp_path.glob(".kist-*"))


def test_a_file_in(box, tmp_path):
    source = tmp_path / "source"
    source.write_text("new\n")
    source.chmod(0o640)
    ok("cp", str(source), "box:/srv/other")
    assert inside("/srv/other") == "new\n"
    ok("cp", str(source), "box:/srv/file")
    assert inside("/srv/file") == "new\n"
    ok("cp", str(source), "box:/srv/dir")
    assert inside("/srv/dir/source") == "new\n"
    ok("cp", str(source), "box:/srv/dirlink/")
    ok("cp", str(source), "box:/vol/kept")
    assert Path(os.environ["KIST_DATA_DIR"], "volumes/vol/_data/kept").read_text() == "new\n"
    assert code("cp", str(source), "box:/none/") == "no-file"
    assert code("cp", str(source), "box:/none/x") == "no-file"
    assert code("cp", str(tmp_path / "nothing"), "box:/") == "no-file"


def test_a_directory_out(box, tmp_path):
    ok("cp", "box:/srv/dir", str(tmp_path / "new"))  # does not exist: it becomes that
    assert sorted(str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*")) == ["a", "sub", "sub/b"]
    assert (tmp_path / "new/sub/b").stat().st_mode & 0o777 == 0o600
    ok("cp", "box:/srv/dir", str(tmp_path / "new"))  # exists: into it
    assert (tmp_path / "new/dir/sub/b").read_text() == "b"
    (tmp_path / "flat").mkdir()
    ok("cp", "box:/srv/dir/.", str(tmp_path / "flat"))  # what is in it
    assert sorted(os.listdir(tmp_path / "flat")) == ["a", "sub"]
    ok("cp", "box:/srv/dirlink/", str(tmp_path / "followed"))
    assert sorted(os.listdir(tmp_path / "followed")) == ["a", "sub"]
    (tmp_path / "file").write_text("")
    assert code("cp", "box:/srv/dir", str(tmp_path / "file")) == "not-a-directory"
    (tmp_path / "flat/sub/b").unlink()
    (tmp_path / "flat/sub").rmdir()
    (tmp_path / "flat/sub").write_text("")
    assert code("cp", "box:/srv/dir/.", str(tmp_path / "flat")) == "not-the-same-kind"


def test_a_directory_in(box, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/f").write_text("f")
    (tree / "l").symlink_to("sub/f")
    ok("cp", str(tree), "box:/srv/new")
    assert names("/srv/new") == ["new", "new/l", "new/sub", "new/sub/f"]
    ok("cp", str(tree), "box:/srv/new")
    assert inside("/srv/new/tree/sub/f") == "f"
    ok("cp", f"{tree}/.", "box:/srv/dir")
    assert "dir/sub/f" in names("/srv/dir")
    assert code("cp", str(tree), "box:/srv/file") == "not-a-directory"
    (tree / "a").mkdir()
    assert code("cp", f"{tree}/.", "box:/srv/dir") == "not-the-same-kind"  # a directory over a file


def test_links_are_copied_unless_asked_otherwise(box, tmp_path):
    ok("cp", "box:/srv/link", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "file"
    ok("cp", "-L", "box:/srv/link", str(tmp_path / "content"))
    assert (tmp_path / "content").read_text() == "content\n"
    (tmp_path / "mine").symlink_to("content")
    ok("cp", str(tmp_path / "mine"), "box:/srv/a-link")
    ok("cp", "-L", str(tmp_path / "mine"), "box:/srv/a-file")
    assert inside("/srv/a-file") == "content\n"
    (tmp_path / "x").write_text("through\n")
    ok("cp", str(tmp_path / "x"), "box:/srv/link")  # a link that is the destination is followed, inside
    assert inside("/srv/file") == "through\n"


def test_a_link_out_of_the_root_ends_inside(box, tmp_path):
    marker = tmp_path / "x"
    marker.write_text("kist was here\n")
    before = Path("/etc/hostname").read_bytes() if os.path.exists("/etc/hostname") else b""
    kist("cp", str(marker), "box:/srv/out")
    assert inside("/etc/hostname") == "kist was here\n"
    assert (Path("/etc/hostname").read_bytes() if os.path.exists("/etc/hostname") else b"") == before
    ok("cp", str(marker), "box:/srv/root/../../marker")
    assert inside("/marker") == "kist was here\n"


def test_archives_both_ways(box, tmp_path):
    assert names("/srv/dir") == ["dir", "dir/a", "dir/sub", "dir/sub/b"]
    assert names("/srv/dir/.") == [".", "a", "sub", "sub/b"]
    for format in ("w", "w:gz"):
        out = BytesIO()
        with tarfile.open(fileobj=out, mode=format) as tar:
            info = tarfile.TarInfo("etc/from-tar")
            info.size = 3
            tar.addfile(info, BytesIO(b"tar"))
        subprocess.run([*KIST, "cp", "-", "box:/srv/root"], input=out.getvalue(), check=True, capture_output=True)
        assert inside("/etc/from-tar") == "tar"
    done = subprocess.run([*KIST, "cp", "-", "box:/none"], input=out.getvalue(), capture_output=True)
    assert done.returncode and b"no-file" in done.stderr
    done = subprocess.run([*KIST, "cp", "-", "box:/srv"], input=b"this is no archive" * 99, capture_output=True)
    assert done.returncode and b"not-a-tar" in done.stderr
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("../../escaped")
        tar.addfile(info)
    done = subprocess.run([*KIST, "cp", "-", "box:/srv"], input=out.getvalue(), capture_output=True)
    assert done.returncode and b"tar-escape" in done.stderr


def test_owners(box, tmp_path):
    """Without -a: the container's root there, the caller here; with it they are kept."""
    source = tmp_path / "f"
    source.write_text("")
    if ROOT:
        os.chown(source, 33, 34)
    ok("cp", str(source), "box:/srv/plain")
    with _archive("/srv/plain") as tar:
        assert (tar.getmembers()[0].uid, tar.getmembers()[0].gid) == (0, 0)
    if not ROOT:
        return
    ok("cp", "-a", str(source), "box:/srv/owned")
    with _archive("/srv/owned") as tar:
        assert (tar.getmembers()[0].uid, tar.getmembers()[0].gid) == (33, 34)
    ok("cp", "-a", "box:/srv/owned", str(tmp_path / "back"))
    assert ((tmp_path / "back").stat().st_uid, (tmp_path / "back").stat().st_gid) == (33, 34)
    ok("cp", "box:/srv/owned", str(tmp_path / "mine"))
    assert (tmp_path / "mine").stat().st_uid == os.geteuid()


@needs_ids
def test_an_ordinary_users_containers_keep_their_owners(box):
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("theirs")
        info.uid, info.gid = 33, 34
        tar.addfile(info)
    subprocess.run([*KIST, "cp", "-a", "-", "box:/srv"], input=out.getvalue(), check=True, capture_output=True)
    with _archive("/srv/theirs") as tar:
        assert (tar.getmembers()[0].uid, tar.getmembers()[0].gid) == (33, 34)


def _archive(path: str) -> tarfile.TarFile:
    done = subprocess.run([*KIST, "cp", f"box:{path}", "-"], capture_output=True, check=True)
    return tarfile.open(fileobj=BytesIO(done.stdout))


def test_how_it_is_called(box, tmp_path):
    assert code("cp", "a", "b") == "usage"
    assert code("cp", "box:/a", "box:/b") == "usage"
    assert code("cp", "none:/a", str(tmp_path)) == "no-container"
    done = kist("cp", "box:/srv/file", str(tmp_path / "f"))
    assert done.stderr == f"Successfully copied 8 B to {tmp_path}/f\n"
    assert kist("cp", "-q", "box:/srv/file", str(tmp_path / "f")).stderr == ""
    (tmp_path / "a:b").write_text("colon")
    ok("cp", "./a:b", "box:/srv/colon", cwd=tmp_path)
    assert inside("/srv/colon") == "colon"


def test_special_files_are_never_opened(box, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    ok("cp", str(tmp_path / "fifo"), "box:/srv/fifo")
    ok("cp", "box:/srv/fifo", str(tmp_path / "back"))
    assert stat.S_ISFIFO((tmp_path / "back").stat().st_mode)
    ok("cp", "box:/srv/fifo", str(tmp_path / "again"))


def test_a_large_tree_is_whole(box, tmp_path):
    tree = tmp_path / "tree"
    for i in range(30):
        (tree / f"d{i}").mkdir(parents=True)
        for j in range(20):
            (tree / f"d{i}/f{j}").write_bytes(bytes([i]) * j * 1000)
    os.link(tree / "d0/f1", tree / "d1/hard")
    ok("cp", str(tree), "box:/srv/tree")
    ok("cp", "box:/srv/tree", str(tmp_path / "back"))
    assert subprocess.run(["diff", "-r", str(tree), str(tmp_path / "back")], capture_output=True).stdout == b""
    assert (tmp_path / "back/d1/hard").stat().st_nlink == 2
