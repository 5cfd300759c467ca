"""An "internet" for tests of --allow-net: two network namespaces, a host's and the world's, and a cable between them.

As a program (`python internet.py DIRECTORY`, with capabilities in a user namespace or as root) it makes the world and
serves in it until its standard input ends. What arrives there it writes to DIRECTORY/heard: `dns NAME`, `tls ADDRESS
SNI`, `http ADDRESS HOST`, and of each packet `packet PROTOCOL ADDRESS PORT`.
"""

import ctypes
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DNS, PYPI, FILES, EVIL, HOST, SECOND = (f"203.0.113.{n}" for n in (53, 10, 11, 66, 2, 3))
PYPI6, LAN, METADATA = "2001:db8::10", "10.9.8.7", "169.254.169.254"
ZONE = {
    "pypi.test": PYPI, "files.pythonhosted.test": FILES, "a.b.pythonhosted.test": FILES, "evil.test": EVIL,
    "neighbour.test": PYPI, "lan.test": LAN, "meta.test": METADATA, "me.test": HOST, "six.test": PYPI6,
    "second.test": SECOND, "shared.test": "2001:db8::", "zero.test": "0.0.0.0", "loop.test": "127.0.0.1",
    "mapped.test": f"::ffff:{LAN}", "gateway.test": "10.112.0.1",
}  # fmt: skip
WORLD = [f"{a}/24" for a in ("203.0.113.1", DNS, PYPI, FILES, EVIL)] + [f"{LAN}/24", f"{METADATA}/32", f"{PYPI6}/64"]
ORDINARY = 1000


