"""Networks of an ordinary user: bridges and cables in a network namespace that only the user's containers have open."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import KIST
from internet import DNS, HOST, PYPI, PYPI6, Internet, internet, missing, relays
from kist.engine.state import StateDirectory
from kist.network.attach import database
from machine import wait_until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
SERVER = """
import socket, threading
def datagrams():
    while True:
        data, client = echo.recvfrom(2000)
        echo.sendto(data + b" to " + client[0].encode(), client)
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind(("0.0.0.0", 80))
threading.Thread(target=datagrams, daemon=True).start()
listener = socket.create_server(("0.0.0.0", 80))
print("up", flush=True)
while True:
    client, address = listener.accept()
    client.recv(100)
    client.sendall(b"hello " + address[0].encode())
    client.close()
"""
# A line for each HOST:PORT: what it said, or why not. udp:HOST:PORT is sent a datagram; ?HOST:PORT will not answer.
ASK = """
import socket, sys
for text in sys.argv[1:]:
    host, _, port = text.lstrip("?").removeprefix("udp:").rpartition(":")
    try:
        if text.startswith("udp:"):
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(10)
                s.connect((host, int(port)))
                s.send(b"ping")
                print(s.recv(2000).decode())
        else:
            with socket.create_connection((host, int(port)), 0.5 if text[0] == "?" else 10) as s:
                s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                print(s.makefile("rb").read().split(b"\\r\\n")[-1].decode().strip())
    except OSError as e:
        print(type(e).__name__)
