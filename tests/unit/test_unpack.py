"""Archives into directories that exist, as cp does; and names resolved inside a root."""

import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from images import hardlink, member, symlink, tar_of
from kist.engine import view
from kist.engine.copying import Target, settle_target
from kist.engine.view import Steady
from kist.errors import InvalidInput, KistError, NotFound
from kist.kernel import resolve
from kist.store.pack import Packer, pack_tree
from kist.store.tar import Limits, TarReader
from kist.store.unpack import Unpacker


def unpack(directory: Path, *members, **options) -> Unpacker:
    fd = os.open(directory, resolve.DIRECTORY)
    unpacker = Unpacker(fd, owners=False, **options)
    try:
        unpacker.unpack(TarReader(BytesIO(tar_of(*members)), Limits()))
    finally:
        unpacker.close()
        os.close(fd)
    return unpacker


def test_modes_times_and_links(tmp_path):
    unpack(tmp_path, member("d", mode=0o500), member("d/f", b"text", mode=0o640), hardlink("d/h", "d/f"),
           symlink("d/l", "../out"))  # fmt: skip
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o500
    assert (tmp_path / "d").stat().st_mtime == 1_700_000_000
    assert (tmp_path / "d/f").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "d/f").stat().st_ino == (tmp_path / "d/h").stat().st_ino
    assert os.readlink(tmp_path / "d/l") == "../out"
    assert not list(tmp_path.rglob(".kist-*"))
    (tmp_path / "d").chmod(0o700)


def test_a_file_takes_the_place_of_a_file_or_link_and_never_goes_through_it(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").write_text("outside")
    (tmp_path / "in/l").symlink_to("../out")
    unpack(tmp_path / "in", member("l", b"new"))
    assert (tmp_path / "out").read_text() == "outside"
    assert not (tmp_path / "in/l").is_symlink()


@pytest.mark.parametrize("members", [[member("dir", b"file")], [member("file")], [member("link")],
                                     [member("link/x", b"")], [member("file/x", b"")]])  # fmt: skip
def test_a_directory_and_something_else_never_take_each_others_place(tmp_path, members):
    (tmp_path / "in/dir").mkdir(parents=True)
    (tmp_path / "in/file").write_text("")
    (tmp_path / "in/link").symlink_to(tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InvalidInput) as caught:
        unpack(tmp_path / "in", *members)
    assert caught.value.code == "not-the-same-kind"
    assert sorted(os.listdir(tmp_path)) == before


def test_names_that_climb_out_are_refused(tmp_path):
    with pytest.raises(InvalidInput) as caught:
        unpack(tmp_path, member("a/../../b", b""))
    assert caught.value.code == "tar-escape"


def test_devices_and_set_ids_are_left_out_where_asked(tmp_path):
    found = unpack(tmp_path, member("null", None, type=tarfile.CHRTYPE, devmajor=1, devminor=3),
                   member("s", b"", mode=0o4755), devices=False, set_ids=False)  # fmt: skip
    assert [(s.reason, s.examples) for s in found.skipped] == [("device", ("null",))]
    assert (tmp_path / "s").stat().st_mode & 0o7777 == 0o755


def test_what_is_packed_under_a_name_and_without_some_directories(tmp_path):
    for name in ("a/b", "proc/1"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/f").write_text("x")
    out = BytesIO()
    pack_tree(str(tmp_path), Packer(out, prefix=b"name", hollow=frozenset((b"proc",))))
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        names = sorted(tar.getnames())
    assert names == ["name", "name/a", "name/a/b", "name/a/f", "name/proc"]


# --- where it goes


@pytest.fixture
def root(tmp_path: Path):
    (tmp_path / "root/dir").mkdir(parents=True)
    (tmp_path / "root/file").write_text("")
    (tmp_path / "root/tofile").symlink_to("/file")
    (tmp_path / "root/todir").symlink_to("../../../dir")
    (tmp_path / "root/dangling").symlink_to("dir/new")
    fd = os.open(tmp_path / "root", resolve.DIRECTORY)
    yield fd
    os.close(fd)


FILE, DIR, CONTENT = Target(False), Target(True), Target(True, True)


@pytest.mark.parametrize(
    ("path", "target", "where", "names"),
    [
        ("/new", FILE, "", "new"),
        ("/file", FILE, "", "file"),
        ("/tofile", FILE, "", "file"),
        ("/dangling", FILE, "dir", "new"),
        ("/dir", FILE, "dir", "src"),
        ("/dir/", FILE, "dir", "src"),
        ("/todir", FILE, "dir", "src"),
        ("/../../dir/./x", FILE, "dir", "x"),
        ("/new", DIR, "", "new/f"),
        ("/new/", DIR, "", "new/f"),
        ("/dir", DIR, "dir", "src/f"),
        ("/dir", CONTENT, "dir", "f"),
        ("/", CONTENT, "", "f"),
        ("/new", CONTENT, "", "new/f"),
    ],
)
def test_targets(root, path, target, where, names):
    fd, rename = settle_target(root, path.encode(), target, "there")
    assert os.path.samestat(os.fstat(fd), os.stat(where or ".", dir_fd=root))
    os.close(fd)
    parts = [b"src", b"f"] if target.is_directory else [b"src"]
    assert b"/".join(rename(parts)) == names.encode()


@pytest.mark.parametrize(("path", "target", "error"), [
    ("/none/", FILE, NotFound), ("/none/x", FILE, NotFound), ("/none/x", DIR, NotFound), ("/file/x", FILE, NotFound),
    ("/file/", FILE, NotFound), ("/file", DIR, InvalidInput), ("/tofile", CONTENT, InvalidInput),
])  # fmt: skip
def test_targets_refused(root, path, target, error):
    with pytest.raises(error):
        settle_target(root, path.encode(), target, "there")


def test_a_loop_of_links_ends(root, tmp_path):
    (tmp_path / "root/one").symlink_to("two")
    (tmp_path / "root/two").symlink_to("one")
    for follow in (True, False):
        with pytest.raises(OSError):
            resolve.open_inside(root, b"/one/x", resolve.PATH)
        if follow:
            with pytest.raises(OSError):
                resolve.open_parent(root, b"/one", follow=True)


def test_a_pipe_in_which_nothing_moves(monkeypatch):
    monkeypatch.setattr(view, "_STEADY_S", 0.05)
    read, write = os.pipe()
    try:
        with pytest.raises(KistError) as caught:
            Steady(read).readinto(memoryview(bytearray(8)))
        assert caught.value.code == "stalled"
        with pytest.raises(KistError) as caught:
            Steady(write).write(bytes(1 << 20))
        assert caught.value.code == "stalled"
    finally:
        os.close(read)
        os.close(write)
