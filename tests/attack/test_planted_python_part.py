"""Whoever can put a file somewhere has it run by another user's kist-oci, in place of its Python part."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from bundles import KIST_OCI, kist_only
from containers import needs_root

pytestmark = kist_only

PLANTED = "#!/bin/sh -p\necho planted $(id -u)\n"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
PR_GET_NO_NEW_PRIVS = 39


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that all users may look into, with a copy of the program."""
    path = Path(mkdtemp(prefix="kist-test-", dir="/var/tmp"))
    path.chmod(0o755)
    shutil.copy(KIST_OCI, path / "runtime")
    yield path
    shutil.rmtree(path)


def plant(path: Path) -> None:
    path.write_text(PLANTED)
    path.chmod(0o755)


def said(*argv: str | Path, path: str | Path = "/nowhere", cwd: str | Path = "/") -> str:
    env = {"PATH": f"{path}:/usr/bin:/bin"}
    done = subprocess.run([*argv, "--version"], env=env, cwd=cwd, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize("mode", [0o1777, 0o1757])
def test_beside_a_program_in_tmp(place: Path, mode: int):
    plant(place / "runtime-python")
    place.chmod(mode)
    assert "cannot start its Python part" in said(place / "runtime")
    assert said(place / "runtime", path=os.path.dirname(KIST_OCI)).startswith("kist-oci ")


def test_control_beside_a_program_elsewhere(place: Path):
    plant(place / "runtime-python")
    assert said(place / "runtime") == f"planted {os.geteuid()}\n"


def _deep(place: Path) -> None:
    """Make the working directory one whose path has no room in 4096 bytes, with the program and a script in it."""
    os.chdir(place)
    for _ in range(21):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    os.link(place / "runtime", "runtime")
    plant(Path("-python"))


def test_in_the_working_directory(place: Path):
    """Where the program's own path is too long, its Python part was `-python`, wherever that was."""
    done = subprocess.run(
        ["./runtime", "--version"],
        preexec_fn=lambda: _deep(place),
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
    )
    assert "planted" not in done.stdout
    assert "cannot start its Python part" in done.stderr


def _can_gain_privileges(place: Path) -> bool:
    blocked = ctypes.CDLL(None).prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
    return not blocked and not os.statvfs(place).f_flag & os.ST_NOSUID


@needs_root
def test_by_the_path_of_a_caller_with_fewer_privileges(place: Path):
    """Nobody should make it set-user-ID; who does has not given away what PATH decides."""
    if not _can_gain_privileges(place):
        pytest.skip("set-user-ID does nothing here")
    own = place / "own"
    own.mkdir()
    plant(own / "kist-oci-python")
    assert said(*NOBODY, place / "runtime", path=own) == "planted 65534\n"  # the caller's own choice
    (place / "runtime").chmod(0o4755)
    text = said(*NOBODY, place / "runtime", path=own)
    assert "planted" not in text
    plant(place / "runtime-python")  # control; busybox's sh gives root's privileges up
    assert said(*NOBODY, place / "runtime", path=own) in ("planted 0\n", "planted 65534\n")
