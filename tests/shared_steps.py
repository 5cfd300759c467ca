"""SIGKILL at each step that an ordinary user's container takes for its network.

`python shared_steps.py ROOTFS NETWORK`, run where the user's containers run. A step that waits is put before the one in
question; see e2e/test_killed.py. Prints the number of steps; what is left of one ends it with an error.
"""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from internet import relays
from kist.engine.making import Making, make
from kist.engine.state import StateDirectory, run_directory
from kist.faces.cli.request import run_request, this_process
from kist.kernel.launcher import Launcher
from kist.kernel.program import open_program
from kist.network import shared
from kist.network.attach import database
from kist.plan.setting import Stdio
from kist.plan.steps import ACTORS, HOST, Await, Entry, Open, Slots
from machine import wait_until

FIFO, BASE = sys.argv[1] + ".fifo", run_directory(os.environ)


def container() -> Making:
    given = {"rootfs": [sys.argv[1]], "network": [sys.argv[2]], "publish": ["8099:80"], "allow-unenforced": ["true"]}
    request = run_request(given, ("sleep", "600"), this_process(), captured=True)
    return make(request, Stdio(), StateDirectory(BASE), attached=True)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def family(pid: int) -> list[int]:
    return [pid, *(below for child in children(pid) for below in family(child))]


def are(pids: int | list[int], wanted: str) -> bool:
    """A process and all below, or those."""
    return all(state(pid) in wanted for pid in (family(pids) if isinstance(pids, int) else pids))


def left() -> list[object]:
    states = StateDirectory(BASE)
    states.sweep()
    with database(states) as db:
        db.bury_dead()
        there = shared.find(states)
        if there:
            there.close()
        found = [there and there.net_path, db.holders(), db.ports(), relays(BASE), list(states.ids())]
    return [one for one in found if one]


def main() -> None:
    os.mkfifo(FIFO)
    program, null = open_program(), os.open("/dev/null", os.O_RDWR)
    made = container()
    plan = made.compiled.plan
    made.close(remove=True)
    wait_until(lambda: not left())
    chosen = [i for i, entry in enumerate(plan) if entry.group in ("network", "namespaces")]
    for index in chosen:
        made = container()
        steps = list(made.compiled.plan)
        entry = steps[index]
        wait = Open(FIFO, 0, Slots.COUNT - 1) if entry.actor == HOST else Await()
        steps.insert(index, Entry(wait, entry.actor, entry.group, "stop here"))
        launcher = Launcher(tuple(steps), program, (null, null, null), made.kept_fds)
        made.close(remove=False)
        try:
            wait_until(partial(are, launcher.pid, "SZ"))
            time.sleep(0.002)
            below = family(launcher.pid)
        finally:
            os.kill(launcher.pid, signal.SIGKILL)
        where = f"step {index}, {ACTORS[entry.actor]} {type(entry.step).__name__}"
        launcher.close()
        made.let_go()
        try:
            wait_until(partial(are, below, "Z"))
            wait_until(lambda: not left())
        except AssertionError:
            sys.exit(f"{where}: left: {[pid for pid in below if state(pid) != 'Z']} {left()}")
    print(len(chosen))


main()
