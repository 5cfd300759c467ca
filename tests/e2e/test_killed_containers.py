"""SIGKILL at random for containers that live on: command, supervisor, first process. What is recorded is true, and
nothing is left. KIST_LONG=2000 for as many cycles."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bundles import is_alive
from containers import KIST, needs_root
from kist.engine.containers import LOST, Container, Containers
from kist.engine.remove import remove

CYCLES = int(os.environ.get("KIST_LONG", "12"))


def kist(*words: str) -> str:
    done = subprocess.run([*KIST, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def until(what) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def kill_first_process(found: Containers, container: Container) -> None:
    os.kill(container.pid, signal.SIGKILL)
    until(lambda: container.status == "exited")
    assert container.ended and container.ended.code == 137


def kill_supervisor(found: Containers, container: Container) -> None:
    pid = container.pid
    os.kill(parent(pid), signal.SIGKILL)
    until(lambda: container.status == "exited" and not Path(f"/proc/{pid}").exists())
    assert container.ended and container.ended.code == LOST
    kist("start", container.id)  # it goes on from what it wrote
    assert container.status == "running"


@needs_root
@pytest.mark.parametrize("flags", [(), ("--pid", "host")])
def test_one_that_changed_its_user_ends_with_what_is_said(run_dir: Path, flags: tuple[str, ...]) -> None:
    """The kernel does not end it with its supervisor; the next command does, one that only looks, too."""
    become = ["setpriv", "--reuid=65534", "--clear-groups", "--inh-caps=-all"]
    id = kist("run", "-d", *flags, "host", *become, "sleep", "1000")
    container = Containers().find(id)
    pid = container.pid
    until(lambda: b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()[:6])
    os.kill(parent(pid), signal.SIGKILL)
    until(lambda: "Exited (255)" in kist("ps", "-a"))
    until(lambda: not is_alive(pid))
    kist("rm", id)


def kill_command(found: Containers, container: Container) -> None:
    """A command about this container, at a random moment; the next one must cope."""
    verb = random.choice((("stop", "-t", "0"), ("kill",), ("rm", "-f"), ("restart", "-t", "0"), ("pause",)))
    process = subprocess.Popen([*KIST, *verb, container.id], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.uniform(0.01, 0.12))
    process.kill()
    process.wait()


def test_nothing_is_left_and_what_is_recorded_is_true(rootfs: Path, run_dir: Path) -> None:
    seed = int(os.environ.get("KIST_SEED", time.time_ns()))
    print(f"KIST_SEED={seed}")
    random.seed(seed)
    found = Containers()
    for cycle in range(CYCLES):
        id = kist("run", "-d", "--name", f"c{cycle}", "--rootfs", str(rootfs), "sleep", "1000")
        container = found.find(id)
        random.choice((kill_first_process, kill_supervisor, kill_command))(found, container)
        if Path(found.base, id).exists():
            remove(found, container, force=True)
        assert not Path(found.base, id).exists()
        for name in os.listdir(run_dir):  # a directory just made may be about to be locked: a minute later it is not
            os.utime(run_dir / name, (0, 0))
        found.states.sweep()
        assert os.listdir(run_dir) == []
    assert os.listdir(f"{found.base}/.names") == []
    assert [name for name in os.listdir(found.base) if name != ".names"] == []
