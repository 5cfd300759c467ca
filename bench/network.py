"""What does a container's network cost: to set up and take away, with many, while it is used, and asking for names?

    python bench/network.py [ROUNDS] [connect|many|throughput|names ...]

connect: a cable to a bridge, an address, a route, masquerade and one published port, and all of that away again. kist's
part is all that `kist run --rm --network` does for it: the address from the database, the port kept by a socket, and
the messages that the launcher sends, sent from here. Beside it: netavark, and `ip` and `nft` as programs.
many: the same from the first container of a network to the 1,000th.
throughput: iperf3 from one container to another, beside the same over a bridge made by hand.
names: questions from a container to its name server, beside aardvark-dns and dnsmasq.

The host is a network namespace of the benchmark's own; those of containers are made before the clock runs.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from struct import pack, unpack_from

import harness

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from kist.engine.state import Record, StateDirectory
from kist.kernel.netlink import Netlink
from kist.kernel.probe import probe
from kist.network.attach import Attachment, attach
from kist.plan import firewall
from kist.plan import rtnetlink as rt
from kist.plan.netlink import NETFILTER
from kist.plan.request import Publish, RunRequest
from netns import Namespace  # type: ignore[import-not-found]

NETAVARK, AARDVARK = (
    next((p for p in (f"/usr/lib/podman/{name}", f"/usr/libexec/podman/{name}") if os.path.exists(p)), "")
    for name in ("netavark", "aardvark-dns")
)
KIST = (sys.executable, "-m", "kist.faces.cli")


class Kist:
    """One call connects a container, `leave` takes the first one away that is still there. Their state directories are
    made and removed by a run without a network, too."""

    def __init__(self, directory: Path, host: Namespace, spaces: list[Namespace]) -> None:
        self.states = StateDirectory(str(directory / "run"))
        self.states.prepare()
        self.facts, self.host, self.ports = probe(), host, count(20000)
        self.waiting = [(os.urandom(32).hex(), space) for space in spaces]
        self.there: list[tuple[Namespace, Attachment, Netlink]] = []
        self.directories = [self.states.new(Record(id, networks=("bridge",))) for id, _ in self.waiting]

    def __call__(self) -> None:
        (id, space), port = self.waiting.pop(), next(self.ports)
        request = RunRequest(network="bridge", publish=(Publish("tcp", 80, 80, b"", port, port),))
        made = attach(self.states, request, self.facts, id, fresh=True)
        filters = Netlink(NETFILTER)  # which the launcher keeps
        self.there.append((space, made, filters))
        (cable,) = made.cables
        filters.request("port", *firewall.add_port(cable.ports[0]))
        with Netlink() as route:
            cord = rt.add_veth(
                cable.outside, cable.inside, netns_fd=space.fd, master=cable.bridge_index, peer_mac=cable.mac
            )
            route.request("cable", cord)
            route.request("hairpin", rt.set_port(number(route, cable.outside), hairpin=True))
        space.enter()
        inside = Netlink()
        self.host.enter()
        link = number(inside, cable.inside)
        address = cable.addresses[0]
        inside.request(
            "inside",
            rt.set_link(link, link_local=False),
            rt.add_address(rt.Address(address.local, address.prefix, index=link)),
            rt.set_link(link, up=True),
            rt.add_route(rt.Route(rt.INET, gateway=cable.gateways[0])),
        )
        inside.close()

    def leave(self) -> None:
        """The launcher's last steps; the cable goes with the namespace."""
        space, made, filters = self.there.pop(0)
        for port in made.cables[0].ports:
            filters.request("port", *firewall.remove_port(port))
            filters.request("port", *firewall.remove_itself(port))
        filters.close()
        space.close()
        made.close()

    def end(self) -> None:
        while self.there:
            self.leave()
        for directory in self.directories:
            directory.remove()


def number(connection: Netlink, name: str) -> int:
    """As the launcher asks for it: any socket will do."""
    answer = fcntl.ioctl(connection._socket.fileno(), 0x8933, pack("16s24x", name.encode()))  # SIOCGIFINDEX
    return int(unpack_from("<i", answer, 16)[0])


