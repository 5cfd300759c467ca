"""`--network`: real traffic. The "host" is a network namespace of the test's own: nothing reaches this machine."""

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from containers import KIST, needs_root
from kist.engine.making import Making, make
from kist.engine.state import StateDirectory
from kist.faces.cli.request import run_request, this_process
from kist.kernel.launcher import Launcher
from kist.kernel.program import open_program
from kist.network.attach import database
from kist.plan.setting import Stdio
from kist.plan.steps import HOST, Await, Entry, Open, Slots
from machine import Machine, machine, wait_until
from traffic import CLIENT, SERVER, ask, client, outside, server

__all__ = ["machine", "outside"]

pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("ip"), reason="needs ip: apt-get install iproute2")]


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


def test_the_host_by_a_name(machine: Machine, rootfs: Path) -> None:
    script = "grep ' outside$' /etc/hosts; ping -c 1 -W 5 outside >/dev/null && echo pong"
    asked = ("--network", "bridge", "--add-host", "outside:host-gateway", "--rootfs", str(rootfs))
    assert machine.run(*asked, "sh", "-c", script) == "10.112.0.1 outside\npong\n"
    done = machine.kist("run", "--network", "none", "--add-host", "outside:host-gateway", "host", "true")
    assert done.returncode == 125 and "has no network in which the host has an address" in done.stderr


def test_two_containers_reach_each_other_and_addresses_rest_before_they_return(machine: Machine, rootfs: Path) -> None:
    box = ("--network", "bridge", "--rootfs", str(rootfs))
    with machine.container(*box, "sh", "-c", "echo up; exec nc -l -p 7 -e cat") as server:
        assert server.first == "up"
        machine.command("busybox", "ping", "-c", "1", "-W", "5", "10.112.0.2")
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
    cable = "ip link add kist0123456789 master kist0 up numtxqueues 1 numrxqueues 1 type veth peer name eth0 netns"
    assert cable in text
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


# --- published ports, and what is behind the bridge

needs_nft = pytest.mark.skipif(not shutil.which("nft"), reason="needs nft: apt-get install nftables")


def elements(machine: Machine) -> str:
    return machine.command("nft", "list", "map", "inet", "kist", "any4")


@needs_nft
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_published_port(machine: Machine, outside: Machine, kind: str) -> None:
    with machine.container("--network", "bridge", "-p", f"8080:80/{kind}", *server(80, kind)) as process:
        assert process.first == "up"
        assert ask(outside, "192.0.2.2", 8080, kind) == "192.0.2.1 hello"  # the source is kept
        assert ask(machine, "192.0.2.2", 8080, kind).endswith("hello")
        assert ask(machine, "127.0.0.1", 8080, kind) == "10.112.0.1 hello"
        hairpin = ("--network", "bridge", *client("192.0.2.2", 8080, kind=kind))
        assert machine.run(*hairpin).endswith("hello\n")
        done = machine.kist("run", "--network", "bridge", "-p", f"8080:90/{kind}", "host", "true")
        assert done.returncode == 125 and "[port-taken]" in done.stderr
    wait_until(lambda: "8080" not in elements(machine))
    assert machine.kist("run", "--network", "bridge", "-p", f"8080:90/{kind}", "host", "true").returncode == 0


