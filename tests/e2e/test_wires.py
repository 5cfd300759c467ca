"""macvlan networks and --net-rate: real wires and real transfers, between namespaces of the test's own."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from containers import needs_root
from machine import Machine, machine, wait_until

__all__ = ["machine"]
pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("tc"), reason="needs tc: apt-get install iproute2")]

SLEEP = ("sh", "-c", "echo up; exec sleep 600")


@pytest.fixture
def lan(machine: Machine) -> Machine:
    """Another host on the machine's wire `up0`, with 192.0.2.1."""
    there = Machine()
    machine.command("ip", "link", "add", "up0", "up", "type", "veth", "peer", "name", "up1", "netns", there.path)
    there.command("ip", "address", "add", "192.0.2.1/24", "dev", "up1")
    there.command("ip", "link", "set", "up1", "up")
    yield there
    there.close()


def create(machine: Machine, *args: str) -> subprocess.CompletedProcess[str]:
    return machine.kist("network", "create", "-d", "macvlan", *args, "lan")


def test_on_the_wire_of_the_host(machine: Machine, lan: Machine, rootfs: Path) -> None:
    done = create(machine, "-o", "parent=up0", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.1")
    assert done.returncode == 0, done.stderr
    mac = "02:00:00:00:00:77"
    box = ("--network", "lan", "--rootfs", str(rootfs))
    with machine.container("--name", "c", "--ip", "192.0.2.7", "--mac-address", mac, *box, *SLEEP):
        lan.command("ping", "-c", "1", "-W", "5", "192.0.2.7")
        assert mac in lan.command("ip", "neighbour", "show", "192.0.2.7")
        script = (
            "ip route | head -1; ping -c 1 -W 5 192.0.2.7 >/dev/null && ping -c 1 -W 5 192.0.2.1 >/dev/null && echo ok"
        )
        assert machine.run(*box, "sh", "-c", script).splitlines() == ["default via 192.0.2.1 dev eth0 ", "ok"]
        assert machine.run(*box, "nslookup", "c").split()[-1] == "192.0.2.7"
        assert machine.links() == {"up0"}  # nothing of the host's beside it
        document = json.loads(machine.kist("network", "inspect", "lan").stdout)[0]
        assert (document["Driver"], document["Options"]["parent"]) == ("macvlan", "up0")
        assert "are reached by their own addresses" in machine.kist("run", *box, "-p", "80", "true").stderr
    assert machine.kist("network", "create", "red").returncode == 0
    with machine.container("--name", "d", "--network", "red", "--rootfs", str(rootfs), *SLEEP):
        assert machine.kist("network", "connect", "--ip", "192.0.2.9", "lan", "d").returncode == 0
        lan.command("ping", "-c", "1", "-W", "5", "192.0.2.9")
        assert machine.kist("network", "disconnect", "lan", "d").returncode == 0
    assert machine.kist("network", "rm", "lan").returncode == 0
    assert machine.link("up0")["operstate"] == "UP"


def test_started_again_while_its_old_network_is_there(machine: Machine, lan: Machine, rootfs: Path) -> None:
    """Two with one MAC address cannot be on a wire."""
    assert create(machine, "-o", "parent=up0", "--subnet", "192.0.2.0/24").returncode == 0
    box = ("--network", "lan", "--rootfs", str(rootfs))
    done = machine.kist("run", "-d", "--name", "c", "--ip", "192.0.2.7", *box, *SLEEP)
    assert done.returncode == 0, done.stderr
    number = json.loads(machine.kist("ns", "--format", "json", "c").stdout)["pid"]
    with open(f"/proc/{number}/ns/net"):
        done = machine.kist("restart", "-t", "0", "c")
        assert done.returncode == 0, done.stderr
    lan.command("ping", "-c", "1", "-W", "5", "192.0.2.7")
    assert machine.kist("rm", "-f", "c").returncode == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "-o parent=eth0"),
        (("-o", "parent=up0"), "--subnet"),
        (("-o", "parent=none9", "--subnet", "192.0.2.0/24"), "no network interface none9"),
        (("-o", "parent=lo", "--subnet", "192.0.2.0/24"), "leads to no wire"),
        (("-o", "parent=up0", "-o", "macvlan_mode=x", "--subnet", "192.0.2.0/24"), "unknown mode"),
        (("-o", "parent=up0", "--internal", "--subnet", "192.0.2.0/24"), "leads elsewhere"),
        (("-o", "com.docker.network.bridge.name=x", "--subnet", "192.0.2.0/24"), "unknown option"),
    ],
)
def test_what_no_wire_can_be_made_of(machine: Machine, lan: Machine, args: tuple[str, ...], words: str) -> None:
    done = create(machine, *args)
    assert done.returncode == 125 and words in done.stderr
    assert machine.links() == {"up0"}


# Sends or takes 400 kB, and prints how long that took.
TRANSFER = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], 7), 20)
began = time.monotonic()
if sys.argv[2] == "out":
    s.sendall(bytes(400_000))
    s.shutdown(socket.SHUT_WR)