"""


class User:
    def __init__(self, net: Internet) -> None:
        self.net = net

    def kist(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.net.run(*KIST, *args)

    def done(self, *args: str) -> str:
        done = self.kist(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, words: str, *args: str) -> None:
        done = self.kist(*args)
        assert done.returncode == 125 and words in done.stderr, done

    def serve(self, name: str, *flags: str) -> None:
        self.done("run", "-d", "--dns", DNS, "--name", name, *flags, "host", "python3", "-c", SERVER)
        wait_until(lambda: self.done("logs", name) == "up\n")

    def ask(self, flags: str, *what: str) -> list[str]:
        return self.done("run", "--rm", "--dns", DNS, *flags.split(), "host", "python3", "-c", ASK, *what).splitlines()

    def ask_from(self, name: str, *what: str) -> list[str]:
        return self.done("exec", name, "python3", "-c", ASK, *what).splitlines()

    def supervisor(self, name: str) -> int:
        states = StateDirectory(os.environ["KIST_RUN_DIR"])
        return states.supervisor(self.done("inspect", "-f", "{{.Id}}", name).strip())


@pytest.fixture
def user(tmp_path: Path, run_dir: Path) -> Iterator[User]:
    (tmp_path / "net").mkdir()
    with internet(tmp_path / "net", True) as net:
        made = User(net)
        yield made
        names = made.kist("ps", "-aq").stdout.split()
        assert not names or made.kist("rm", "-f", *names).returncode == 0
        shutil.rmtree(run_dir / ".network", ignore_errors=True)  # what networks are outlives containers


def test_by_name_in_several_networks(user: User) -> None:
    user.done("network", "create", "--subnet", "10.7.1.0/24", "red")
    user.done("network", "create", "--subnet", "10.7.2.0/24", "--ipv6", "--subnet", "fd07::/64", "blue")
    user.serve("a", "--network", "red", "--network-alias", "web")
    user.serve("b", "--network", "red", "--network", "blue", "--ip", "10.7.1.77")
    places = ("a:80", "web:80", "b:80", "udp:a:80", f"{PYPI}:80")
    assert user.ask("--network red --ip 10.7.1.9", *places) == [
        *["hello 10.7.1.9"] * 3, "ping to 10.7.1.9", f"{PYPI} - -"]  # fmt: skip
    assert user.ask_from("b", "a:80", "b:80", "127.0.0.1:80") == ["hello 10.7.1.77"] * 2 + ["hello 127.0.0.1"]
    found = user.ask("--network blue --ip 10.7.2.9", "b:80", "a:80", "?10.7.1.77:80", f"{PYPI6}:80")
    assert found[:2] == ["hello 10.7.2.9", "gaierror"] and found[3] == f"{PYPI6} - -"
    assert found[2] in ("TimeoutError", "ConnectionResetError")  # the host looks for it in the world
    out = user.done("run", "--rm", "--network", "red", "host", "sh", "-c", "ping -c 1 -W 9 b; getent hosts 10.7.1.77")
    assert " 1 received" in out and out.splitlines()[-1].split() == ["10.7.1.77", "b"]
    assert "10.7.1.77  also in blue" in user.done("network", "graph")
    assert '"IPv4Address": "10.7.2.2/24"' in user.done("network", "inspect", "blue") == user.done("inspect", "blue")
    user.refused("containers are in the network red", "network", "rm", "red")


def test_connected_while_it_runs(user: User) -> None:
    user.done("network", "create", "--subnet", "10.7.1.0/24", "red")
    user.done("network", "create", "--internal", "--subnet", "10.7.2.0/24", "back")
    user.serve("a", "--network", "back")
    user.serve("b", "--network", "red")
    out = f"{PYPI}:80"
    assert user.ask_from("a", out, "b:80") == ["OSError", "gaierror"]
    user.done("network", "connect", "--alias", "other", "red", "a")
    assert user.ask_from("a", out, "b:80", "a:80")[:2] == [f"{PYPI} - -", "hello 10.7.1.3"]
    assert user.ask_from("b", "a:80", "other:80") == ["hello 10.7.1.2"] * 2
    assert user.ask("--network back --ip 10.7.2.9", "a:80", "?10.7.2.2:61054", out) == [
        "hello 10.7.2.9", "TimeoutError", "OSError"]  # fmt: skip
    assert user.done("exec", "a", "tail", "-n1", "/etc/hosts").split()[0] == "10.7.1.3"
    user.done("network", "disconnect", "red", "a")
    assert user.ask_from("a", out, "b:80", "10.7.2.2:80") == [
        "OSError", "gaierror", "hello 10.7.2.2"]  # fmt: skip
    assert len(user.done("network", "reload", "--all").split()) == 2
    user.done("restart", "-t", "0", "b")
    user.done("explain", "b")
    assert user.ask_from("b", f"{PYPI}:80") == [f"{PYPI} - -"]
    user.done("rm", "-f", "a", "b")
    assert user.done("network", "prune", "-f").split()[2:] == ["back", "red"]


def test_started_again_while_its_old_network_is_there(user: User) -> None:
    """The kernel takes it away when it comes to it, and not while anybody has it open."""
    user.done("network", "create", "--subnet", "10.7.1.0/24", "red")
    user.serve("a", "--network", "red", "--ip", "10.7.1.7")
    user.serve("b", "--network", "red")
    with open(f"/proc/{user.done('inspect', '-f', '{{.State.Pid}}', 'a').strip()}/ns/net"):
        user.done("restart", "-t", "0", "a")
        wait_until(lambda: user.done("logs", "a") == "up\n" * 2)
        assert user.ask_from("b", "10.7.1.7:80")[0].startswith("hello 10.7.1.")


def test_published(user: User) -> None:
    """TCP and UDP; answers come from the address that was asked."""
    user.done("network", "create", "red")
    user.serve("a", "--network", "red", "-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1::80/udp")
    where = [f"{kind}{host}:8080" for host in ("127.0.0.1", "127.0.0.5", HOST, "::1") for kind in ("", "udp:")]
    for _ in range(2):
        out = user.net.run(sys.executable, "-c", ASK, *where).stdout.splitlines()
        assert out == ["hello 198.18.0.1", "ping to 198.18.0.1"] * 4
    port = user.done("port", "a").split("127.0.0.1:")[1].split()[0]
    assert user.ask("--network red", f"{HOST}:8080", f"udp:{HOST}:8080", "a:80")[:2] == out[:2]
    assert user.net.run(sys.executable, "-c", ASK, f"udp:127.0.0.1:{port}").stdout == "ping to 198.18.0.1\n"
    user.refused("0.0.0.0:8080/udp is taken", "run", "--network", "red", "-p", "8080:80/udp", "host", "true")
    user.refused("not sctp", "run", "--network", "red", "-p", "8080:80/sctp", "host", "true")


def test_killed_supervisors_leave_nothing(user: User, run_dir: Path) -> None:
    """The first, who made what they share, and then the others."""
    user.done("network", "create", "red")
    for name in ("a", "b"):
        user.serve(name, "--network", "red")
    os.kill(user.supervisor("a"), signal.SIGKILL)
    assert user.ask("--network red", "b:80", "a:80")[0].startswith("hello 10.")
    os.kill(user.supervisor("b"), signal.SIGKILL)
    user.serve("c", "--network", "red")
    assert user.ask_from("c", "c:80", "b:80")[1] == "gaierror"
    user.done("network", "inspect", "red")  # who shows it buries the dead
    with database(StateDirectory(str(run_dir))) as db:
        assert [holder.name for holder in db.holders()] == ["c"]
    links = subprocess.run(
        user.net.argv(sys.executable, "-c", LINKS), capture_output=True, text=True, check=True
    ).stdout.split()  # fmt: skip
    assert len(links) == 3 and links[0] == "lo", links


def test_a_killed_connect_is_finished(user: User) -> None:
    """Whoever is shown as connected is reached; who is not can be."""
    for name in ("red", "blue"):
        user.done("network", "create", name)
    user.serve("a", "--network", "red")
    user.serve("b", "--network", "blue")
    for i in range(12):
        argv = user.net.argv(*KIST, "network", "connect" if i % 2 == 0 else "disconnect", "blue", "a")
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.1 + 0.02 * i)
        process.kill()
        process.wait()
        if '"Name": "a"' not in user.done("network", "inspect", "blue"):
            user.done("network", "connect", "blue", "a")
        assert user.ask_from("b", "a:80")[0].startswith("hello 10."), i


LINKS = """
import os
from kist.engine.state import StateDirectory, run_directory
from kist.kernel.netlink import links
from kist.network.attach import database
from kist.network.shared import find
states = StateDirectory(run_directory(os.environ))
with database(states):
    shared = find(states)