@needs_nft
def test_a_container_reaches_its_own_published_port_and_the_world(machine: Machine, outside: Machine) -> None:
    script = f"""
import subprocess, sys
s = subprocess.Popen([sys.executable, "-c", {SERVER!r}, "80", "tcp"], stdout=subprocess.PIPE)
s.stdout.readline()
subprocess.run([sys.executable, "-c", {CLIENT!r}, "192.0.2.2", "8080", "tcp", "20"])
s.kill()
"""
    out = machine.run("--network", "bridge", "-p", "8080:80", "host", "python3", "-c", script)
    assert out == "10.112.0.1 hello\n"
    with subprocess.Popen(outside.argv("python3", "-c", SERVER, "99", "tcp"), stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"up\n"
        assert machine.run("--network", "bridge", *client("192.0.2.1", 99)) == "192.0.2.2 hello\n"  # masqueraded
        other.kill()


@needs_nft
def test_where_a_port_is_published(machine: Machine, outside: Machine) -> None:
    with machine.container("--network", "bridge", "-p", "127.0.0.1:8080:80", *server(80)):
        assert ask(machine, "127.0.0.1", 8080).endswith("hello")
        assert ask(outside, "192.0.2.2", 8080) == "ConnectionRefusedError"
    machine.command("ip", "address", "add", "192.0.2.3/24", "dev", "up0")
    with machine.container("--network", "bridge", "-p", "192.0.2.3:8080:80", *server(80)):
        assert ask(outside, "192.0.2.3", 8080).endswith("hello")
        assert ask(outside, "192.0.2.2", 8080) == "ConnectionRefusedError"
    done = machine.kist("run", "--network", "bridge", "-p", "203.0.113.9:8080:80", "host", "true")
    assert done.returncode == 125 and "no address of this host" in done.stderr


@needs_nft
def test_ports_that_the_host_has_ranges_and_any(machine: Machine) -> None:
    taken = machine.inside(lambda: socket.create_server(("0.0.0.0", 8081)))
    with taken:
        done = machine.kist("run", "--network", "bridge", "-p", "8081:80", "host", "true")
        assert done.returncode == 125 and "a program of this host has it" in done.stderr
        with machine.container("--network", "bridge", "-p", "8081-8083:80", *server(80)):
            assert ask(machine, "127.0.0.1", 8082).endswith("hello")
    done = machine.kist("run", "--network", "bridge", "-p", "80", "--expose", "7", "-P", "host", "true")
    assert done.returncode == 0
    assert [line.split(" leads to ")[1] for line in done.stderr.splitlines() if " leads to " in line] == [
        "port 80",
        "port 7",
    ]
    for network in ("none", "host"):
        done = machine.kist("run", "--network", network, "-p", "8080:80", "host", "true")
        assert done.returncode == 125 and "--network bridge" in done.stderr


@needs_nft
def test_nobody_comes_in_by_a_route(machine: Machine, outside: Machine) -> None:
    outside.command("ip", "route", "add", "10.112.0.0/22", "via", "192.0.2.2")
    with machine.container("--network", "bridge", "-p", "8080:80", *server(80)):
        assert ask(outside, "10.112.0.2", 80, "tcp", "0.5") == "TimeoutError"
        assert ask(outside, "192.0.2.2", 8080).endswith("hello")  # the control


@needs_nft
def test_killed_supervisors_give_their_ports_back(machine: Machine) -> None:
    with machine.container("--network", "bridge", "-p", "8080:80", *server(80)) as process:
        process.kill()
        process.wait()
    assert "8080" in elements(machine)
    assert machine.kist("run", "host", "true").returncode == 0  # any next command
    assert "8080" not in elements(machine)


@needs_nft
def test_the_table_comes_back_when_somebody_flushed_it(machine: Machine) -> None:
    with machine.container("--network", "bridge", "-p", "8080:80", *server(80)):
        machine.command("nft", "flush", "ruleset")
        assert machine.kist("run", "--network", "bridge", "host", "true").returncode == 0
        assert ask(machine, "127.0.0.1", 8080).endswith("hello")


@needs_nft
def test_killed_at_every_step_of_the_network(machine: Machine, rootfs: Path, run_dir: Path, tmp_path: Path) -> None:
    """As test_killed.py has it for all steps: one that waits is put before each."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    machine.run("--network", "bridge", "host", "true")

    def container() -> Making:
        given = {"rootfs": [str(rootfs)], "network": ["bridge"], "publish": ["8080:80"], "allow-unenforced": ["true"]}
        request = run_request(given, ("sleep", "600"), this_process(), captured=True)
        return make(request, Stdio(), StateDirectory(str(run_dir)), attached=True)

    def steps() -> list[int]:
        made = container()
        made.close(remove=True)
        return [i for i, entry in enumerate(made.compiled.plan) if entry.group == "network"]

    def kill_at(index: int) -> None:
        made = container()
        plan = list(made.compiled.plan)
        wait = Open(str(fifo), 0, Slots.COUNT - 1) if plan[index].actor == HOST else Await()
        plan.insert(index, Entry(wait, plan[index].actor, "network", "stop here"))
        program, null = open_program(), os.open("/dev/null", os.O_RDWR)
        launcher = Launcher(tuple(plan), program, (null, null, null), made.kept_fds)
        made.close(remove=False)
        try:
            wait_until(lambda: Path(f"/proc/{launcher.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
        finally:
            os.kill(launcher.pid, signal.SIGKILL)
            launcher.close()
            os.close(program)
            os.close(null)

    def swept() -> bool:
        """Once the first process is gone, too: it had the lock as well."""
        machine.inside(StateDirectory(str(run_dir)).sweep)
        return "8080" not in elements(machine) and machine.links() == {"kist0"}

    for index in machine.inside(steps):
        machine.inside(lambda index=index: kill_at(index))
        wait_until(swept)
    with database(StateDirectory(str(run_dir))) as db:
        assert db.holders() == [] and db.ports() == []


# --- kist network


def network(machine: Machine, *args: str) -> str:
    done = machine.kist("network", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_nft
def test_networks_are_apart_and_an_internal_one_is_closed(machine: Machine, outside: Machine) -> None:
    network(machine, "create", "--subnet", "10.1.0.0/24", "red")
    network(machine, "create", "--subnet", "10.2.0.0/24", "--gateway", "10.2.0.254", "blue")
    network(machine, "create", "--subnet", "10.3.0.0/24", "--internal", "back")
    far = subprocess.Popen(outside.argv("python3", "-c", SERVER, "99", "tcp"), stdout=subprocess.PIPE)
    with (
        far,
        machine.container("--network", "red", "--ip", "10.1.0.9", "-p", "8080:80", *server(80)),
        machine.container("--network", "back", "--ip", "10.3.0.9", *server(80)),
    ):
        assert far.stdout and far.stdout.readline() == b"up\n"
        assert machine.run("--network", "red", *client("10.1.0.9", 80)).endswith("hello\n")
        assert machine.run("--network", "blue", *client("10.1.0.9", 80, "0.5")) == "TimeoutError\n"
        assert machine.run("--network", "blue", *client("192.0.2.2", 8080)).endswith("hello\n")
        assert machine.run("--network", "blue", *client("192.0.2.1", 99)).endswith("hello\n")
        assert machine.run("--network", "back", *client("10.3.0.9", 80)).endswith("hello\n")
        assert machine.run("--network", "red", *client("10.3.0.9", 80, "0.5")) == "TimeoutError\n"
        assert machine.run("--network", "back", *client("192.0.2.1", 99, "0.5")) in ("OSError\n", "TimeoutError\n")
        far.kill()
    done = machine.kist("run", "--network", "back", "-p", "80", "host", "true")
    assert done.returncode == 125 and "internal" in done.stderr


def test_ipv6(machine: Machine, rootfs: Path) -> None:
    network(machine, "create", "--ipv6", "--subnet", "fd00:1::/64", "--subnet", "10.1.0.0/24", "six")
    box = ("--network", "six", "--rootfs", str(rootfs))
    with machine.container(*box, "--ip6", "fd00:1::9", "sh", "-c", "echo up; exec sleep 600"):
        assert "ok" in machine.run(*box, "sh", "-c", "ping -6 -c 1 -W 5 fd00:1::9 >/dev/null && echo ok")
        assert "ok" in machine.run(*box, "sh", "-c", "ping -6 -c 1 -W 5 fd00:1::1 >/dev/null && echo ok")
    assert "default via fd00:1::1" in machine.run(*box, "ip", "-6", "route")


# The first two messages of SCTP, by raw sockets: this needs no SCTP in the kernel, only its address translation.
SCTP = """
import socket, struct, sys
def checked(packet):
    crc = 0xffffffff
    for byte in packet:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return packet[:8] + struct.pack("<I", crc ^ 0xffffffff) + packet[12:]
def chunk(source, port, tag, kind):
    return checked(struct.pack(">HHIIBBHIIHHI", source, port, tag, 0, kind, 0, 20, 7, 65536, 1, 1, 1))
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
s.settimeout(10)
def received():
    data, (peer, _) = s.recvfrom(2000)
    data = data[(data[0] & 15) * 4:]
    assert checked(data[:8] + bytes(4) + data[12:]) == data
    return peer, *struct.unpack(">HH", data[:4]), data[12]
if sys.argv[1] == "serve":
    print("up", flush=True)
    peer, source, port, kind = received()
    s.sendto(chunk(port, source, 7, 2), (peer, 0))
    print(peer, port, kind, flush=True)
else:
    s.sendto(chunk(7777, int(sys.argv[2]), 0, 1), (sys.argv[1], 0))
    print(*received())
"""


@needs_nft
def test_a_published_port_of_sctp(machine: Machine, outside: Machine) -> None:
    served = ("-p", "9000:80/sctp", "host", "python3", "-c", SCTP, "serve")
    with machine.container("--network", "bridge", *served) as process:
        assert process.first == "up"
        assert outside.command("python3", "-c", SCTP, "192.0.2.2", "9000") == "192.0.2.2 9000 7777 2\n"
        assert process.stdout.readline() == "192.0.2.1 80 1\n"


@needs_nft
@pytest.mark.parametrize("bridged", ["0", "1"])
def test_ports_published_by_ipv6(machine: Machine, outside: Machine, bridged: str) -> None:
    """With br_netfilter's view on bridges ::1 can have no answer: it is refused, and programs try 127.0.0.1."""
    if machine.inside(lambda: Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables").exists()):
        machine.command("sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-ip6tables={bridged}")
    elif bridged == "1":
        pytest.skip("needs br_netfilter")
    for host, device, address in ((machine, "up0", "2001:db8::2/64"), (outside, "up1", "2001:db8::1/64")):
        host.command("ip", "address", "add", address, "dev", device, "nodad")
    network(machine, "create", "--ipv6", "--subnet", "fd00:1::/64", "six")
    asker = CLIENT.replace("AF_INET,", "AF_INET6,")
    serving = ("host", "python3", "-c", SERVER.replace("AF_INET,", "AF_INET6,"), "80", "tcp")

    def ask6(host: Machine, address: str) -> str:
        return host.command("python3", "-c", asker, address, "8080", "tcp", "5").strip()

    with machine.container("--network", "six", "-p", "8080:80", *serving) as process:
        assert process.first == "up"
        assert ask6(outside, "2001:db8::2") == "2001:db8::1 hello"  # the source is kept
        assert ask6(machine, "2001:db8::2").endswith(" hello")
        assert ask6(machine, "::1") == ("fd00:1::1 hello" if bridged == "0" else "ConnectionRefusedError")
        asked = ("host", "python3", "-c", asker, "2001:db8::2", "8080", "tcp", "5")
        assert machine.run("--network", "six", *asked).endswith(" hello\n")
    assert "dev lo" in machine.command("ip", "-6", "route", "get", "::1")


@needs_nft
def test_a_port_by_ipv6_of_a_container_without(machine: Machine, outside: Machine, run_dir: Path) -> None:
    """As docker's proxy does it; the process is there once somebody came, and ends with the container."""
    for host, device, address in ((machine, "up0", "2001:db8::2/64"), (outside, "up1", "2001:db8::1/64")):
        host.command("ip", "address", "add", address, "dev", device, "nodad")
    asker = CLIENT.replace("AF_INET,", "AF_INET6,")

    def ask6(host: Machine, address: str, port: int) -> str:
        return host.command("python3", "-c", asker, address, str(port), "tcp", "5").strip()

    def relays() -> int:
        (id,) = StateDirectory(str(run_dir)).ids()
        supervisor = StateDirectory(str(run_dir)).supervisor(id)
        return len(Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()) - 1

    ports = ("-p", "8080:80", "-p", "[::1]:8081:80", "-p", "127.0.0.1:8082:80")
    with machine.container("--network", "bridge", *ports, *server(80)) as process:
        assert process.first == "up" and relays() == 0
        assert ask6(machine, "::1", 8080) == "10.112.0.1 hello"
        assert relays() == 1
        assert ask6(outside, "2001:db8::2", 8080) == "10.112.0.1 hello"
        assert ask6(machine, "::1", 8081) == "10.112.0.1 hello"
        assert ask6(outside, "2001:db8::2", 8081) == ask6(machine, "::1", 8082) == "ConnectionRefusedError"
        assert relays() == 1
    done = machine.kist("run", "--rm", "-p", "[::1]:8081:80/udp", "host", "true")
    assert done.returncode == 125 and "udp port of a container without IPv6" in done.stderr
    taken = machine.inside(lambda: socket.create_server(("::1", 8080), family=socket.AF_INET6))
    done = machine.kist("run", "--rm", "-p", "8080:80", "host", "true")
    assert done.returncode == 125 and "[port-taken]" in done.stderr
    taken.close()


def test_lists_and_removals(machine: Machine, rootfs: Path) -> None:
    made = network(machine, "create", "--label", "team=a", "-o", "com.docker.network.driver.mtu=1400", "web").strip()
    network(machine, "create", "other")
    assert network(machine, "ls").splitlines()[0].split() == ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    names = "{{.Name}}"
    assert network(machine, "ls", "--format", names).split() == ["host", "none", "other", "web"]
    assert network(machine, "ls", "-q", "--no-trunc", "--filter", "label=team=a").strip() == made
    assert network(machine, "ls", "--filter", "driver=bridge", "--filter", "name=oth", "--format", names) == "other\n"
    assert json.loads(network(machine, "ls", "--filter", "name=web", "--format", "json"))["ID"] == made[:12]
    box = ("--network", "web", "--name", "inside", "--rootfs", str(rootfs))
    with machine.container(*box, "sh", "-c", "cat /sys/class/net/eth0/mtu; exec sleep 600") as process:
        assert process.first == "1400"
        [document] = json.loads(network(machine, "inspect", made[:8]))
        [container] = document["Containers"].values()
        assert (container["Name"], container["IPv4Address"]) == ("inside", "10.112.0.2/22")
        assert document["IPAM"]["Config"] == [{"Subnet": "10.112.0.0/22", "Gateway": "10.112.0.1"}]
        done = machine.kist("network", "rm", "web")
        assert done.returncode == 125 and "[network-in-use]" in done.stderr
        assert network(machine, "prune", "-f").split() == ["Deleted", "Networks:", "other"]
    wait_until(lambda: machine.kist("network", "rm", "web").returncode == 0)
    assert machine.links() == set()
    assert machine.kist("network", "rm", "web").returncode == 125
    assert network(machine, "rm", "-f", "web") == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("bridge",), "taken"),
        (("--subnet", "10.1.0.1/24", "x1"), "no subnet"),
        (("--subnet", "10.1.0.0/24", "--gateway", "10.2.0.1", "x1"), "not within"),
        (("--gateway", "10.2.0.1", "x1"), "needs its subnet"),
        (("--driver", "macvlan", "x1"), "--driver"),
        (("-o", "unknown=1", "x1"), "unknown option"),
        (("--subnet", "127.0.0.0/16", "x1"), "in use"),
    ],
)
def test_what_no_network_can_be_made_of(machine: Machine, args: tuple[str, ...], words: str) -> None:
    done = machine.kist("network", "create", *args)
    assert done.returncode == 125 and words in done.stderr
    assert machine.links() == set()