got = 0
while data := s.recv(1 << 16):
    got += len(data)
print(time.monotonic() - began)
"""


def took_s(machine: Machine, direction: str, *flags: str) -> float:
    there = "cat >/dev/null" if direction == "out" else "head -c 400000 /dev/zero"
    server = machine.argv("busybox", "nc", "-l", "-p", "7", "-e", "sh", "-c", there)
    with subprocess.Popen(server) as process:
        wait_until(lambda: ":7 " in machine.command("ss", "-ltn"))
        out = machine.run("--network", "bridge", *flags, "host", "python3", "-c", TRANSFER, "10.112.0.1", direction)
        process.wait(20)
    return float(out)


def test_a_rate_holds_and_only_its_way(machine: Machine) -> None:
    """400 kB at 4 Mbit/s, of which 64 KiB go at once, take two thirds of a second."""
    machine.run("--network", "bridge", "host", "true")
    for slow, other in (("in", "out"), ("out", "in")):
        assert 0.5 < took_s(machine, slow, "--net-rate", f"{slow}=4mbit") < 5
        assert took_s(machine, other, "--net-rate", f"{slow}=4mbit") < 0.5


def rates(machine: Machine, *namespace: str) -> list[str]:
    out = machine.command(*namespace, "tc", "qdisc", "show")
    return [line.split(" rate ")[1].split()[0] for line in out.splitlines() if " tbf " in line]


def test_a_rate_is_changed_and_taken_away(machine: Machine, rootfs: Path) -> None:
    asked = ("--name", "c", "--network", "bridge", "--net-rate", "10mbit", "--rootfs", str(rootfs), "sleep", "600")
    assert machine.kist("run", "-d", *asked).returncode == 0
    there = ("nsenter", "-t", str(json.loads(machine.kist("ns", "--format", "json", "c").stdout)["pid"]), "-n")
    try:
        assert rates(machine) == rates(machine, *there) == ["10Mbit"]
        assert machine.kist("network", "create", "red").returncode == 0
        assert machine.kist("network", "connect", "red", "c").returncode == 0
        assert rates(machine) == rates(machine, *there) == ["10Mbit"] * 2
        assert machine.kist("update", "--net-rate", "in=2gbit", "c").returncode == 0
        assert rates(machine) == ["2Gbit"] * 2 and rates(machine, *there) == []
        assert machine.kist("update", "--net-rate", "40gbit", "c").returncode == 0
        assert rates(machine) == rates(machine, *there) == ["40Gbit"] * 2
        assert machine.kist("update", "--net-rate", "0", "c").returncode == 0
        assert rates(machine) == rates(machine, *there) == []
    finally:
        assert machine.kist("rm", "-f", "c").returncode == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--network", "none", "--net-rate", "1mbit"), "no cable that could be slow"),
        (("--network", "bridge", "--net-rate", "out=1mbit", "--cap-add", "NET_ADMIN"), "could take the limit away"),
        (("--network", "bridge", "--net-rate", "up=1mbit"), "it is no rate"),
        (("--network", "bridge", "--net-rate", "1"), "it is no rate"),
        (("--network", "bridge", "--net-rate", "10"), "it is no rate"),
    ],
)
def test_rates_that_cannot_be(machine: Machine, args: tuple[str, ...], words: str) -> None:
    done = machine.kist("run", *args, "host", "true")
    assert done.returncode == 125 and words in done.stderr


INSIDE = "ip -o link show eth0; ip -o -4 address show eth0; ip route; tc qdisc show dev eth0"


def shape(text: str) -> list[str]:
    """Route and rate, without what tells apart who made them."""
    found = [line for line in text.splitlines() if line.startswith(("default", "qdisc")) or " inet " in line]
    return [re.sub(r"^\d+: |proto static |tbf \w+: | refcnt \d+", "", line).strip() for line in found]


@pytest.mark.parametrize("kind", ["cable", "wire"])
def test_the_script_of_explain_makes_the_same(machine: Machine, lan: Machine, kind: str) -> None:
    if kind == "wire":
        done = create(machine, "-o", "parent=up0", "--subnet", "192.0.2.0/24", "--gateway", "192.0.2.1")
        assert done.returncode == 0, done.stderr
        asked = ("--network", "lan", "--ip", "192.0.2.7", "--net-rate", "out=10mbit")
    else:
        asked = ("--network", "bridge", "--ip", "10.112.0.9", "-p", "8080:80", "-p", "8081:81", "--net-rate", "10mbit")
    run = (*asked, "host", "sh", "-c", INSIDE)
    ours = machine.run(*run)
    script = machine.kist("explain", "--script", *run).stdout
    assert f"ip link add {'eth0 link up0' if kind == 'wire' else 'kist'}" in script and "tc qdisc replace dev" in script
    theirs = machine.command("sh", input=script)
    assert shape(theirs) == shape(ours) != [] and " tbf " in theirs
    if kind == "cable":
        assert "8080" in script and "8080" not in machine.command("nft", "list", "table", "inet", "kist")
