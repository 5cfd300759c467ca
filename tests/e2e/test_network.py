"""`--network`: real traffic. The "host" is a network namespace of the test's own: nothing reaches this machine."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containers import KIST, needs_root
from netns import Namespace

pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("ip"), reason="needs ip: apt-get install iproute2")]


class Machine(Namespace):
    """A host."""

    def kist(self, *args: str, **kwargs) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*KIST, *args), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, **kwargs
        )

    def run(self, *args: str) -> str:
        done = self.kist("run", "--rm", "--cap-add", "NET_RAW", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def container(self, *args: str) -> Iterator[subprocess.Popen]:
        """One that runs; its command says when it is ready, by a line."""
        process = subprocess.Popen(
            self.argv(*KIST, "run", "--rm", "--init", "--cap-add", "NET_RAW", *args), stdout=subprocess.PIPE, text=True
        )
        try:
            with process:
                assert process.stdout
                process.first = process.stdout.readline().strip()
                yield process
                process.terminate()
        finally:
            process.kill()

    def links(self) -> set[str]:
        return {link["ifname"] for link in self.ip("link", "show")} - {"lo"}


@pytest.fixture
def machine(run_dir: Path) -> Iterator[Machine]:
    here = Machine()
    yield here
    here.close()
    shutil.rmtree(run_dir / ".network", ignore_errors=True)  # what networks are outlives containers


def wait_until(what, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


ADDRESS = "ip -4 -o address show dev eth0 | awk '{print $4}'"


def test_an_address_a_route_and_names(machine: Machine, rootfs: Path) -> None:
    script = (
        f"{ADDRESS}; ip route; cat /etc/hosts; cat /etc/hostname; ping -c 1 -W 5 10.112.0.1 >/dev/null && echo pong"
    )
    out = machine.run("--network", "bridge", "--hostname", "box", "--rootfs", str(rootfs), "sh", "-c", script)
    assert out.splitlines()[0] == "10.112.0.2/22"
    assert "default via 10.112.0.1 dev eth0" in out
    assert "10.112.0.2 box\n" in out
    assert out.endswith("box\npong\n")
    bridge = machine.link("kist0")
    assert [a["local"] for a in bridge["addr_info"] if a["scope"] == "global"] == ["10.112.0.1"]
    wait_until(lambda: machine.links() == {"kist0"})


def test_two_containers_reach_each_other_and_addresses_rest_before_they_return(machine: Machine, rootfs: Path) -> None:
    box = ("--network", "bridge", "--rootfs", str(rootfs))
    with machine.container(*box, "sh", "-c", "echo up; exec nc -l -p 7 -e cat") as server:
        assert server.first == "up"
        script = f"{ADDRESS}; ping -c 1 -W 5 10.112.0.2 >/dev/null && echo hello | nc -w 5 10.112.0.2 7"
        assert machine.run(*box, "sh", "-c", script).split() == ["10.112.0.3/22", "hello"]
    assert machine.run(*box, "sh", "-c", ADDRESS).strip() == "10.112.0.4/22"


def test_asked_for_addresses(machine: Machine, rootfs: Path) -> None:
    asked = ("--network", "bridge", "--ip", "10.112.1.7", "--mac-address", "02:00:00:00:00:77", "--rootfs", str(rootfs))
    script = f"{ADDRESS}; cat /sys/class/net/eth0/address"
    with machine.container(*asked, "sh", "-c", "echo up; exec sleep 600"):
        for flag, value in (("--ip", "10.112.1.7"), ("--mac-address", "02:00:00:00:00:77")):
            done = machine.kist("run", "--network", "bridge", flag, value, "host", "true")
            assert done.returncode == 125 and "taken" in done.stderr
    assert machine.run(*asked, "sh", "-c", script).split() == ["10.112.1.7/22", "02:00:00:00:00:77"]
    for value, words in (
        ("10.112.0.1", "gateway"),
        ("10.1.0.1", "is not in 10.112.0.0/22"),
        ("10.112.3.255", "not in"),
    ):
        done = machine.kist("run", "--network", "bridge", "--ip", value, "host", "true")
        assert done.returncode == 125 and words in done.stderr


def test_a_subnet_that_the_host_uses_is_avoided(machine: Machine) -> None:
    machine.command("ip", "link", "add", "lan", "type", "veth", "peer", "name", "wire")
    machine.command("ip", "address", "add", "10.112.2.9/24", "dev", "lan")
    assert machine.run("--network", "bridge", "host", "sh", "-c", ADDRESS).strip() == "10.112.4.2/22"


def test_explain_shows_ip_commands_and_makes_nothing(machine: Machine) -> None:
    text = machine.kist("explain", "--network", "bridge", "host", "true").stdout
    assert "ip link add kist0123456789 master kist0 up type veth peer name eth0 netns" in text
    assert "ip address add 10.112.0.2/22 dev eth0" in text
    assert "ip route add default via 10.112.0.1" in text
    assert machine.links() == set()
    assert machine.run("--network", "bridge", "host", "sh", "-c", ADDRESS).strip() == "10.112.0.2/22"


def test_no_such_network(machine: Machine) -> None:
    done = machine.kist("run", "--network", "nowhere", "host", "true")
    assert done.returncode == 125 and "no network 'nowhere'" in done.stderr
    assert machine.links() == set()


@pytest.mark.parametrize("userns", ["host", "private"])
def test_a_command_that_cannot_run_leaves_nothing(machine: Machine, rootfs: Path, userns: str) -> None:
    box = ("--network", "bridge", "--userns", userns, "--rootfs", str(rootfs))
    assert machine.kist("run", *box, "/no/such/program").returncode == 127
    wait_until(lambda: machine.links() == {"kist0"})
    assert "10.112.0.3" in machine.run(*box, "sh", "-c", ADDRESS)


def test_killed_supervisors_give_their_addresses_back(machine: Machine, rootfs: Path) -> None:
    box = ("--network", "bridge", "--ip", "10.112.0.9", "--rootfs", str(rootfs))
    with machine.container(*box, "sh", "-c", "echo up; exec sleep 600") as process:
        process.kill()
        process.wait()
    assert "10.112.0.9" in machine.run(*box, "sh", "-c", ADDRESS)
    wait_until(lambda: machine.links() == {"kist0"})


def test_fifty_at_once_get_fifty_addresses(machine: Machine, rootfs: Path) -> None:
    argv = machine.argv(*KIST, "run", "--rm", "--network", "bridge", "--rootfs", str(rootfs), "sh", "-c", ADDRESS)
    processes = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(50)]
    found = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert len(set(found)) == 50 and all(word.startswith("10.112.0.") for word in found)
    wait_until(lambda: machine.links() == {"kist0"})
