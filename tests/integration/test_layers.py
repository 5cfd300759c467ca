"""Layers as the kernel shows them, in both forms, beside what GNU tar and umoci make of the same archives."""

import gzip
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from containers import needs_root
from images import hardlink, member, put_image, symlink, tar_of
from kist.store.blobs import BlobStore
from kist.store.forms import EROFS, best_form
from kist.store.images import ImageStore
from trees import Tree, differences, shown, snapshot, use_directories

pytestmark = needs_root
LONG = os.environ.get("KIST_LONG")


@pytest.fixture(params=["best", "directories"])
def data_dir(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = str(tmp_path / "data")
    if request.param == "directories":
        use_directories(path)
    return path


def add(data_dir: str, layers: list[bytes], **kwargs) -> None:
    with BlobStore(data_dir) as blobs:
        ImageStore(data_dir).add("it", put_image(blobs, layers, **kwargs))


def gnu_tar(archive: bytes, into: Path) -> Tree:
    into.mkdir()
    command = [
        "tar",
        "-x",
        "-p",
        "--numeric-owner",
        "--same-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--delay-directory-restore",
    ]
    done = subprocess.run([*command, "-C", str(into)], input=archive, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return snapshot(str(into))


def compare(data_dir: str, tmp_path: Path, archive: bytes, **kwargs) -> None:
    add(data_dir, [archive], **kwargs)
    expected = gnu_tar(archive, tmp_path / "gnu")
    assert len(expected) > 1
    with shown("it", data_dir) as path:
        assert differences(snapshot(path), expected) == []


def grown(directory: Path, seed: int) -> Path:
    """A tree with one of everything, and names and sizes that vary."""
    rng = random.Random(seed)
    directory.mkdir()
    directory.chmod(0o755)
    paths = [directory]
    for i in range(60):
        parent = rng.choice(paths)
        path = Path(os.fsdecode(os.fsencode(parent) + b"/" + rng.choice((
            b"f%d" % i, b"x" * rng.randrange(90, 200) + b"%d" % i, b"\xff\xfe%d" % i,
            b"\xc3\xbc%d" % i,
            b"with space %d" % i, b"new\nline%d" % i, b"-dash%d" % i,
        ))))  # fmt: skip
        kind = rng.randrange(8)
        if kind < 2 and len(os.fsencode(path)) < 3000:
            path.mkdir()
            paths.append(path)
        elif kind == 2:
            path.symlink_to(os.fsdecode(rng.choice((b"/nowhere", b"../" * 5, b"t" * 1000, b"\xff"))))
        elif kind == 3:
            os.mkfifo(path)
        elif kind == 4:
            kinds, number = rng.choice(
                ((stat.S_IFCHR, (1, 3)), (stat.S_IFBLK, (259, 70000)), (stat.S_IFCHR, (4095, 1)))
            )
            os.mknod(path, kinds | 0o600, os.makedev(*number))
        else:
            path.write_bytes(rng.randbytes(rng.choice((0, 1, 511, 512, 513, 5000, 70000))))
            if rng.randrange(4) == 0:
                os.link(path, str(path) + ".link")
            if rng.randrange(4) == 0:
                os.setxattr(path, "user.note", rng.randbytes(rng.choice((0, 1, 300))))
        if not path.is_symlink():
            os.chown(path, rng.choice((0, 33, 65534, 3_000_000_000)), rng.choice((0, 42, 2_500_000)))
            path.chmod(
                rng.choice((0o644, 0o4755, 0o2711, 0o1777, 0o600, 0o755)) if path.is_dir() or kind > 4 else 0o640
            )
            os.utime(path, ns=(0, rng.choice((0, 1_700_000_000_123_456_789, 1, -1_500_000_000, 2**33 * 10**9))))
    capable = directory / "capable"
    capable.write_bytes(b"x")
    # VFS_CAP_REVISION_2, effective; cap_net_raw permitted: capabilities(7)
    os.setxattr(capable, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    with open(directory / "sparse", "wb") as file:
        for offset in (0, 1 << 20, 5 << 20, (9 << 20) + 123):
            file.seek(offset)
            file.write(b"data" * 1000)
        file.truncate(12 << 20)
    return directory


@pytest.mark.parametrize("seed", range(30 if LONG else 1))
@pytest.mark.parametrize(
    "flags",
    [
        ("--format=pax", "--xattrs", "--xattrs-include=*"),
        ("--format=pax", "--sparse", "--xattrs", "--xattrs-include=*"),
        ("--format=pax", "--sparse", "--sparse-version=0.0"),
        ("--format=pax", "--sparse", "--sparse-version=0.1"),
        ("--format=gnu",),
        ("--format=gnu", "--sparse"),
        ("--format=oldgnu", "--sparse"),
    ],
    ids=" ".join,
)
def test_gnu_tar_packs_and_kist_shows(data_dir: str, tmp_path: Path, flags: tuple[str, ...], seed: int) -> None:
    tree = grown(tmp_path / "tree", seed)
    command = ["tar", "-c", "--numeric-owner", "--sort=name", *flags, "-C", str(tree), "."]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    compare(data_dir, tmp_path, done.stdout)


@pytest.mark.parametrize("name", ["etc", *(["usr", "var/lib"] if LONG else [])])
def test_this_machines_own_files(data_dir: str, tmp_path: Path, name: str) -> None:
    if not Path("/", name).is_dir():
        pytest.skip(f"this machine has no /{name}")
    command = ["tar", "-c", "--numeric-owner", "--format=pax", "--xattrs", "--xattrs-include=*", "-C", f"/{name}", "."]
    done = subprocess.run(command, capture_output=True, check=False)
    compare(data_dir, tmp_path, done.stdout)


# --- several layers

BASE = tar_of(
    member("d"), member("d/a", b"a"), member("d/b", b"b"), member("d/sub"), member("d/sub/x", b"x", mode=0o4755),
    member("file", b"file"),
    symlink("link", "d"), member("o"), member("o/1", b"1"), member("o/2"), member("o/2/3", b"3"),
    member("h1", b"hard"), hardlink("h2", "h1"), hardlink("d/h3", "h1"), member("deep"), member("deep/er"),
)  # fmt: skip
UPPERS: dict[str, list[bytes]] = {
    "a whiteout": [tar_of(member("d"), member("d/.wh.a", b""))],
    "a whiteout of a directory": [tar_of(member(".wh.d", b""))],
    "a directory anew after its whiteout": [tar_of(member(".wh.d", b"")), tar_of(member("d"), member("d/new", b"n"))],
    "whiteout and new directory in one": [tar_of(member(".wh.d", b""), member("d"), member("d/new", b"n"))],
    "opaque first": [tar_of(member("o"), member("o/.wh..wh..opq", b""), member("o/new", b"n"))],
    "opaque last": [tar_of(member("o"), member("o/new", b"n"), member("o/.wh..wh..opq", b""))],
    "opaque, then more": [tar_of(member("o"), member("o/.wh..wh..opq", b"")), tar_of(member("o/4", b"4"))],
    "a file for a directory": [tar_of(member("d", b"now a file"))],
    "a directory for a file": [tar_of(member("file"), member("file/in", b"i"))],
    "a symlink for a directory": [tar_of(symlink("o", "d"))],
    "metadata of a directory": [tar_of(member("d", mode=0o700, uid=33, mtime=5))],
    "a link to a lower file": [tar_of(hardlink("h4", "h1"))],
    "a link to a lower file, then written anew": [tar_of(hardlink("h4", "h1")), tar_of(member("h1", b"other"))],
    "one of several names gone": [tar_of(member(".wh.h1", b""))],
    "one of several names replaced": [tar_of(member("h1", b"alone"))],
    "through a symlinked parent": [tar_of(member("link/new", b"n"))],
    "parents that are not in the archive": [tar_of(member("not/there/file", b"f"))],
    "an empty layer": [tar_of(), tar_of(member("z", b"z"))],
    "the same entry twice": [tar_of(member("t", b"1"), member("t", b"22"), member("t2", b"x"), hardlink("t", "t2"))],
    "a whiteout of what is not there": [tar_of(member(".wh.nothing", b""), member("d/.wh.nothing", b""))],
    "many layers": [tar_of(member(f"d/n{i}", b"%d" % i), member(f"d/.wh.n{i - 3}", b"")) for i in range(40)],
}


@pytest.fixture(scope="session")
def umoci(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tree]:
    """Its view of the same images; made once for both forms."""
    if not shutil.which("umoci"):
        pytest.skip("needs umoci: apt-get install umoci")
    return cache(lambda what: unpacked(tmp_path_factory.mktemp("umoci"), [BASE, *UPPERS[what]]))


def unpacked(tmp_path: Path, layers: list[bytes]) -> Tree:
    layout = tmp_path / "layout"
    with BlobStore(str(layout)) as blobs:
        root = put_image(blobs, layers)
        ImageStore(str(layout)).add("it", root)
    command = ["umoci", "unpack", "--image", f"{layout}:it:latest", str(tmp_path / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return snapshot(str(tmp_path / "bundle" / "rootfs"))


@pytest.mark.parametrize("what", UPPERS)
def test_layers_beside_umoci(data_dir: str, umoci: Callable[[str], Tree], what: str) -> None:
    add(data_dir, [BASE, *UPPERS[what]])
    expected = umoci(what)
    with shown("it", data_dir) as path:
        lines = differences(snapshot(path), expected)
    # Directories that no layer gives a time, or whose content a later one changed: umoci leaves the time of unpacking.
    # A file in an overlay has as many links as below, also when one of its names is hidden.
    ignored = (" mtime: ",) if best_form(data_dir) == EROFS else (" mtime: ", " links: ")
    assert [line for line in lines if not any(word in line for word in ignored)] == []


@pytest.mark.parametrize(
    "compress",
    [None, lambda data: gzip.compress(data, 1)[:], lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:])],
    ids=["plain", "gzip", "two members"],
)
def test_compressions(data_dir: str, tmp_path: Path, compress: Callable[[bytes], bytes] | None) -> None:
    archive = BASE
    compare(data_dir, tmp_path, archive, compress=compress)


def test_files_of_one_directory_that_do_not_stay_together(data_dir: str, tmp_path: Path) -> None:
    """Whole ones, split ones, some that are replaced, linked, reached by another way, or named in odd ones."""
    members = [member("", None)]
    for name in ("whole", "split", "split/inner", "again", "linked", "long", "long/" + "n" * 120):
        members.append(member(name, None, mode=0o750))
    members += [member(f"whole/{i}", b"%d" % i, mode=0o4711 if i == 3 else 0o644) for i in range(9)]
    members += [member("split/a", b"1"), member("split/inner/b", b"2"), member("split/c", b"3" * 2_000_000)]
    members += [member("split/d", b"4"), member("./split/e", b"5"), member("split//f", b"6"), member("split/./g", b"7")]
    members += [member("again/a", b"8"), member("again/b", b"9"), member("again/a", b"10"), member("again/c", b"11")]
    members += [member("linked/a", b"12"), member("linked/b", b"13"), hardlink("linked/c", "linked/a")]
    members += [hardlink("whole/h", "linked/c"), member("linked/a", b"14"), hardlink("linked/i", "linked/a")]
    members += [symlink("way", "whole"), member("way/z", b"15"), member("whole/4", b"16"), member("way/z", b"17")]
    members += [member(f"long/{'n' * 120}/{i}", b"%d" % i) for i in range(3)]
    compare(data_dir, tmp_path, tar_of(*members))


def test_an_archive_without_its_end(data_dir: str, tmp_path: Path) -> None:
    compare(data_dir, tmp_path, BASE.rstrip(b"\0") + bytes(-len(BASE.rstrip(b"\0")) % 512))