class Internet:
    """As the tests see it. `user`: programs on the "host" are an ordinary user's."""

    def __init__(self, directory: Path, user: bool) -> None:
        self.directory, self._user = directory, user
        self._heard = directory / "heard"
        self._heard.touch()
        self.ca = directory / "ca.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                   "-days", "2", "-subj", "/CN=internet", "-addext", "subjectAltName=DNS:pypi.test,DNS:evil.test,"
                   "DNS:*.pythonhosted.test,DNS:neighbour.test,DNS:six.test,DNS:dns.test", "-keyout",
                   directory / "key.pem", "-out", self.ca]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
        ids = [f"--map-user={ORDINARY if os.geteuid() == 0 else os.geteuid()}",
               f"--map-group={ORDINARY if os.geteuid() == 0 else os.getegid()}"]  # fmt: skip
        unshare = ["unshare", "--net", *(["--user", *ids, "--keep-caps"] if user else [])]
        self._process = subprocess.Popen(
            [*unshare, sys.executable, __file__, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the internet did not start")

    def argv(self, *command: str) -> list[str]:
        into = ["--user", "--preserve-credentials"] if self._user else []
        return ["nsenter", "--target", str(self._process.pid), "--net", *into, *command]

    def run(self, *command: str, **kwargs) -> subprocess.CompletedProcess[str]:
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.argv(*command), capture_output=True, text=True, timeout=60, **kwargs)

    def heard(self) -> list[str]:
        """What arrived in the world since the last time."""
        found = self._heard.read_text().splitlines()
        os.truncate(self._heard, 0)
        return found

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


@contextmanager
def internet(directory: Path, user: bool) -> Iterator[Internet]:
    made = Internet(directory, user)
    try:
        yield made
    finally:
        made.close()


def relays(run_dir: str) -> dict[int, list[int]]:
    """By number: supervisors in that run directory, and the processes of their relays."""
    found: dict[int, list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() != "kist net\n":
                continue
            parent = int((process / "stat").read_text().rsplit(") ", 1)[1].split()[1])
            if f"KIST_RUN_DIR={run_dir}".encode() in Path(f"/proc/{parent}/environ").read_bytes():
                found.setdefault(parent, []).append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def missing() -> str:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in ("ip", "nft", "openssl", "nsenter", "unshare") if not shutil.which(name, path=path)]
    return f"needs {', '.join(absent)}" if absent else ""


# --- in the namespaces


class _World:
    def __init__(self, directory: Path) -> None:
        self._heard = os.open(directory / "heard", os.O_WRONLY | os.O_APPEND)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(directory / "ca.pem", directory / "key.pem")
        self._names, self._turns = threading.local(), 0
        self._tls.sni_callback = lambda _, name, __: setattr(self._names, "sni", name or "-")
        for port in (22, 80, 443, 853, 5432, 8443):
            listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
            self._start(self._serve, listener, port)
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind((DNS, 53))
        self._start(self._answer, datagrams)
        for family, address in ((socket.AF_INET, PYPI), (socket.AF_INET6, PYPI6)):
            echo = socket.socket(family, socket.SOCK_DGRAM)
            echo.bind((address, 7))
            self._start(self._echo, echo)
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        packets.bind(("world", 3))
        self._start(self._watch, packets)

    def _start(self, work, *arguments) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _note(self, *words: object) -> None:
        os.write(self._heard, (" ".join(map(str, words)) + "\n").encode())

    def _serve(self, listener: socket.socket, port: int) -> None:
        while True:
            client, _ = listener.accept()
            self._start(self._one, client, port)

    def _one(self, client: socket.socket, port: int) -> None:
        """Says which name it was asked for, and at which address."""
        at = client.getsockname()[0].removeprefix("::ffff:")
        try:
            with client:
                if port in (22, 5432):
                    client.sendall(f"hello from {at}\n".encode())
                    client.sendall(client.recv(100))
                    return
                sni = "-"
                if port != 80:
                    client = self._tls.wrap_socket(client, server_side=True)
                    sni = self._names.sni
                    self._note("tls", at, sni)
                asked = client.makefile("rb")
                first, host = asked.readline().decode().split(), "-"
                for line in iter(asked.readline, b"\r\n"):
                    if line.lower().startswith(b"host:"):
                        host = line[5:].strip().decode()
                if port == 80:
                    self._note("http", at, host)
                body = self._page(first[1]) or f"{at} {sni} {host}\n".encode()
                head = f"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body)
        except (OSError, IndexError):
            pass

    def _page(self, path: str) -> bytes:
        """A file of DIRECTORY/pages."""
        file = Path(sys.argv[1]) / "pages" / path.strip("/")
        if path != "/" and file.is_dir():
            file /= "index.html"
        return file.read_bytes() if file.is_file() else b""

    def _echo(self, datagrams: socket.socket) -> None:
        while True:
            data, client = datagrams.recvfrom(65536)
            datagrams.sendto(data, client)

    def _answer(self, datagrams: socket.socket) -> None:
        while True:
            asked, client = datagrams.recvfrom(4096)
            labels, at = [], 12
            while asked[at]:
                labels.append(asked[at + 1 : at + 1 + asked[at]].decode("ascii", "replace"))
                at += 1 + asked[at]
            end, name = at + 5, ".".join(labels)
            (kind,) = struct.unpack(">H", asked[at + 1 : at + 3])
            self._note("dns", name)
            address = ZONE.get(name, "")
            if name == "turns.test":  # where it leads changes whenever it is asked for
                self._turns += kind == 1
                address = (PYPI, LAN)[self._turns > 1]
            data = b""
            if address and kind == (28 if ":" in address else 1):
                data = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            record = (
                b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60 if name in ZONE else 0, len(data)) + data
                if data
                else b""
            )
            head = struct.pack(">HHHHH", 0x8180 | (0 if address else 3), 1, bool(data), 0, 0)
            datagrams.sendto(asked[:2] + head + asked[12:end] + record, client)

    def _watch(self, packets: socket.socket) -> None:
        while True:
            p, (_, kind, direction, *_) = packets.recvfrom(2048)
            if direction == 4 or kind not in (0x800, 0x86DD):  # our own
                continue
            four = kind == 0x800
            protocol, head = (p[9], (p[0] & 15) * 4) if four else (p[6], 40)
            to = socket.inet_ntop(*((socket.AF_INET, p[16:20]) if four else (socket.AF_INET6, p[24:40])))
            port = struct.unpack(">H", p[head + 2 : head + 4])[0] if protocol in (6, 17) else 0
            if to.startswith("ff02:") or protocol == 58:  # neighbours find each other
                continue
            self._note("packet", protocol, to, port)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def main() -> None:
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    libc = ctypes.CDLL(None, use_errno=True)
    _ip("link", "set", "lo", "up")
    host = os.open("/proc/self/ns/net", os.O_RDONLY)
    there_r, there_w = os.pipe()
    ready_r, ready_w = os.pipe()
    if not (child := os.fork()):
        libc.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
        assert libc.unshare(0x40000000) == 0  # CLONE_NEWNET
        _ip("link", "set", "lo", "up")
        os.write(there_w, b".")
        os.read(ready_r, 1)
        for address in WORLD:
            _ip("address", "add", address, "dev", "world", *(["nodad"] if ":" in address else []))
        _ip("link", "set", "world", "up")
        world = _World(Path(sys.argv[1]))
        os.write(there_w, b".")
        sys.stdin.read()
        del world
        os._exit(0)
    os.read(there_r, 1)
    _ip("link", "add", "wan", "type", "veth", "peer", "name", "world", "netns", str(child))
    with open("/proc/sys/net/ipv6/conf/all/forwarding", "w") as file:  # 2001:db8:: is any router's
        file.write("1")
    for address in (f"{HOST}/24", f"{SECOND}/24", "2001:db8::2/64"):
        _ip("address", "add", address, "dev", "wan", *(["nodad"] if ":" in address else []))
    _ip("link", "set", "wan", "up")
    os.write(ready_w, b".")
    os.read(there_r, 1)
    _ip("route", "add", "default", "via", "203.0.113.1")
    os.close(host)
    print("ready", flush=True)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