class Programs:
    """What somebody's script would do; bridge and masquerading are there already."""

    def __init__(self, spaces: list[Namespace]) -> None:
        self.spaces, self.numbers = spaces, count(2)
        self.there: list[tuple[Namespace, int]] = []
        run("ip link add hand0 type bridge")
        run("ip address add 10.50.0.1/16 dev hand0")
        run("ip link set hand0 up")
        run("nft add table inet hand")
        run("nft add map inet hand ports { type inet_service : ipv4_addr . inet_service ; }")

    def __call__(self) -> None:
        space, number = self.spaces.pop(), next(self.numbers)
        self.there.append((space, number))
        address = f"10.50.{number // 250}.{number % 250}"
        run(f"ip link add hand{number} master hand0 up type veth peer name eth0 netns {space.path}")
        run(f"bridge link set dev hand{number} hairpin on")
        run(f"nsenter --net={space.path} ip address add {address}/16 dev eth0")
        run(f"nsenter --net={space.path} ip link set eth0 up")
        run(f"nsenter --net={space.path} ip route add default via 10.50.0.1")
        run(f"nft add element inet hand ports {{ {30000 + number} : {address} . 80 }}")

    def leave(self) -> None:
        space, number = self.there.pop(0)
        run(f"nft delete element inet hand ports {{ {30000 + number} }}")
        run(f"ip link delete hand{number}")
        space.close()


def run(words: str) -> None:
    harness.command(*words.split())()


class Netavark:
    def __init__(self, directory: Path, spaces: list[Namespace]) -> None:
        self.directory, self.spaces, self.numbers = directory, spaces, count(2)
        self.there: list[tuple[Namespace, str]] = []

    def __call__(self) -> None:
        space, number = self.spaces.pop(), next(self.numbers)
        network = {
            "name": "podman", "id": "a" * 64, "driver": "bridge", "network_interface": "podman7", "internal": False,
            "subnets": [{"subnet": "10.60.0.0/16", "gateway": "10.60.0.1"}], "ipv6_enabled": False,
            "dns_enabled": False, "ipam_options": {"driver": "host-local"},
        }  # fmt: skip
        address = f"10.60.{number // 250}.{number % 250}"
        options = json.dumps({
            "container_id": f"{number:064x}", "container_name": f"c{number}", "network_info": {"podman": network},
            "networks": {"podman": {"interface_name": "eth0", "static_ips": [address]}},
            "port_mappings": [
                {"container_port": 80, "host_port": 40000 + number, "host_ip": "", "protocol": "tcp", "range": 1}
            ],
        })  # fmt: skip
        self.there.append((space, options))
        self._tell("setup", space, options)

    def leave(self) -> None:
        space, options = self.there.pop(0)
        self._tell("teardown", space, options)
        space.close()

    def _tell(self, verb: str, space: Namespace, options: str) -> None:
        argv = [NETAVARK, "--config", str(self.directory / "netavark"), verb, space.path]
        done = subprocess.run(argv, input=options, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)


def connect(directory: Path, host: Namespace, rounds: int, versions: dict[str, str]) -> None:
    made = [[Namespace() for _ in range(rounds + 2)] for _ in range(3)]
    own = Kist(directory, host, made[0])
    cases: dict[str, Kist | Programs | Netavark] = {"kist": own, "ip and nft": Programs(made[1])}
    if NETAVARK:
        cases["netavark"] = Netavark(directory, made[2])
    times = harness.interleave(cases, rounds)
    harness.report("connect a container, one port published", times, versions, base="kist")
    times = harness.interleave({name: case.leave for name, case in cases.items()}, rounds)
    harness.report("take it away again, as long as the caller waits", times, versions, base="kist")
    own.end()


