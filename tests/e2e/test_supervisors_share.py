"""Supervisors run from one sealed file in memory, and from no other."""

import os
import subprocess
from pathlib import Path

from containers import KIST
from kist.engine.containers import Containers
from kist.kernel.launcher import open_program


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
