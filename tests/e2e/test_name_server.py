"""The name server of user-defined networks, asked by real programs and by hand."""

import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import needs_root
from machine import Machine, machine

__all__ = ["machine"]
pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("nft"), reason="needs nft: apt-get install nftables")]

UNKNOWN = ("2", "3")  # the host's own servers cannot be reached from here, or there are none
SLEEP = ("sh", "-c", "echo up; exec sleep 600")
# One question by hand: TYPE NAME [tcp] -> the response code, whether it is truncated, and the data of each answer.
ASK = r"""
import socket, struct, sys
kind, name, way = int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "udp"
labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"
asked = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">HH", kind, 1)
if way == "tcp":
    s = socket.create_connection(("127.0.0.11", 53), 10)
    s.sendall(struct.pack(">H", len(asked)) + asked)
    f = s.makefile("rb")
    got = f.read(struct.unpack(">H", f.read(2))[0])
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.connect(("127.0.0.11", 53))
    s.send(asked)
    got = s.recv(65535)
ident, flags, _, answers = struct.unpack(">HHHH", got[:8])
assert ident == 7 and flags & 0x8000
at, found = 12 + len(labels) + 4, []
for _ in range(answers):
    kind, _, ttl, size = struct.unpack(">HHIH", got[at + 2 : at + 12])
    found.append(got[at + 12 : at + 12 + size].hex())
    at += 12 + size
print(flags & 15, flags >> 9 & 1, *sorted(found))
"""


def ask(machine: Machine, *words: str, network: str = "red", options: tuple[str, ...] = ()) -> list[str]:
    return machine.run("--network", network, *options, "host", "python3", "-c", ASK, *words).split()


@pytest.fixture
def red(machine: Machine) -> Machine:
    done = machine.kist("network", "create", "--subnet", "10.9.1.0/24", "--subnet", "fd09::/64", "red")
    assert done.returncode == 0, done.stderr
    return machine