def many(directory: Path, host: Namespace, containers: int, versions: dict[str, str]) -> None:
    case = Kist(directory, host, [Namespace() for _ in range(containers)])
    times, began, busy = [], time.perf_counter(), time.process_time()
    for _ in range(containers):
        start = time.perf_counter()
        case()
        times.append((time.perf_counter() - start) * 1000)
    elapsed, busy = time.perf_counter() - began, time.process_time() - busy
    tenth = containers // 10
    rows = {f"{i * tenth + 1} to {i * tenth + tenth}": times[i * tenth : i * tenth + tenth] for i in (0, 4, 9)}
    harness.report(f"connect one more, of {containers:,}", rows, versions, base=f"1 to {tenth}")
    each_ms = busy / containers * 1000
    print(f"{containers / elapsed:.0f} a second; {each_ms:.2f} ms of processor time each: {1000 / each_ms:.0f}")
    case.end()


# --- while it is used


@contextmanager
def container(*args: str) -> Iterator[str]:
    """Its id while it runs in a network; programs are the host's."""
    argv = [*KIST, "run", "-d", "--rm", "--network", "bench", *args]
    id = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        yield id
    finally:
        subprocess.run([*KIST, "kill", id], stdout=subprocess.DEVNULL, check=True)


def kist(*args: str) -> str:
    return subprocess.run([*KIST, *args], stdout=subprocess.PIPE, text=True, check=True).stdout


