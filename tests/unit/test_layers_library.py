"""The fast way through an archive, in C, takes what the other one takes, and the same of it."""

import io
import os
import random
import resource
import stat
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images import hardlink, member, symlink, tar_of
from kist.errors import KistError
from kist.store import changes, layers, view
from kist.store.ahead import CHUNK_BYTES
from kist.store.changes import Change
from kist.store.library import Plain
from kist.store.tar import Limits
from kist.store.view import Inode
from kist.value import replace
from trees import snapshot

FORMS = ("staged", "raw")


def read(archive: bytes, form: str, limits: Limits) -> tuple[object, ...]:
    """Whatever comes of a layer: its books, its contents, and what it comes to."""
    with TemporaryDirectory() as directory:
        books, stage = Path(directory, "books"), Path(directory, "stage")
        books.mkdir()
        stage.mkdir()
        fd = os.open(stage, os.O_RDONLY)
        raw = os.open(books / "tar", os.O_WRONLY | os.O_CREAT)
        staged, kept = layers.StagedContents(fd, os.geteuid() == 0), layers.RawContents(raw, str(books / "extra"))
        try:
            with changes.Writer(str(books), view.empty()) as writer:
                contents = staged if form == "staged" else kept
                summary = layers.read_layer(io.BytesIO(archive), writer, contents, "sha256", limits, ahead=False)
        except KistError as e:
            return type(e), e.code, str(e)
        finally:
            kept.close()
            os.close(fd)
        nodes = [(path, bytes(node) if isinstance(node, Inode) else bytes(node.inode))
                 for path, node in writer.view.walk()] if writer.view else None  # fmt: skip
        files = {path.name: path.read_bytes() for path in books.iterdir()}
        return summary, nodes, files, by_number(str(stage), str(books), staged.files.staged)


def by_number(stage: str, books: str, staged: layers.Staged) -> dict[int, object]:
    """Whatever is staged, wherever."""
    found = {k[2:]: v for k, v in snapshot(stage).items() if "content" in v}
    there = {}
    for number, change in enumerate(one_by_one((Path(books) / "changes").read_bytes()[8:], 0, 0)[1]):
        if found and change.inode and stat.S_ISREG(change.inode.mode):
            there[number] = found.pop(staged.name(number, change.name.rpartition(b"/")[2]))
            del there[number]["first"]
    assert not found
    return there


def same(archive: bytes, form: str, limits: Limits | None = None) -> tuple[object, ...]:
    """What comes of it, both ways."""
    fast = read(archive, form, limits or Limits())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plain, "take", lambda *_: None)
        slow = read(archive, form, limits or Limits())
    assert fast == slow
    return fast


def many(format: int = tarfile.PAX_FORMAT) -> bytes:
    """Of everything something, and enough of it for several chunks."""
    rng = random.Random(7)
    members = [member(".", None), member("./a/", None, mode=0o7755), member("dir", None, uid=3, gid=4)]
    for i in range(400):
        size = rng.choice((0, 1, 511, 512, 513, 5000, 40_000 if i % 9 else 2 * CHUNK_BYTES))
        members.append(member(f"dir/f{i}", rng.randbytes(size), mode=rng.choice((0o644, 0o4755, 0, 0o777, 0o600))))
        if os.geteuid() == 0:
            members[-1][0].uid, members[-1][0].gid = rng.choice((0, 1000, 2**21 - 1, 2**21)), rng.choice((0, 5))
        members[-1][0].mtime = rng.choice((0, 1, 2**31, 2**33 - 1, 2**33, 1.5))
    members += [
        symlink("dir/s", "/x" * 50),
        symlink("dir/t", "y" * 101),
        hardlink("dir/h", "dir/f3"),
        member("x/.wh.y", b""),
    ]
    members += [
        member("n" * 99, b"1"),
        member("n" * 100, b"2"),
        member("p" * 90 + "/" + "q" * 90, b"3"),
        member("dir", b"4"),
    ]
    return tar_of(*members, format=format)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_large_archive(format: int, form: str) -> None:
    summary = same(many(format), form)[0]
    assert isinstance(summary, layers.Summary) and summary.entries > 400


@pytest.mark.parametrize("form", FORMS)
def test_limits(form: str) -> None:
    archive = tar_of(*[member(f"{i}" * 9, b"x" * 100) for i in range(9)])
    assert isinstance(same(archive, form, Limits(entries=9))[0], layers.Summary)
    assert same(archive, form, Limits(entries=8))[1] == "tar-limit"
    assert same(archive, form, Limits(total_bytes=899))[1] == "tar-limit"
    assert same(archive, form, Limits(name_bytes=8))[1] == "tar-limit"
    assert isinstance(same(archive, form, Limits(name_bytes=9))[0], layers.Summary)


def test_most_entries_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    take = Plain.take
    monkeypatch.setattr(Plain, "take", lambda self, *args: (take(self, *args), taken.append(self))[0])
    read(tar_of(*[member(f"{i}", b"x" * 5000) for i in range(2000)], symlink("s", "x")), "raw", Limits())
    assert 1950 < taken[-1].entries < 2001  # but those that begin with a chunk


