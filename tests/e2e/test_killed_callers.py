"""SIGKILL of commands that work with a container in the foreground: what did something for them alone ends, too.

Each is killed at a random moment of its start, and once more when it has long begun. KIST_LONG=1: many times.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import KIST, ok
from kist.engine.state import StateDirectory
from orphans import left_by

MOMENTS = 40 if "KIST_LONG" in os.environ else 1
ROOTFS = ("--rootfs", "ROOTFS")
COMMANDS = [
    ("logs", "box"),
    ("logs", "-f", "box"),
    ("attach", "box"),
    ("cp", "box:/tmp/big", "-"),
    ("cp", "-", "box:/tmp"),
    ("export", "box"),
    ("exec", "-i", "box", "cat"),
    ("exec", "box", "yes"),
    ("run", "--rm", "-i", *ROOTFS, "cat"),
    ("run", "--rm", "--init", *ROOTFS, "yes"),
    ("run", "--rm", "--pid", "host", *ROOTFS, "sleep", "1000"),
]


@pytest.fixture
def box(rootfs: Path, run_dir: Path) -> Iterator[str]:
    """A container that has printed much, and has a large file."""
    script = "seq 99999; head -c 9999999 /dev/zero > /tmp/big; echo done; sleep 1000"
    ok("run", "-d", "--name", "box", "--rootfs", str(rootfs), "sh", "-c", script)
    deadline = time.monotonic() + 20
    while not ok("logs", "--tail", "1", "box").endswith("done"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield "box"
    ok("rm", "-f", "box")
    for name in os.listdir(run_dir):  # a directory just made may be about to be locked: a minute later it is not
        os.utime(run_dir / name, (0, 0))
    StateDirectory(str(run_dir)).sweep()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_nobody_outlives_it(box: str, rootfs: Path, words: tuple[str, ...]) -> None:
    """Its input does not end, and nobody reads what it says."""
    argv = [*KIST, *(str(rootfs) if word == "ROOTFS" else word for word in words)]
    delays = [random.uniform(0.02, 0.2) for _ in range(MOMENTS)]
    for delay_s in (*delays, 0.5):
        (input, mouth), (ear, output) = os.pipe(), os.pipe()
        left = left_by(argv, delay_s, stdin=input, stdout=output, stderr=subprocess.DEVNULL)
        for fd in (input, mouth, ear, output):
            os.close(fd)
        assert left == "", f"after {delay_s} s"


def test_an_exec_without_a_pid_namespace_ends_with_the_container(rootfs: Path) -> None:
    """Where the kernel does not end it: nobody is left who would."""
    ok("run", "-d", "--name", "box", "--pid", "host", "--rootfs", str(rootfs), "sleep", "1000")
    pid = int(ok("inspect", "--format", "{{.State.Pid}}", "box"))
    with subprocess.Popen([*KIST, "exec", "box", "sh", "-c", "echo up; sleep 1000"], stdout=subprocess.PIPE) as inside:
        assert inside.stdout and inside.stdout.readline() == b"up\n"
        supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGKILL)
        try:
            assert inside.wait(20) == 128 + signal.SIGKILL
        finally:
            inside.kill()
    ok("rm", "-f", "box")