def received_gbit(*argv: str) -> float:
    out = subprocess.run([*argv, "-J", "-t", "1", "-O", "0.2"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(json.loads(out)["end"]["sum_received"]["bits_per_second"]) / 1e9


def wait_for(argv: list[str]) -> None:
    deadline = time.monotonic() + 20
    while subprocess.run(argv, capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            sys.exit(f"{' '.join(argv)} goes on failing")


def throughput(rounds: int, versions: dict[str, str]) -> None:
    client = ("iperf3", "-c")
    ends = Namespace(), Namespace()
    run("ip link add plain0 type bridge")
    run("ip link set plain0 up")
    for i, end in enumerate(ends):
        run(f"ip link add plain{i + 1} master plain0 up type veth peer name eth0 netns {end.path}")
        end.command("ip", "address", "add", f"10.70.0.{i + 1}/24", "dev", "eth0")
        end.command("ip", "link", "set", "eth0", "up")
    with ExitStack() as stack:
        server = stack.enter_context(subprocess.Popen(ends[0].argv("iperf3", "-s"), stdout=subprocess.DEVNULL))
        stack.callback(server.kill)
        other = stack.enter_context(container("--ip", "10.71.0.5", "host", "iperf3", "-s"))
        id = stack.enter_context(container("host", "sleep", "600"))
        pids = [json.loads(kist("ns", "--format", "json", it))["pid"] for it in (other, id)]
        cables = [("nsenter", "-t", str(pid), "-n") for pid in pids]
        aside = stack.enter_context(
            subprocess.Popen([*cables[0], "iperf3", "-s", "-p", "5202"], stdout=subprocess.DEVNULL)
        )
        stack.callback(aside.kill)
        cases = {
            "by hand": (*ends[1].argv(*client), "10.70.0.1"),
            "kist's bridge": (*cables[1], *client, "10.71.0.5", "-p", "5202"),
            "kist's bridge, iperf3 in containers": (*KIST, "exec", id, *client, "10.71.0.5"),
        }
        for argv in cases.values():
            wait_for([*argv, "-n", "1"])
        speeds: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, argv in cases.items():
                speeds[name].append(received_gbit(*argv))
        question = "throughput from container to container over a bridge, Gbit/s"
        print(f"{question}\n{'':<38}{'median':>10}{'best':>10}{'best / by hand':>20}")
        rows = {name: {"median": statistics.median(v), "best": max(v)} for name, v in speeds.items()}
        for name, row in rows.items():
            row["ratio"] = row["best"] / rows["by hand"]["best"]  # others' work only ever makes it slower
            print(f"{name:<38}{row['median']:>10.1f}{row['best']:>10.1f}{row['ratio']:>20.2f}")
        print(json.dumps({"question": question, "rows": rows, "versions": versions}))


# One question at a time, and its answer; then as many as go in windows of 32. Prints microseconds, and a rate.
ASK = r"""
import json, socket, struct, sys, time
address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
asked = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + bytes([len(name)]) + name + b"\0" + struct.pack(">HH", 1, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((address, port))
def one():
    s.send(asked)
    return s.recv(512)
assert one()[6:8] == b"\0\1", one()
times = []
for _ in range(2000):
    began = time.perf_counter()
    one()
    times.append((time.perf_counter() - began) * 1e6)
began = time.perf_counter()
for _ in range(32):
    s.send(asked)
for _ in range(10000):
    s.recv(512)
    s.send(asked)
rate = 10000 / (time.perf_counter() - began)
print(json.dumps({"times": times, "rate": rate}))
"""


def end_daemon(pid_file: Path) -> None:
    """aardvark-dns goes on in another process."""
    if pid_file.exists():
        os.kill(int(pid_file.read_text()), signal.SIGTERM)


def names(directory: Path, rounds: int, versions: dict[str, str]) -> None:
    """The others answer on the host's side of a bridge, where they live in practice."""
    ask = ("python3", "-c", ASK)
    with ExitStack() as stack:
        stack.enter_context(container("--name", "web", "host", "sleep", "600"))
        id = stack.enter_context(container("host", "sleep", "600"))
        cases = {"kist": [*KIST, "exec", id, *ask, "127.0.0.11", "53", "web"]}
        if AARDVARK:
            there = directory / "aardvark"
            there.mkdir()
            (there / "bench").write_text(f"10.71.0.1\n{'a' * 64} 10.71.0.9  web\n")
            argv = [AARDVARK, "--config", str(there), "--port", "5301", "run"]
            stack.callback(stack.enter_context(subprocess.Popen(argv)).kill)
            stack.callback(end_daemon, there / "aardvark.pid")
            cases["aardvark-dns"] = [*KIST, "exec", id, *ask, "10.71.0.1", "5301", "web"]
        if shutil.which("dnsmasq"):
            argv = ["dnsmasq", "-k", "-C", "/dev/null", "-p", "5302", "--pid-file", "--address=/web/10.71.0.9"]
            stack.callback(stack.enter_context(subprocess.Popen(argv)).kill)
            cases["dnsmasq"] = [*KIST, "exec", id, *ask, "10.71.0.1", "5302", "web"]
        for argv in cases.values():
            wait_for(argv)
        times: dict[str, list[float]] = {name: [] for name in cases}
        rates: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, argv in cases.items():
                found = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
                times[name] += [us / 1000 for us in found["times"]]
                rates[name].append(found["rate"])
        harness.report("ask for a container's name", times, versions, base="kist", digits=3)
        rows = {name: round(statistics.median(values)) for name, values in rates.items()}
        print(json.dumps({"question": "names answered a second", "rows": rows}))


def main() -> None:
    words = sys.argv[1:]
    rounds = int(words.pop(0)) if words and words[0].isdigit() else 30
    chosen = words or ["connect", "many", "throughput", "names"]
    directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    os.environ |= {"KIST_RUN_DIR": str(directory / "run"), "KIST_DATA_DIR": str(directory / "data")}
    gc.disable()  # as the command line does until its launcher takes over
    host = Namespace()
    host.enter()
    versions = {
        "netavark": harness.version(NETAVARK, "--version") if NETAVARK else "",
        "ip": harness.version("ip", "-V"),
        "iperf3": harness.version("iperf3", "--version"),
        "aardvark-dns": harness.version(AARDVARK, "--version") if AARDVARK else "",
        "dnsmasq": harness.version("dnsmasq", "--version"),
    }
    try:
        if "connect" in chosen:
            connect(directory, host, rounds, versions)
        if "many" in chosen:
            many(directory, host, 1000, versions)
        if {"throughput", "names"} & {*chosen}:
            kist("network", "create", "--subnet", "10.71.0.0/24", "bench")
        if "throughput" in chosen:
            throughput(max(rounds // 4, 3), versions)
        if "names" in chosen:
            names(directory, max(rounds // 10, 1), versions)
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # containers that were killed still remove their files


if __name__ == "__main__":
    main()
