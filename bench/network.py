"""How long does it take to connect a container: a cable to a bridge, an address, a route, masquerade, a published port?

kist's part is all that `kist run --network` does for it: the address from the database, the port kept by a socket, and
the messages that the launcher sends, sent from here. Beside it: netavark, and `ip` and `nft` as programs. The host is a
network namespace of the benchmark's own; the containers' namespaces are made before the clock runs.

    python bench/network.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from kist.engine.state import StateDirectory
from kist.kernel.netlink import Netlink
from kist.kernel.probe import probe
from kist.network.attach import Attachment, attach
from kist.plan import firewall
from kist.plan import rtnetlink as rt
from kist.plan.netlink import NETFILTER
from kist.plan.request import Publish, RunRequest
from netns import Namespace  # type: ignore[import-not-found]

NETAVARK = next((p for p in ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark") if os.path.exists(p)), "")


class Kist:
    def __init__(self, directory: Path, host: Namespace, spaces: list[Namespace]) -> None:
        self.states = StateDirectory(str(directory / "run"))
        self.states.prepare()
        self.facts, self.host, self.spaces, self.ports = probe(), host, spaces, count(20000)
        self.attached: list[Attachment] = []

    def __call__(self) -> None:
        space = self.spaces.pop()
        there = space.netlink()  # made by the launcher in the container's namespace
        self.host.inside(lambda: self._connect(space, there))
        there.close()

    def _connect(self, space: Namespace, there: Netlink) -> None:
        port = next(self.ports)
        request = RunRequest(network="bridge", publish=(Publish("tcp", 80, 80, b"", port, port),))
        id = os.urandom(32).hex()
        self.states.reserve(id)
        made = attach(self.states, request, self.facts, id)
        self.attached.append(made)
        (cable,) = made.cables
        with Netlink() as route, Netlink(NETFILTER) as filters:
            filters.request("port", *firewall.add_port(cable.ports[0]))
            veth = rt.add_veth(
                cable.outside, cable.inside, netns_fd=space.fd, master=cable.bridge_index, peer_mac=cable.mac
            )
            route.request("cable", veth)
        link = rt.read_link(there.request("link", rt.get_link(name=cable.inside))[0]).index
        address = cable.addresses[0]
        there.request(
            "inside",
            rt.add_address(rt.Address(address.local, address.prefix, index=link)),
            rt.set_link(link, up=True),
            rt.add_route(rt.Route(rt.INET, gateway=cable.gateways[0])),
        )


class Programs:
    """What somebody's script would do; bridge and masquerading are there already."""

    def __init__(self, host: Namespace, spaces: list[Namespace]) -> None:
        self.host, self.spaces, self.numbers = host, spaces, count(2)
        host.command("ip", "link", "add", "hand0", "type", "bridge")
        host.command("ip", "address", "add", "10.50.0.1/16", "dev", "hand0")
        host.command("ip", "link", "set", "hand0", "up")
        for words in (
            "add table inet hand",
            "add map inet hand ports { type inet_service : ipv4_addr . inet_service ; }",
        ):
            host.command("nft", words)

    def __call__(self) -> None:
        space, number = self.spaces.pop(), next(self.numbers)
        address = f"10.50.{number // 250}.{number % 250}"
        veth = f"hand{number}"
        for words in (
            f"ip link add {veth} master hand0 up type veth peer name eth0 netns {space.path}",
            f"nsenter --net={space.path} ip address add {address}/16 dev eth0",
            f"nsenter --net={space.path} ip link set eth0 up",
            f"nsenter --net={space.path} ip route add default via 10.50.0.1",
            f"nft add element inet hand ports {{ {30000 + number} : {address} . 80 }}",
        ):
            self.host.command(*words.split())


class Netavark:
    def __init__(self, directory: Path, host: Namespace, spaces: list[Namespace]) -> None:
        self.directory, self.host, self.spaces, self.numbers = directory, host, spaces, count(2)

    def __call__(self) -> None:
        space, number = self.spaces.pop(), next(self.numbers)
        network = {
            "name": "podman", "id": "a" * 64, "driver": "bridge", "network_interface": "podman7", "internal": False,
            "subnets": [{"subnet": "10.60.0.0/16", "gateway": "10.60.0.1"}], "ipv6_enabled": False,
            "dns_enabled": False, "ipam_options": {"driver": "host-local"},
        }  # fmt: skip
        address = f"10.60.{number // 250}.{number % 250}"
        options = {
            "container_id": f"{number:064x}", "container_name": f"c{number}", "network_info": {"podman": network},
            "networks": {"podman": {"interface_name": "eth0", "static_ips": [address]}},
            "port_mappings": [
                {"container_port": 80, "host_port": 40000 + number, "host_ip": "", "protocol": "tcp", "range": 1}
            ],
        }  # fmt: skip
        argv = self.host.argv(NETAVARK, "--config", str(self.directory / "netavark"), "setup", space.path)
        done = subprocess.run(argv, input=json.dumps(options), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    directory = Path(tempfile.mkdtemp())
    host = Namespace()
    made = [[Namespace() for _ in range(rounds + 2)] for _ in range(3)]
    try:
        cases: dict[str, harness.Case] = {"kist": Kist(directory, host, made[0][:])}
        cases["ip and nft"] = Programs(host, made[1][:])
        if NETAVARK:
            cases["netavark"] = Netavark(directory, host, made[2][:])
        times = harness.interleave(cases, rounds)
        versions = {
            "netavark": harness.version(NETAVARK, "--version") if NETAVARK else "",
            "ip": harness.version("ip", "-V"),
        }
        harness.report("connect a container, one port published", times, versions, base="kist")
    finally:
        for space in (host, *(space for spaces in made for space in spaces)):
            space.close()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