print(*[link.name for link in links(shared.connection)])
shared.close()
"""


def test_many_at_once_find_each_other(user: User) -> None:
    user.done("network", "create", "red")
    flags = ("run", "-d", "--network", "red", "--name")
    argvs = [user.net.argv(*KIST, *flags, f"c{n}", "host", "sleep", "600") for n in range(6)]
    started = [subprocess.Popen(argv, stdout=subprocess.DEVNULL) for argv in argvs]
    assert [process.wait() for process in started] == [0] * 6
    script = "for n in 0 1 2 3 4 5; do ping -c 1 -W 9 c$n >/dev/null || echo $n; done"
    assert user.done("run", "--rm", "--network", "red", "host", "sh", "-c", script) == ""


def test_what_only_root_has_is_refused(user: User) -> None:
    user.refused("no wire of the host's", "network", "create", "-d", "macvlan", "-o", "parent=wan",
                 "--subnet", "10.7.1.0/24", "lan")  # fmt: skip
    user.refused("no network 'red'", "run", "--rm", "--network", "bridge", "--network", "red", "host", "true")
    user.done("network", "create", "red")
    user.refused("has no limit", "run", "--rm", "--network", "red", "--net-rate", "in=1mbit", "host", "true")
    user.done("run", "-d", "--name", "a", "--network", "bridge", "host", "sleep", "600")
    user.refused("can be connected when it does not run", "network", "connect", "red", "a")
    user.done("stop", "a")
    user.done("network", "connect", "red", "a")
    user.done("start", "a")
    assert user.done("exec", "a", "ls", "/sys/class/net").split() == ["eth0", "eth1", "lo"]


def descendants(pid: int) -> list[int]:
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(found for child in children for found in descendants(child))]


def test_pasta(user: User) -> None:
    """Where it is installed and may open /dev/net/tun; else it is said what is missing."""
    if not shutil.which("pasta") or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        user.refused("next: ", "run", "--network", "pasta", "host", "true")
        return
    user.serve("a", "--network", "pasta:--mtu,1400", "-p", "8080:80")
    assert user.net.run(sys.executable, "-c", ASK, f"{HOST}:8080").stdout.startswith("hello ")
    assert user.ask_from("a", f"{PYPI}:80") == [f"{PYPI} - -"]
    assert " mtu 1400 " in user.done("exec", "a", "ip", "link")
    assert "0.0.0.0:8080" in user.done("port", "a")
    user.refused("goes with no other", "network", "connect", "bridge", "a")
    supervisor = user.supervisor("a")
    found = descendants(supervisor)
    assert len(found) >= 4  # the command, who keeps pasta, PID 1 of its namespace, pasta
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not any(map(alive, found)))
    user.refused("unrecognized option", "run", "--network", "pasta:--no-such", "host", "true")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_explained(user: User) -> None:
    user.done("network", "create", "--subnet", "10.7.1.0/24", "red")
    out = user.done("explain", "--format", "script", "--network", "red", "host", "true")
    assert "fd33=/proc/SHARED/ns/net" in out
    assert 'nsenter --net="$fd33" ip link add kist0123456789 master kist-' in out
    assert "ip address add 10.7.1.2/24 dev eth0" in out and "nft add rule inet kist arrived" in out
    user.done("network", "create", "--subnet", "10.7.2.0/24", "blue")
    user.serve("a", "--network", "red")
    out = user.done("explain", "--format", "script", "--network", "red", "host", "true")
    assert "SHARED" not in out and f"fd33=/proc/{user.supervisor('a')}/fd/" in out
    links = ("exec", "a", "ls", "/sys/class/net")
    user.done("network", "connect", "blue", "a")  # makes the bridge
    for verb, seen in (("disconnect", "eth0 lo"), ("connect", "eth0 eth1 lo")):
        script = user.done("explain", "--script", "network", verb, "blue", "a")
        by_hand = user.net.argv("env", f"PATH={os.environ['PATH']}:/usr/sbin:/sbin", "sh")
        done = subprocess.run(by_hand, input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + script
        assert " ".join(user.done(*links).split()) == seen
        if verb == "disconnect":
            user.done("network", "disconnect", "--force", "blue", "a")
    assert user.ask("--network blue --ip 10.7.2.9", "10.7.2.3:80")[0].startswith("hello ")


def test_killed_at_every_step(user: User, tmp_path: Path, rootfs: Path) -> None:
    user.done("network", "create", "red")
    program = Path(__file__).parents[1] / "shared_steps.py"
    argv = user.net.argv(sys.executable, str(program), str(rootfs), "red")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 15


def test_many_connects_at_once(user: User, run_dir: Path) -> None:
    """And as many disconnects, some of them killed."""
    boxes = 10 if os.environ.get("KIST_LONG") else 4
    pairs = [(f"n{m}", f"c{n}") for n in range(boxes) for m in range(5)]
    for network in sorted({network for network, _ in pairs}):
        user.done("network", "create", network)
    user.done("network", "create", "first")
    names = sorted({name for _, name in pairs})
    for name in names:
        user.done("run", "-d", "--name", name, "--network", "first", "host", "sleep", "600")

    def at_once(verb: str, killed: int) -> list[int]:
        argvs = [user.net.argv(*KIST, "network", verb, *pair) for pair in pairs]
        started = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for argv in argvs]
        for process in started[:killed]:
            process.kill()
        for process in started:
            assert "Traceback" not in process.communicate(timeout=120)[1]
        return [process.returncode for process in started]

    def cables() -> list[str]:
        argv = user.net.argv(sys.executable, "-c", LINKS)
        found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
        return [link for link in found if link != "lo" and "-" not in link]

    states = StateDirectory(str(run_dir))
    assert set(at_once("connect", 0)) == {0}
    assert len(cables()) == len(pairs) + boxes
    assert set(at_once("disconnect", 0)) == {0}
    wait_until(lambda: len(cables()) == boxes)
    at_once("connect", len(pairs) // 2)
    at_once("disconnect", len(pairs) // 2)
    user.done("rm", "-f", *names)
    with database(states) as db:
        db.bury_dead()
        assert db.holders() == []
    assert list(relays(str(run_dir))) == []
