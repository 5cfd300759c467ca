"""The network of an ordinary user: a relay in place of a cable."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import KIST
from internet import DNS, FILES, HOST, PYPI, PYPI6, Internet, internet, missing, relays
from machine import wait_until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
FETCH = """
import socket, sys
def get(host, port=80):
    with socket.create_connection((host, port), 20) as s:
        s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        return s.makefile("rb").read().split(b"\\r\\n\\r\\n")[-1].decode().split()[0]
"""
# Answers with the hash of what it got, and then as much of its own.
SERVER = """
import hashlib, os, socket
listener = socket.create_server(("0.0.0.0", 80))
print("up", flush=True)
while True:
    client, _ = listener.accept()
    with client, client.makefile("rb") as file:
        size = int(file.readline())
        client.sendall(hashlib.sha256(file.read(size)).digest() + bytes(size))
"""
CLIENT = """
import hashlib, os, socket, sys
data = os.urandom(5_000_000)
for host in sys.argv[2:]:
    with socket.create_connection((host, int(sys.argv[1])), 20) as s, s.makefile("rb") as file:
        s.sendall(b"%d\\n" % len(data) + data)
        assert file.read(32) == hashlib.sha256(data).digest()
        assert len(file.read()) == len(data)
print("well")
"""


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Internet]:
    (tmp_path / "net").mkdir()
    with internet(tmp_path / "net", True) as made:
        yield made


def test_names_and_addresses_of_the_world(net: Internet) -> None:
    box = ("run", "--rm", "--network", "bridge", "--dns", DNS, "host")
    script = (
        f"{FETCH}print(open('/etc/resolv.conf').read(), *map(get, ('pypi.test', '{FILES}', 'six.test', '{PYPI6}')))"
    )
    done = net.run(*KIST, *box, "python3", "-c", script)
    expected = f"nameserver 127.0.0.11 options ndots:0 {PYPI} {FILES} {PYPI6} {PYPI6}"
    assert done.stdout.split() == expected.split(), done.stderr
    assert net.run(*KIST, *box, "getent", "hosts", "no.test").returncode == 2
    done = net.run(*KIST, *box, "python3", "-c", f"{FETCH}get('{HOST}', 9)")
    assert "reset" in done.stderr  # nobody listens there


DATAGRAMS = """
import socket, struct, sys
dns, v4, v6 = sys.argv[1:]
query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\\4pypi\\4test\\0" + struct.pack(">HH", 1, 1)
four, six = (socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6))
for n in range(3):
    for s, to, data in ((four, (v4, 7), b"x" * 8000 * n), (four, (dns, 53), query), (six, (v6, 7), b"y" * n)):
        s.settimeout(20)
        s.sendto(data, to)
        got, source = s.recvfrom(65536)
        assert source[:2] == to and (got == data or to[1] == 53), (got, source)
try:
    four.connect((v4, 9))
    four.send(b"nobody")
    four.settimeout(1)
    four.recv(10)
except OSError:
    print("well")
"""


def test_datagrams(net: Internet) -> None:
    """From where they were sent to, also at ports below 1024; many destinations of one socket."""
    box = ("run", "--rm", "--network", "bridge", "host", "python3", "-c", DATAGRAMS)
    done = net.run(*KIST, *box, DNS, PYPI, PYPI6)
    assert done.stdout == "well\n", done.stderr


def test_published_ports(net: Internet) -> None:
    box = ("--name", "web", "--network", "bridge", "-p", "8080:80", "-p", "127.0.0.1::80")
    assert net.run(*KIST, "run", "-d", *box, "host", "python3", "-c", SERVER).returncode == 0
    wait_until(lambda: net.run(*KIST, "logs", "web").stdout == "up\n")
    done = net.run(sys.executable, "-c", CLIENT, "8080", "127.0.0.1", "::1", HOST)
    assert done.stdout == "well\n", done.stderr
    shown = net.run(*KIST, "port", "web", "80").stdout.splitlines()
    assert {"0.0.0.0:8080", "[::]:8080"} < {*shown} and len(shown) == 3
    done = net.run(*KIST, "run", "--rm", "--network", "bridge", "-p", "8080:80", "host", "true")
    assert done.returncode == 125 and "0.0.0.0:8080/tcp is taken" in done.stderr
    assert net.run(*KIST, "rm", "-f", "web").returncode == 0
    assert net.run(*KIST, "run", "--rm", "--network", "bridge", "-p", "8080:80", "host", "true").returncode == 0


def test_what_only_a_cable_has_is_refused(net: Internet) -> None:
    for flags, words in (
        ("--ip 10.1.0.2", "no network with"),
        ("-p 80/sctp", "takes tcp and udp"),
    ):
        done = net.run(*KIST, "run", "--rm", "--network", "bridge", *flags.split(), "host", "true")
        assert done.returncode == 125 and words in done.stderr, done


def test_a_supervisor_that_is_killed_takes_its_relay_along(net: Internet) -> None:
    box = ("--name", "box", "--network", "bridge", "-p", "8080:80", "host", "sleep", "600")
    assert net.run(*KIST, "run", "-d", *box).returncode == 0
    ((supervisor, found),) = relays(os.environ["KIST_RUN_DIR"]).items()
    assert len(found) == 2  # who connects, and who opens sockets inside
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found))
    assert net.run(*KIST, "rm", "box").returncode == 0
