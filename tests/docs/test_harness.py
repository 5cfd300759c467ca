"""What runs the pages would notice if they were wrong."""

from pathlib import Path

import pytest
from page import Malformed, blocks, matches
from shell import Shell

from containers import needs_root
from kist.kernel.probe import probe


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("one", "one\n", True),
        ("one", "one\ntwo\n", False),
        ("one  two", "one two \n", True),
        ("o...e", "one\n", True),
        ("o...e", "o\ne\n", False),
        ("one\n...", "one\n", True),
        ("one\n...\nfour", "one\ntwo\nthree\nfour\n", True),
        ("one\n...\nfour", "one\ntwo\n", False),
        ("a.b", "axb", False),
    ],
)
def test_matches(expected: str, printed: str, same: bool):
    assert matches(expected, printed) is same


@pytest.mark.parametrize(
    "text",
    [
        "```sh run now\n:\n```",
        "```text expect\nnothing was run\n```",
        "```c run\n;\n```",
        "```sh run eventually\n:\n```",
        "```sh run\nno end",
        "```sh nonsense\n:\n```",
    ],
)
def test_malformed(tmp_path: Path, text: str):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(Malformed):
        blocks(page)


def _left_by(tmp_path: Path, path: str, command: str, patience_s: float = 0.2) -> list[str]:
    page = tmp_path / "page.md"
    page.write_text(f"```sh run\n{command}\n```\n")
    shell = Shell(tmp_path, path)
    printed, status = shell.run(blocks(page)[0])
    assert status == 0, printed
    return shell.close(patience_s)


def _one_left(kind: str, tmp_path: Path, path: str, command: str) -> None:
    """Of that kind: others' cgroups come and go meanwhile."""
    assert len([what for what in _left_by(tmp_path, path, command) if what.startswith(f"{kind} ")]) == 1


def test_a_page_that_is_tidy(tmp_path: Path, path: str):
    assert _left_by(tmp_path, path, "sleep 1000 & kill $!; wait", 5) == []


def test_a_process_that_is_left(tmp_path: Path, path: str):
    _one_left("process", tmp_path, path, "sleep 1000 &")


@needs_root
def test_a_mount_that_is_left(tmp_path: Path, path: str):
    mounts = Path("/proc/self/mountinfo").read_text()
    _one_left("mount", tmp_path, path, 'mkdir m; mount -t tmpfs none "$PWD/m"')
    assert Path("/proc/self/mountinfo").read_text() == mounts


@needs_root
def test_a_cgroup_that_is_left(tmp_path: Path, path: str):
    cgroup = Path("/sys/fs/cgroup", "" if probe().cgroup.version == 2 else "cpu", "tutorial-left")
    assert f"cgroup {cgroup}" in _left_by(tmp_path, path, f"mkdir {cgroup}")
    assert not cgroup.exists()


def test_a_file_that_is_left(tmp_path: Path, path: str):
    _one_left("file", tmp_path, path, "touch $KIST_RUN_DIR/container")