@pytest.fixture
def upstream(machine: Machine) -> Iterator[str]:
    """A name server on the "host": example.test is 192.0.2.1; big.test has 100 addresses; nothing else exists."""
    address = "10.77.0.1"
    machine.command("ip", "address", "add", f"{address}/32", "dev", "lo")

    def answer(asked: bytes) -> bytes:
        end = asked.index(b"\0", 12) + 5
        many = {b"\7example\4test\0": 1, b"\3big\4test\0": 100}.get(asked[12 : end - 4], 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes((192, 0, 2, 1))
        return (
            asked[:2]
            + struct.pack(">HHHHH", 0x8180 | (0 if many else 3), 1, many, 0, 0)
            + asked[12:end]
            + record * many
        )

    datagrams = machine.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    listener = machine.inside(lambda: socket.create_server((address, 53)))
    datagrams.bind((address, 53))

    def by_udp() -> None:
        while True:
            asked, client = datagrams.recvfrom(4096)
            if not asked:
                return
            datagrams.sendto(answer(asked), client)

    def by_tcp() -> None:
        while True:
            client, _ = listener.accept()
            with client, client.makefile("rb") as file:
                head = file.read(2)
                if len(head) < 2:
                    return
                got = answer(file.read(struct.unpack(">H", head)[0]))
                client.sendall(struct.pack(">H", len(got)) + got)

    threads = [threading.Thread(target=work) for work in (by_udp, by_tcp)]
    for thread in threads:
        thread.start()
    yield address
    machine.inside(lambda: socket.create_connection((address, 53))).close()
    with machine.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as last:
        last.sendto(b"", (address, 53))
    for thread in threads:
        thread.join()
    datagrams.close()
    listener.close()


def test_names_aliases_and_ids(red: Machine, rootfs: Path) -> None:
    asked = ("--name", "Web", "--network-alias", "www", "--hostname", "box", "--network", "red")
    with red.container(*asked, "--rootfs", str(rootfs), *SLEEP):
        for name in ("web", "WEB", "www", "box"):
            assert ask(red, "1", name) == ["0", "0", "0a090102"]
        assert ask(red, "28", "web") == ["0", "0", "fd09" + "0" * 27 + "2"]
        assert ask(red, "1", "web", "tcp") == ["0", "0", "0a090102"]
        assert ask(red, "15", "web") == ["0", "0"]
        assert red.run("--network", "red", "host", "getent", "ahostsv4", "web").split()[0] == "10.9.1.2"
        assert ask(red, "12", "2.1.9.10.in-addr.arpa") == ["0", "0", "0357656200"]
        reverse = ".".join("2" + "0" * 27 + "90df") + ".ip6.arpa"
        assert ask(red, "12", reverse) == ["0", "0", "0357656200"]
    assert ask(red, "1", "web")[0] in UNKNOWN  # gone with it


def test_round_robin_over_an_alias(red: Machine, rootfs: Path) -> None:
    asked = ("--network", "red", "--network-alias", "db", "--rootfs", str(rootfs), *SLEEP)
    with red.container(*asked), red.container(*asked):
        assert ask(red, "1", "db") == ["0", "0", "0a090102", "0a090103"]


def test_names_of_other_networks_are_not_known(red: Machine, rootfs: Path) -> None:
    assert red.kist("network", "create", "blue").returncode == 0
    with red.container("--name", "web", "--network", "blue", "--rootfs", str(rootfs), *SLEEP):
        assert ask(red, "1", "web")[0] in UNKNOWN
        assert ask(red, "1", "web", network="blue")[:2] == ["0", "0"]
        assert red.kist("network", "connect", "--alias", "other", "red", "web").returncode == 0
        assert ask(red, "1", "other") == ask(red, "1", "web")
        assert red.kist("network", "disconnect", "red", "web").returncode == 0
        assert ask(red, "1", "other")[0] in UNKNOWN


def test_other_names_are_asked_of_the_hosts_servers(red: Machine, upstream: str) -> None:
    dns = ("--dns", upstream)
    assert ask(red, "1", "example.test", options=dns) == ["0", "0", "c0000201"]
    assert ask(red, "1", "nothing.test", options=dns) == ["3", "0"]
    assert ask(red, "1", "big.test", options=dns) == ["0", "1"]  # truncated: by TCP it is whole
    assert len(ask(red, "1", "big.test", "tcp", options=dns)) == 102


def test_a_server_that_is_silent_is_passed_over(red: Machine, upstream: str) -> None:
    red.command("ip", "address", "add", "10.77.0.2/32", "dev", "lo")
    silent = red.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent.bind(("10.77.0.2", 53))
    try:
        dns = ("--dns", "10.77.0.2", "--dns", upstream)
        assert ask(red, "1", "example.test", options=dns) == ["0", "0", "c0000201"]
    finally:
        silent.close()


def test_resolv_conf_and_a_port_53_of_its_own(red: Machine, rootfs: Path) -> None:
    script = "cat /etc/resolv.conf; nc -l -p 53 -e true & sleep 0.1; kill -0 $! && echo bound"
    out = red.run("--network", "red", "--rootfs", str(rootfs), "--dns-search", "x.test", "sh", "-c", script)
    assert out.splitlines() == ["nameserver 127.0.0.11", "search x.test", "options ndots:0", "bound"]


def test_nonsense_is_answered_or_passed_over(red: Machine) -> None:
    script = r"""
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.11", 53))
for size in range(0, 600):
    s.send(os.urandom(size))
    s.send(b"\0\7\1\0\0\1\0\0\0\0\0\0" + os.urandom(size))
t = [socket.create_connection(("127.0.0.11", 53)) for _ in range(20)]
for c in t:
    c.send(b"\xff\xff" + os.urandom(50))
"""
    out = red.run("--network", "red", "--name", "self", "host", "python3", "-c", script + ASK, "1", "self")
    assert out.split() == ["0", "0", "0a090102"]
