"""Containers that come, connect, leave and are killed at random, commands too: after the next command no cable,
address, port, element of a set, or name is left of who is gone. KIST_LONG=500 for as many cycles."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from containers import KIST, needs_root
from dying import NETWORK_STEPS, dying, kill
from kist.engine.connect import connect, disconnect
from kist.engine.containers import Containers
from kist.engine.state import StateDirectory
from kist.errors import KistError
from kist.network.attach import database
from machine import Machine, machine, wait_until

__all__ = ["machine"]
pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("nft"), reason="needs nft: apt-get install nftables")]

CYCLES = int(os.environ.get("KIST_LONG", "30"))
NETWORKS = ("bridge", "red", "blue")
NAMES = ("a", "b", "c", "d")


class Chaos:
    def __init__(self, machine: Machine, run_dir: Path, rootfs: Path) -> None:
        self.machine, self.run_dir, self.rootfs = machine, run_dir, rootfs
        self.states = StateDirectory(str(run_dir))

    def words(self) -> tuple[str, ...]:
        """A command that may well fail: the name, the port or the place may be taken, or nobody there."""
        name, network = random.choice(NAMES), random.choice(NETWORKS)
        more = ("--network", random.choice(NETWORKS[1:])) if network == "bridge" else ("--network-alias", "all")
        port = f"{random.randrange(8080, 8083)}:80"
        return random.choice((
            ("run", "-d", "--name", name, "--network", network, *more, "-p", port, "--rootfs", str(self.rootfs),
             "sleep", "600"),
            ("network", "connect", network, name),
            ("network", "disconnect", network, name),
            ("rm", "-f", name),
            ("restart", "-t", "0", name),
        ))  # fmt: skip

    def command(self) -> None:
        done = self.machine.kist(*self.words())
        assert done.returncode in (0, 1, 125) and "Traceback" not in done.stderr, done.stderr

    def killed_command(self) -> None:
        """The program itself, not nsenter, which has become it."""
        argv = self.machine.argv(*KIST, *self.words())
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.05, 0.4))
        process.kill()
        process.wait()

    def killed_container(self) -> None:
        """Its supervisor, or its first process."""
        for id in self.states.ids()[:1]:
            try:
                pid = self.states.pid(id)
                supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                if Path(f"/proc/{supervisor}/comm").read_text().startswith("kist"):
                    os.kill(random.choice((pid, supervisor)), signal.SIGKILL)
            except (KistError, OSError):
                continue  # it has just ended

    def elements(self) -> tuple[int, int]:
        """Ports that lead into containers, and ends of theirs."""
        found = json.loads(self.machine.command("nft", "-j", "list", "table", "inet", "kist"))["nftables"]
        ends = [o["set"] for o in found if o.get("set", {}).get("name", "").startswith("self")]
        return tuple(
            sum(len(o.get("elem", ())) for o in kind) for kind in ([o["map"] for o in found if "map" in o], ends)
        )

    def names(self) -> set[str]:
        """Whose names are written down, once what is shown is of the living only."""
        assert self.machine.kist("network", "inspect", "bridge").returncode == 0
        found = [path for path in (self.run_dir / ".network/names").glob("*/*") if path.is_file()]
        return {
            line.split()[0]
            for path in found
            if not path.name.startswith("=")
            for line in path.read_text().split("\n")
            if line
        }

    def is_true(self) -> bool:
        """What is written down is what is there, and belongs to the living."""
        assert self.machine.kist("run", "--rm", "host", "true").returncode == 0  # the next command
        self.machine.inside(self.states.sweep)
        living = {*self.states.ids()}
        with database(self.states) as db:
            holders = [holder for holder in db.holders() if holder.container in living]
            ports = [port for id in living for port in db.ports_of(id)]
        cables = {
            link for link in self.machine.links() if link.startswith("kist") and link != "kist0" and "-" not in link
        }
        ends = {(port.target, port.target_port, port.protocol) for port in ports}
        self.seen = [
            (cables, {holder.outside for holder in holders}),
            (self.elements(), (len(ports), len(ends))),
            (self.names() - living, set[str]()),
        ]
        return all(there == written for there, written in self.seen)

    def settle(self) -> None:
        try:
            wait_until(self.is_true)
        except AssertionError:
            raise AssertionError(f"there, and written down: {self.seen}") from None


def test_nothing_of_a_network_is_left(machine: Machine, rootfs: Path, run_dir: Path) -> None:
    seed = int(os.environ.get("KIST_SEED", time.time_ns()))
    random.seed(seed)
    print(f"KIST_SEED={seed}")
    for name in NETWORKS[1:]:
        assert machine.kist("network", "create", name).returncode == 0
    machine.run("--network", "bridge", "-p", "80", "host", "true")
    chaos = Chaos(machine, run_dir, rootfs)
    for cycle in range(CYCLES):
        random.choice((chaos.command, chaos.command, chaos.killed_command, chaos.killed_container))()
        if cycle % 10 == 9:
            chaos.settle()
    machine.kist("rm", "-f", *NAMES)
    for line in machine.kist("ps", "-aq").stdout.split():  # run, and killed before it had a name
        machine.kist("rm", "-f", line)
    chaos.settle()
    for name in NETWORKS[1:]:
        done = machine.kist("network", "rm", name)
        assert done.returncode == 0, done.stderr
    wait_until(lambda: machine.links() == {"kist0"})
    assert chaos.elements() == (0, 0) and chaos.names() == set()
    for name in os.listdir(run_dir):  # a directory just made may be about to be locked: a minute later it is not
        os.utime(run_dir / name, (0, 0))


SWEEP_KILLED = """
import os, signal, sys
from kist.engine import state
rmdir = state.os.rmdir
def killed(path):
    rmdir(path)
    os.kill(os.getpid(), signal.SIGKILL)
