"""SIGKILL at every step: the container dies with its supervisor, and the next command removes what was made.

To stop the launcher at a step, a step that waits is put before it: opening a FIFO that nobody writes to on the host's
side, waiting for a word that never comes on the container's.
"""

import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from containers import KIST, leftovers
from kist.engine.making import Making, make
from kist.engine.state import StateDirectory, run_directory
from kist.faces.cli.request import run_request, this_process
from kist.kernel.launcher import Launcher
from kist.kernel.program import open_program
from kist.plan.setting import Stdio
from kist.plan.steps import ACTORS, HOST, Await, Entry, Open, Slots


def container(rootfs: Path) -> Making:
    given = {"rootfs": [str(rootfs)], "memory": ["64m"], "pids-limit": ["50"], "allow-unenforced": ["true"]}
    request = run_request(given, ("sleep", "600"), this_process(), captured=True)
    return make(request, Stdio(), StateDirectory(run_directory(os.environ)), attached=True)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def stands_still(pid: int) -> bool:
    """Asleep in a system call, and so is every child."""
    try:
        return all(
            Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[0] == "S" for p in [pid, *children(pid)]
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(what, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def none_alive(pids: list[int]) -> bool:
    return not any(map(alive, pids))


def steps(rootfs: Path) -> int:
    made = container(rootfs)
    made.close(remove=True)
    return len(made.compiled.plan)


def test_at_every_step(rootfs, run_dir, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program, null = open_program(), os.open("/dev/null", os.O_RDWR)
    total = steps(rootfs)
    assert total > 50
    for index in range(total):
        made = container(rootfs)
        plan = list(made.compiled.plan)
        entry = plan[index]
        wait = Open(str(fifo), 0, Slots.COUNT - 1) if entry.actor == HOST else Await()
        plan.insert(index, Entry(wait, entry.actor, entry.group, "stop here"))
        launcher = Launcher(tuple(plan), program, (null, null, null), made.kept_fds)
        made.close(remove=False)
        where = f"step {index}, {ACTORS[entry.actor]} {type(entry.step).__name__}"
        try:
            if type(entry.step).__name__ not in ("Warn", "ReportFile"):  # those come when the command has ended
                wait_until(partial(stands_still, launcher.pid))
            time.sleep(0.002)
            below = children(launcher.pid) if alive(launcher.pid) else []
        finally:
            os.kill(launcher.pid, signal.SIGKILL)
        wait_until(partial(none_alive, below))
        launcher.close()
        StateDirectory(str(run_dir)).sweep()
        assert not leftovers(run_dir), where
    os.close(program)
    os.close(null)


@pytest.mark.parametrize("delay_ms", [0, 5, 20, 30, 40, 50, 70, 100, 300])
def test_the_command_line_at_any_moment(rootfs, run_dir, delay_ms):
    process = subprocess.Popen([*KIST, "run", "--rm", "--rootfs", str(rootfs), "sleep", "600"])
    time.sleep(delay_ms / 1000)
    below = children(process.pid)
    process.kill()
    process.wait()
    wait_until(partial(none_alive, below))
    done = subprocess.run([*KIST, "run", "--rm", "--rootfs", str(rootfs), "true"], check=False)
    assert done.returncode == 0
    young = [name for name in os.listdir(run_dir) if name.startswith(".new-")]  # swept when they are a minute old
    assert [name for name in os.listdir(run_dir) if name not in young] == []
    for name in young:
        os.utime(run_dir / name, (0, 0))


def test_killing_the_first_process_ends_it(rootfs):
    process = subprocess.Popen(
        [*KIST, "run", "--rm", "--rootfs", str(rootfs), "sh", "-c", "echo up; sleep 600"], stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout
        process.stdout.readline()
        os.kill(children(process.pid)[0], signal.SIGKILL)
        assert process.wait(30) == 137


def test_two_hundred_at_once(rootfs):
    """Fifty here; two hundred with KIST_LONG=1."""
    count = 200 if "KIST_LONG" in os.environ else 50
    argv = [*KIST, "run", "--rm", "--rootfs", str(rootfs), "echo", "ok"]
    processes = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["ok\n"] * count
