"""Supervisors run from one sealed file in memory, and from no other."""

import os
import subprocess
from pathlib import Path

import pytest

from containers import KIST
from kist import run
from kist.engine.containers import Containers
from kist.engine.state import StateDirectory
from kist.kernel.program import open_program
from machine import wait_until

LENT_FD = 200  # launcher/root.c


def test_the_program_is_in_memory_once(rootfs: Path, run_dir: Path) -> None:
    def program_of(number: int) -> os.stat_result:
        words = ("run", "-d", "--name", f"c{number}", "--rootfs", str(rootfs), "sleep", "1000")
        subprocess.run([*KIST, *words], check=True, stdout=subprocess.DEVNULL)
        pid = Containers().find(f"c{number}").pid
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        return Path(f"/proc/{parent}/exe").stat()

    try:
        programs = {(found.st_dev, found.st_ino) for found in map(program_of, range(3))}
        assert len(programs) == 1
    finally:
        subprocess.run([*KIST, "rm", "-f", "c0", "c1", "c2"], check=True, stdout=subprocess.DEVNULL)


def test_another_program_is_not_taken() -> None:
    fd = open_program(os.getpid())  # Python: neither sealed nor the launcher
    try:
        assert os.fstat(fd).st_ino != Path("/proc/self/exe").stat().st_ino
        assert os.pread(fd, 4, 0) == b"\x7fELF"
    finally:
        os.close(fd)


def test_an_image_is_in_memory_once(rootfs: Path, run_dir: Path, tmp_path: Path) -> None:
    """The first supervisor lends its tree; one that is no more, or another process of its number, is not asked."""

    def kist(*words: str) -> None:
        subprocess.run([*KIST, *words], check=True, stdout=subprocess.DEVNULL)

    def device_of(name: str) -> int:
        kist("run", "-d", "--name", name, "box", "sleep", "1000")
        parent = Path(f"/proc/{Containers().find(name).pid}/stat").read_text().rpartition(")")[2].split()[1]
        lent = Path(f"/proc/{parent}/fd/{LENT_FD}")
        return lent.stat().st_dev if lent.exists() else 0

    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(tmp_path / "box.tar"), "."], check=True)
    kist("import", str(tmp_path / "box.tar"), "box")
    try:
        first = device_of("c0")
        if not first:
            pytest.skip("images are directories here, or Linux is older than 6.15")
        assert device_of("c1") == first
        kist("rm", "-f", "c0")
        second = device_of("c2")
        assert second != first
        (link,) = run_dir.glob(".lent-*")
        pid, inode = os.readlink(link).split()
        link.unlink()
        link.symlink_to(f"{pid} {int(inode) + 1}")
        assert device_of("c3") not in (first, second)
    finally:
        kist("rm", "-f", *[c.id for c in Containers().all()])
    assert not list(run_dir.glob(".lent-*"))


def test_who_has_ended_already_lends_nothing(
    rootfs: Path, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(tmp_path / "box.tar"), "."], check=True)
    subprocess.run([*KIST, "import", str(tmp_path / "box.tar"), "box"], check=True, stdout=subprocess.DEVNULL)
    lend, late = StateDirectory.lend, []

    def lend_late(states: StateDirectory, *words: object) -> None:
        wait_until(lambda: not states.ids())
        late.append(words)
        lend(states, *words)

    monkeypatch.setattr(StateDirectory, "lend", lend_late)
    run(["true"], image="box")
    if not late:
        pytest.skip("images are directories here")
    assert not list(run_dir.glob(".lent-*"))
