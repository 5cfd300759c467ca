"""Who talks to whom in tests of networks: another host on a wire, a server that says who asked, and those who ask."""

from collections.abc import Iterator

import pytest

from machine import Machine
from netns import Namespace


@pytest.fixture
def outside(machine: Machine) -> Iterator[Machine]:
    """Another host, on a wire to the machine: 192.0.2.1 there, 192.0.2.2 here. It knows no way to containers."""
    there = Machine()
    machine.command("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", there.path)
    for host, device, address in ((machine, "up0", "192.0.2.2/24"), (there, "up1", "192.0.2.1/24")):
        host.command("ip", "address", "add", address, "dev", device)
        host.command("ip", "link", "set", device, "up")
    yield there
    there.close()


# Answers each connection with who asked, and what.
SERVER = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[2] == "udp" else socket.SOCK_STREAM
s = socket.socket(socket.AF_INET, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", int(sys.argv[1])))
if kind == socket.SOCK_STREAM:
    s.listen()
print("up", flush=True)
while True:
    if kind == socket.SOCK_STREAM:
        c, peer = s.accept()
        c.sendall(peer[0].encode() + b" " + c.recv(100))
        c.close()
    else:
        data, peer = s.recvfrom(100)
        s.sendto(peer[0].encode() + b" " + data, peer)
"""
CLIENT = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[3] == "udp" else socket.SOCK_STREAM
s = socket.socket(socket.AF_INET, kind)
s.settimeout(float(sys.argv[4]))
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.send(b"hello")
    print(s.recv(100).decode())
except OSError as e:
    print(type(e).__name__)
"""


def server(port: int, kind: str = "tcp") -> tuple[str, ...]:
    return ("host", "python3", "-c", SERVER, str(port), kind)


def ask(host: Namespace, address: str, port: int, kind: str = "tcp", timeout_s: str = "20") -> str:
    return host.command("python3", "-c", CLIENT, address, str(port), kind, timeout_s).strip()


def client(address: str, port: int, timeout_s: str = "20", kind: str = "tcp") -> tuple[str, ...]:
    return ("host", "python3", "-c", CLIENT, address, str(port), kind, timeout_s)