state.os.rmdir = killed
state.StateDirectory(sys.argv[1]).sweep()
"""


def test_a_sweep_that_is_killed_leaves_no_port(machine: Machine, rootfs: Path, run_dir: Path) -> None:
    """It removes the directory last: who comes later would not know of what else there is."""
    chaos = Chaos(machine, run_dir, rootfs)
    assert machine.kist("run", "-d", "-p", "8080:80", "--rootfs", str(rootfs), "sleep", "600").returncode == 0
    assert chaos.elements() == (1, 1)
    (id,) = chaos.states.ids()
    os.kill(chaos.states.supervisor(id), signal.SIGKILL)
    wait_until(lambda: not chaos.states.is_locked(id))
    sweep = [sys.executable, "-c", SWEEP_KILLED, str(run_dir)]
    while chaos.states.ids():  # it removes cgroups, too
        assert machine.inside(lambda: subprocess.run(sweep, check=False).returncode) == -signal.SIGKILL
    assert chaos.elements() == (0, 0)


@pytest.mark.parametrize("verb", [connect, disconnect])
def test_at_every_step(machine: Machine, rootfs: Path, run_dir: Path, verb: Callable[..., object]) -> None:
    """What a killed `connect` or `disconnect` of a container that lives on leaves, the next command finishes."""
    chaos, containers = Chaos(machine, run_dir, rootfs), Containers()
    assert machine.kist("network", "create", "red").returncode == 0
    box = ("--name", "a", "--network", "bridge", "--rootfs", str(rootfs))
    assert machine.kist("run", "-d", *box, "sleep", "600").returncode == 0
    stride = 1 if "KIST_LONG" in os.environ else 23
    n, through = 1 + len(verb.__name__) % stride, False
    while not through:
        before = machine.kist("network", "disconnect" if verb is connect else "connect", "red", "a")
        assert before.returncode == 0 or any(code in before.stderr for code in ("[connected]", "[not-connected]"))
        act = partial(verb, containers, containers.find("a"), "red")
        through = machine.inside(lambda: dying(n, act, kill, NETWORK_STEPS)) == 0  # noqa: B023  # it is called here
        chaos.settle()
        n += stride
    assert n > 20
    machine.kist("rm", "-f", "a")
    chaos.settle()


BOXES = 10 if os.environ.get("KIST_LONG") else 4
AT_ONCE = [(network, f"c{n}") for n in range(BOXES) for network in ("n0", "n1", "n2", "n3", "n4")]


def at_once(machine: Machine, verb: str, *, killed: bool = False) -> list[int]:
    """Statuses; with `killed` some are, each at another moment."""
    argvs = [machine.argv(*KIST, "network", verb, *pair) for pair in AT_ONCE]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(argv, **quiet, text=True) for argv in argvs]
    for i, process in enumerate(started if killed else ()):
        if i % 3 == 0:
            time.sleep(0.05)
            process.kill()
    for process in started:
        assert "Traceback" not in process.communicate(timeout=120)[1]
    return [process.returncode for process in started]


def test_many_connects_at_once(machine: Machine, rootfs: Path, run_dir: Path) -> None:
    """And as many disconnects; the same once more, some of them killed."""
    names = sorted({name for _, name in AT_ONCE})
    for network in sorted({network for network, _ in AT_ONCE}):
        assert machine.kist("network", "create", network).returncode == 0
    for name in names:
        box = ("--name", name, "--network", "bridge", "-p", "80", "--rootfs", str(rootfs), "sleep", "600")
        assert machine.kist("run", "-d", *box).returncode == 0
    chaos = Chaos(machine, run_dir, rootfs)
    assert set(at_once(machine, "connect")) == {0}
    with database(chaos.states) as db:
        holders = db.holders()
    assert len(holders) == len({holder.address4 for holder in holders}) == len(AT_ONCE) + BOXES
    assert chaos.is_true()
    assert set(at_once(machine, "disconnect")) == {0}
    chaos.settle()
    with database(chaos.states) as db:
        assert len(db.holders()) == BOXES
    at_once(machine, "connect", killed=True)
    at_once(machine, "disconnect", killed=True)
    machine.kist("rm", "-f", *names)
    chaos.settle()
    with database(chaos.states) as db:
        assert db.holders() == [] and db.ports() == []
