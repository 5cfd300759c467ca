"""`kist import`, `kist images`, `kist rmi`: through the command line, in a store of their own."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from kist.codec import loads
from kist.faces.cli import __main__ as cli
from kist.faces.cli.columns import size_words


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KIST_DATA_DIR", str(tmp_path / "data"))
    path = tmp_path / "rootfs.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = 2000
        member.uid, member.gid = os.geteuid(), os.getegid()
        tar.addfile(member, io.BytesIO(b"x" * 2000))
    return str(path)


def test_import_list_remove(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", archive, "box:1"]) == 0
    assert capsys.readouterr().out == "box:1: 1 files, 2.0 KiB\n"
    assert cli.run(["images"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["REPOSITORY", "TAG"], ["box", "1"]]
    assert cli.run(["images", "-q"]) == 0
    short = capsys.readouterr().out.strip()
    assert cli.run(["images", "--format", "json"]) == 0
    (row,) = map(loads, capsys.readouterr().out.splitlines())
    assert (row["Repository"], row["Tag"], row["ID"], row["Size"]) == ("box", "1", short, "2.0 KiB")
    assert cli.run(["rmi", "box:1"]) == 0
    untagged, deleted = capsys.readouterr().out.splitlines()
    assert untagged == "Untagged: box:1"
    assert deleted.startswith(f"Deleted: sha256:{short}")
    assert cli.run(["images", "-q"]) == 0
    assert capsys.readouterr().out == ""


def test_a_taken_name_is_kept_unless_told(archive: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["import", archive, "box"]) == 0
    assert cli.run(["import", archive, "box"]) == 125
    assert "[conflict]" in capsys.readouterr().err
    assert cli.run(["import", "--replace", archive, "box"]) == 0


def test_mistakes(archive: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (
        ["import", archive],
        ["import", str(tmp_path / "none"), "box"],
        ["import", str(tmp_path), "box"],
        ["import", archive, "Not A Name"],
        ["import", __file__, "box"],
        ["rmi", "none"],
        ["rmi"],
    ):
        assert cli.run(argv) == 125
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("kist: ")
        assert "bug" not in err


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (10240, "10 KiB"), (8 << 20, "8.0 MiB"), (3 << 60, "3072 PiB")],
)
def test_sizes(size_bytes: int, words: str) -> None:
    assert size_words(size_bytes) == words