def test_what_cannot_be_made_is_said() -> None:
    """By the slow way, which finds nothing that the fast one began."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        error = read(tar_of(member("a", b"1"), member("b", b"2" * 30_000)), "staged", Limits())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "'b': File too large" in str(error[2])


NAMES = st.lists(
    st.sampled_from([b"a", b"b", b"c" * 255, b"d" * 256, b".", b"..", b"", b"e\0f"]), min_size=1, max_size=3
)
INODES = st.sampled_from([
    Inode.make(stat.S_IFREG | 0o644, size=5, place=512), Inode.make(stat.S_IFREG | 0o4755, uid=1, tail=b"attribute"),
    Inode.make(stat.S_IFDIR | 0o755), Inode.make(stat.S_IFLNK | 0o777, tail=b"a"), Inode.make(stat.S_IFIFO), None,
    b"short",
])  # fmt: skip


def one_by_one(records: bytes, layer: int, number: int | None) -> tuple[int, list[Change], int]:
    """What changes.taken_apart promises, without runs."""
    at, found = 0, list[Change]()
    while len(records) - at >= 8:
        name, link, size = struct.unpack_from("<HHI", records, at)
        end = at + 8 + name + link + size
        if end > len(records):
            break
        data = records[end - size : end]
        if 0 < size < 40:
            raise ValueError
        if data:
            place = struct.pack("<Q", number + len(found)) if number is not None and data[1] >> 4 == 8 else data[32:40]
            data = data[:2] + struct.pack("<H", layer) + data[4:32] + place + data[40:]
        found.append(Change(records[at + 8 :][:name], Inode(data) if data else None, records[at + 8 + name :][:link]))
        at = end
    return at, found, len(found)


def applied(entries: Sequence[Change | view.Run]) -> object:
    try:
        found = view.apply(view.empty(), entries)
    except KistError as e:
        return e.code
    return [(path, node if isinstance(node, Inode) else node.inode) for path, node in found.walk()], found.size_bytes


@settings(max_examples=200, deadline=None)
@given(entries=st.lists(st.tuples(NAMES, INODES), max_size=12), cut=st.integers(0, 400), number=st.none() | st.just(7))
def test_records_taken_apart(entries: list[tuple[list[bytes], bytes | None]], cut: int, number: int | None) -> None:
    """A run is its entries, one after the other."""
    whole = b"".join(
        [struct.pack("<HHI", len(name), 1 if inode is None else 0, len(inode or b"")) + name
         + (b"l" if inode is None else inode) for names, inode in entries for name in [b"/".join(names)]]
    )  # fmt: skip
    for records in (whole, whole[: len(whole) - min(cut, len(whole))]):
        try:
            end, expected, count = one_by_one(records, 3, number)
        except ValueError:
            with pytest.raises(ValueError):
                changes.taken_apart(records, 3, number)
            continue
        found = changes.taken_apart(records, 3, number)
        assert found[::2] == (end, count)
        flat = list[Change]()
        for item in found[1]:
            each = zip(item.names, item.inodes, strict=True) if isinstance(item, view.Run) else None
            flat += [Change(item.head + b"/" + name, inode) for name, inode in each] if each else [item]  # type: ignore[list-item]
        assert [replace(a, name=a.name.lstrip(b"/")) for a in flat] == [
            replace(b, name=b.name.lstrip(b"/")) for b in expected
        ]
        assert applied(found[1]) == applied(expected)


FIELDS = {"name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12), "mtime": (136, 12),
          "sum": (148, 8), "type": (156, 1), "link": (157, 100), "magic": (257, 8), "prefix": (345, 155)}  # fmt: skip
CONTENTS = (
    st.binary(max_size=12)
    | st.text("0123456789 \0-x", max_size=12).map(str.encode)
    | st.sampled_from(
        [
            b".wh.a",
            b".wh..wh..opq",
            b"a/../b",
            b"..",
            b"/",
            b"a/",
            b"./a",
            b"7777777",
            b"0010000",
            b"00000001000",
            b"\x80",
        ]
    )
)
TYPES = st.sampled_from([b"0", b"\0", b"5", b"2", b"1", b"7", b"x", b"L", b"S", b"g"])


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_headers_of_any_kind(form: str, data: st.DataObject) -> None:
    """Fields changed at random, the checksum made good again or not."""
    archive = bytearray(tar_of(
        member("a", None), member("a/b", b"1" * 600), member("c", b""), symlink("d", "a"), member("e", b"5" * 512),
        format=tarfile.USTAR_FORMAT,
    ))  # fmt: skip
    headers = [0, 512, 2048, 2560, 3072]
    for at in data.draw(st.lists(st.sampled_from(headers), min_size=1, max_size=3)):
        start, size = FIELDS[name := data.draw(st.sampled_from(list(FIELDS)))]
        value = data.draw(TYPES if name == "type" else CONTENTS)[:size]
        archive[at + start : at + start + size] = value.ljust(size, data.draw(st.sampled_from([b"\0", b" "])))
        if name != "sum":
            archive[at + 148 : at + 156] = b" " * 8
            archive[at + 148 : at + 156] = b"%06o\0 " % sum(archive[at : at + 512])
    same(bytes(archive), form)
