"""Several networks, connecting while it runs, and the namespaces of others."""

import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from containers import needs_root
from machine import Machine, machine, wait_until

__all__ = ["machine"]
pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("ip"), reason="needs ip: apt-get install iproute2")]

LINKS = "ip -4 -o address show | awk '$2 != \"lo\" {print $2, $4}'"
SLEEP = ("sh", "-c", "echo up; exec sleep 600")


def inside(machine: Machine, name: str, *argv: str) -> str:
    pid = machine.kist("ns", "--format", "json", name)
    assert pid.returncode == 0, pid.stderr
    number = str(json.loads(pid.stdout)["pid"])
    done = subprocess.run(["nsenter", "-t", number, "-n", *argv], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def nets(machine: Machine) -> Machine:
    for name, subnet in (("red", "10.9.1.0/24"), ("blue", "10.9.2.0/24")):
        done = machine.kist("network", "create", "--subnet", subnet, name)
        assert done.returncode == 0, done.stderr
    return machine


def test_in_two_networks_from_the_start(nets: Machine, rootfs: Path) -> None:
    asked = ("--network", "red", "--network", "blue", "--rootfs", str(rootfs))
    out = nets.run(*asked, "sh", "-c", f"{LINKS}; ip route | head -1; ping -c 1 -W 5 10.9.2.1 >/dev/null && echo pong")
    assert out.split("\n")[:4] == ["eth0 10.9.1.2/24", "eth1 10.9.2.2/24", "default via 10.9.1.1 dev eth0 ", "pong"]


def test_none_and_host_go_alone(nets: Machine) -> None:
    for pair in (("none", "red"), ("red", "host"), ("host", "red")):
        done = nets.kist("run", "--rm", "--network", pair[0], "--network", pair[1], "host", "true")
        assert done.returncode == 125 and "--network" in done.stderr


def test_connect_and_disconnect_while_it_runs(nets: Machine, rootfs: Path) -> None:
    with nets.container("--name", "c", "--network", "red", "--rootfs", str(rootfs), *SLEEP):
        assert nets.kist("network", "connect", "--ip", "10.9.2.77", "blue", "c").returncode == 0
        assert inside(nets, "c", "sh", "-c", LINKS).split("\n")[:2] == ["eth0 10.9.1.2/24", "eth1 10.9.2.77/24"]
        assert "1 packets received" in inside(nets, "c", "busybox", "ping", "-c", "1", "-W", "5", "10.9.2.1")
        done = nets.kist("network", "connect", "blue", "c")
        assert done.returncode == 125 and "already" in done.stderr
        found = json.loads(nets.kist("network", "inspect", "blue").stdout)[0]["Containers"]
        assert [c["IPv4Address"] for c in found.values()] == ["10.9.2.77/24"]
        assert nets.kist("network", "rm", "blue").returncode == 125
        assert nets.kist("network", "disconnect", "blue", "c").returncode == 0
        assert inside(nets, "c", "sh", "-c", LINKS) == "eth0 10.9.1.2/24\n"
        done = nets.kist("network", "disconnect", "blue", "c")
        assert done.returncode == 125 and "not in the network" in done.stderr
        assert nets.kist("network", "rm", "blue").returncode == 0


def test_connect_one_that_has_no_network(nets: Machine, rootfs: Path) -> None:
    with nets.container("--name", "c", "--rootfs", str(rootfs), *SLEEP):
        assert nets.kist("network", "connect", "red", "c").returncode == 0
        assert "default via 10.9.1.1 dev eth0" in inside(nets, "c", "ip", "route")
    wait_until(lambda: not any(link.startswith("kist") and "-" not in link for link in nets.links()))


def test_started_again(nets: Machine, rootfs: Path) -> None:
    asked = ("--name", "c", "--network", "red", "-p", "8080:7", "--rootfs", str(rootfs), *SLEEP)
    assert nets.kist("run", "-d", *asked).returncode == 0
    for verb in ("explain", "restart", "restart"):
        done = nets.kist(verb, *(("-t", "0") if verb == "restart" else ()), "c")
        assert done.returncode == 0, done.stderr
    assert nets.kist("port", "c").stdout.startswith("7/tcp -> 0.0.0.0:8080")
    assert len(json.loads(nets.kist("network", "inspect", "red").stdout)[0]["Containers"]) == 1
    assert nets.kist("rm", "-f", "c").returncode == 0


def test_started_again_while_its_old_network_is_there(nets: Machine, rootfs: Path) -> None:
    """The kernel takes it away when it comes to it, and not while anybody has it open."""
    asked = (
        "--name",
        "c",
        "--network",
        "red",
        "--network",
        "blue",
        "--ip",
        "10.9.1.7",
        "--rootfs",
        str(rootfs),
        *SLEEP,
    )
    assert nets.kist("run", "-d", *asked).returncode == 0
    number = json.loads(nets.kist("ns", "--format", "json", "c").stdout)["pid"]
    with open(f"/proc/{number}/ns/net"):
        done = nets.kist("restart", "-t", "0", "c")
        assert done.returncode == 0, done.stderr
        assert "1 packets received" in inside(nets, "c", "busybox", "ping", "-c", "1", "-W", "5", "10.9.1.1")
        assert len([link for link in nets.links() if link.startswith("kist") and "-" not in link]) == 2
    assert nets.kist("rm", "-f", "c").returncode == 0


def test_a_failed_connect_leaves_nothing(nets: Machine, rootfs: Path) -> None:
    with nets.container("--name", "c", "--cap-add", "NET_ADMIN", "--rootfs", str(rootfs), "sh", "-c",
                        "ip link add eth0 type veth peer name other; echo up; exec sleep 600"):  # fmt: skip
        done = nets.kist("network", "connect", "red", "c")
        assert done.returncode == 125 and "File exists" in done.stderr
        assert json.loads(nets.kist("network", "inspect", "red").stdout)[0]["Containers"] == {}


def reached(address: str, port: int) -> socket.socket:
    """A connection, as soon as somebody listens there."""
    for _ in range(200):
        try:
            return socket.create_connection((address, port), 10)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError(f"nobody listens at {address}:{port}")


def test_a_transfer_survives_another_connect(nets: Machine, rootfs: Path) -> None:
    server = "echo up; exec nc -l -p 7 -e sh -c 'head -c 200000000 /dev/zero'"
    with nets.container("--name", "s", "--network", "red", "--rootfs", str(rootfs), "sh", "-c", server):
        with nets.inside(lambda: reached("10.9.1.2", 7)) as client:
            received = len(client.recv(1 << 16))
            for _ in range(5):
                assert nets.kist("network", "connect", "blue", "s").returncode == 0
                received += len(client.recv(1 << 16))
                assert nets.kist("network", "disconnect", "blue", "s").returncode == 0
            while data := client.recv(1 << 20):
                received += len(data)
            assert received == 200_000_000


def test_the_network_of_another_container(nets: Machine, rootfs: Path) -> None:
    with nets.container("--name", "c", "--network", "red", "--rootfs", str(rootfs), *SLEEP):
        asked = ("--network", "container:c", "--rootfs", str(rootfs))
        out = nets.run(*asked, "sh", "-c", f"{LINKS}; cat /etc/hosts")
        assert out.startswith("eth0 10.9.1.2/24\n") and "10.9.1.2 " in out
    done = nets.kist("run", "--network", "container:c", "host", "true")
    assert done.returncode == 125 and "no container 'c'" in done.stderr


def test_the_processes_of_another_container(machine: Machine, rootfs: Path) -> None:
    with machine.container("--name", "c", "--rootfs", str(rootfs), "sh", "-c", "echo up; exec sleep 1234"):
        out = machine.run("--pid", "container:c", "--rootfs", str(rootfs), "sh", "-c", "cat /proc/[0-9]*/cmdline")
        assert "sleep\x001234" in out


def test_a_namespace_by_its_path(nets: Machine) -> None:
    assert "10.9.1.1" in nets.run("--network", f"ns:{nets.path}", "host", "ip", "address")
    done = nets.kist("run", "--network", "ns:/proc/self/ns/uts", "host", "true")
    assert done.returncode == 125 and "is no network namespace" in done.stderr
    done = nets.kist("run", "--network", "ns:/nowhere", "host", "true")
    assert done.returncode == 125 and "no namespace /nowhere" in done.stderr


def test_networks_outlive_the_run_directory(nets: Machine, run_dir: Path) -> None:
    shutil.rmtree(run_dir / ".network")
    assert "red" in nets.kist("network", "ls", "--format", "{{.Name}}").stdout.split()
    assert nets.run("--network", "red", "host", "sh", "-c", LINKS) == "eth0 10.9.1.2/24\n"


def test_hosts_and_names_follow(nets: Machine, rootfs: Path, tmp_path: Path) -> None:
    """As docker has it; a volume's file stays as it is."""
    asked = ("--hostname", "box", "--rootfs", str(rootfs), *SLEEP)
    with (
        nets.container("--name", "c", "--network", "bridge", "--add-host", "other:10.9.9.9", *asked),
        nets.container("--name", "web", "--network", "blue", "--rootfs", str(rootfs), *SLEEP),
    ):

        def hosts() -> list[str]:
            return nets.kist("exec", "c", "cat", "/etc/hosts").stdout.splitlines()

        before = hosts()
        assert before[2:] == ["10.112.0.2 box", "10.9.9.9 other"]
        assert nets.kist("network", "connect", "blue", "c").stderr == ""
        assert hosts() == [*before, "10.9.2.3 box"]
        assert nets.kist("exec", "c", "nslookup", "web").stdout.split()[-1] == "10.9.2.2"
        assert "│  └─ web  10.9.2.2\n" in nets.kist("network", "graph").stdout.replace("├─ web", "└─ web")
        assert "  10.112.0.2  also in blue\n" in nets.kist("network", "graph").stdout
        assert nets.kist("network", "graph", "-o", str(tmp_path / "n.svg")).stdout == ""
        assert "10.9.2.2" in (tmp_path / "n.svg").read_text()
        assert nets.kist("network", "disconnect", "blue", "c").returncode == 0
        assert nets.kist("network", "connect", "red", "c").stderr == ""
        assert hosts() == [*before, "10.9.1.2 box"]
        assert nets.kist("exec", "c", "cat", "/etc/resolv.conf").stdout.startswith("nameserver 127.0.0.11\n")
    with nets.container("--name", "r", "--read-only", "--network", "red", *asked):
        assert "/etc/hosts stays as it is: Read-only" in nets.kist("network", "connect", "blue", "r").stderr


def test_hosts_of_a_volume_and_behind_links_stay(nets: Machine, rootfs: Path, tmp_path: Path) -> None:
    own = tmp_path / "hosts"
    own.write_text("127.0.0.1 mine\n")
    trap = f"ln -sf {own} /etc/hosts; echo up; exec sleep 600"
    with (
        nets.container("--name", "v", "--network", "red", "-v", f"{own}:/etc/hosts", "--rootfs", str(rootfs), *SLEEP),
        nets.container("--name", "l", "--network", "red", "--rootfs", str(rootfs), "sh", "-c", trap),
    ):
        for name in ("v", "l"):
            assert nets.kist("network", "connect", "blue", name).returncode == 0
            assert nets.kist("network", "disconnect", "red", name).returncode == 0
    assert own.read_text() == "127.0.0.1 mine\n"


def by_hand(machine: Machine, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(machine.argv("sh"), input=script, capture_output=True, text=True, timeout=60, check=False)


def test_explained_and_done_by_hand(nets: Machine, rootfs: Path) -> None:
    """The script does what kist does; explaining does nothing."""
    look = f"{LINKS}; ip -o link show eth1 | cut -d: -f2; ip route; bridge -d link show 2>/dev/null; nft list ruleset"
    seen = []
    with nets.container("--name", "c", "--network", "red", "--rootfs", str(rootfs), *SLEEP):
        assert nets.kist("network", "connect", "blue", "c").returncode == 0  # makes the bridge
        before = inside(nets, "c", "sh", "-c", look)
        script = nets.kist("explain", "--script", "network", "disconnect", "blue", "c").stdout
        assert inside(nets, "c", "sh", "-c", look) == before
        assert by_hand(nets, script).returncode == 0
        assert "eth1" not in inside(nets, "c", "sh", "-c", LINKS)
        assert nets.kist("network", "disconnect", "--force", "blue", "c").returncode == 0
        for way in (by_hand, None):
            asked = ("network", "connect", "--ip", "10.9.2.77", "--mac-address", "02:00:00:00:00:07", "blue", "c")
            script = nets.kist("explain", "--script", *asked).stdout
            assert "ip link add kist" in script
            if way:
                done = way(nets, script)
                assert done.returncode == 0, done.stderr
            else:
                assert nets.kist(*asked).returncode == 0
            seen.append(re.sub(r"@if\d+", "", inside(nets, "c", "sh", "-c", look)))
            inside(nets, "c", "ip", "link", "delete", "eth1")
    assert seen[0] == seen[1] and "10.9.2.77" in seen[0]


def test_explained_only_where_it_runs(nets: Machine) -> None:
    assert nets.kist("create", "--name", "c", "host", "true").returncode == 0
    done = nets.kist("explain", "network", "connect", "red", "c")
    assert done.returncode == 125 and "kist explain c" in done.stderr
    assert nets.kist("rm", "c").returncode == 0
