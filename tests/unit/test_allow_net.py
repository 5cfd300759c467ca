"""--allow-net: what people write, what the launcher makes of it, and what it sees in a connection's first bytes."""

import os
import ssl
import subprocess
import sys
from ipaddress import ip_address
from struct import pack

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../fuzz"))

from decoder import HERE, LAUNCHER, Unavailable, compiled

from kist.engine.denials import Denial, parse, text
from kist.errors import InvalidInput
from kist.plan.egress import allow_net, encoded, words

MANY = 100 if os.environ.get("KIST_LONG") else 1


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The launcher's own readers, with sanitizers."""
    sources = [f"{LAUNCHER}/{name}.c" for name in ("sniff", "names", "policy")]
    try:
        return compiled(str(tmp_path_factory.mktemp("relay")), "relay", f"{HERE}/relay.c", *sources)
    except Unavailable as e:
        pytest.skip(str(e))


@pytest.mark.parametrize(
    ("asked", "rules"),
    [
        ("pypi.org", "pypi.org:80 pypi.org:443"),
        ("PyPI.org.:443", "pypi.org:443"),
        (" *.example.org:8000-8100 ,, a_b.c:*", "*.example.org:8000-8100 a_b.c:*"),
        ("github.com:22/tcp", "github.com:22/tcp"),
        ("*", "*:80 *:443"),
        ("10.1.0.0/16:5432", "10.1.0.0/16:5432"),
        ("192.0.2.1", "192.0.2.1:80 192.0.2.1:443"),
        ("[2001:db8::1]:443, 2001:db8::/32", "[2001:db8::1]:443 [2001:db8::/32]:80 [2001:db8::/32]:443"),
        ("", ""),
    ],
)
def test_rules(asked: str, rules: str) -> None:
    found = allow_net("--allow-net", asked)
    assert " ".join(map(words, found)) == rules
    assert allow_net("--allow-net", ",".join(map(words, found))) == found


@pytest.mark.parametrize("asked", ["a..b", "*a.b", "a.*", "a b", "ä.org", "x" * 64 + ".org", "a:", "a:0", "a:70000",
                                   "a:2-1", "a:1-", "10.1.0.1/16", "10.1:80", "127.0.0.1:80", "[::1]", "[::2",
                                   "[::2]80", ".", "10.0.0.1:80/tcp", "https://a.org", "1.2.3.4.5"])  # fmt: skip
def test_what_is_no_rule(asked: str) -> None:
    with pytest.raises(InvalidInput, match="--allow-net"):
        allow_net("--allow-net", asked)


def _leads(relay: str, rules: str, *where: str) -> str:
    argv = [relay, "rules", *encoded(allow_net("--allow-net", rules)), "--", *where]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("rules", "to", "verdict"),
    [
        ("10.1.0.0/16:5432", "10.1.2.3", "special allowed"),
        ("10.1.0.0/16:1", "10.1.2.3", "special denied"),
        ("10.1.0.0/16:5432", "10.2.2.3", "special denied"),
        ("0.0.0.0/0:*", "203.0.113.9", "public allowed"),
        ("0.0.0.0/0:*, [::/0]:*", "10.1.2.3", "special denied"),
        ("0.0.0.0/0:*, [::/0]:*", "169.254.169.254", "special denied"),
        ("169.254.0.0/16:*", "169.254.169.254", "special denied"),
        ("169.254.169.254:*", "169.254.169.254", "special allowed"),
        ("100.64.0.0/10:*, 192.0.0.0/24:*", "100.100.100.200", "special denied"),
        ("0.0.0.0/0:*", "168.63.129.16", "special denied"),
        ("[fd00::/8]:*", "fd00:ec2::254", "special denied"),
        ("[fd00:ec2::254]:*", "fd00:ec2::254", "special allowed"),
        ("[::/0]:*", "203.0.113.9", "public denied"),
        ("[::/0]:*", "2001:db8::1", "public allowed"),
        ("[::/0]:*", "64:ff9b::a01:203", "special denied"),
        ("[::/0]:*", "64:ff9b::cb00:7109", "public allowed"),
        ("[::/0]:*", "2002:a01:203::1", "special denied"),
        ("[::/0]:*", "::a01:203", "special denied"),
        ("[::/0]:*", "fe80::1", "special denied"),
        ("0.0.0.0/0:*", "198.18.1.1", "special denied"),
        ("[2000::/3]:*", "2001::1", "special denied"),
    ],
)
def test_where_rules_of_addresses_lead(relay: str, rules: str, to: str, verdict: str) -> None:
    address = ip_address(to)
    packed = address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed
    assert _leads(relay, rules, packed.hex(), "5432", "0").split(" ", 1)[1] == verdict
    own = _leads(relay, rules, packed.hex(), "5432", "1").rsplit(" ", 1)[1]
    assert own == ("allowed" if "allowed" in verdict and "/" not in rules else "denied")


@pytest.mark.parametrize(
    ("rules", "name", "verdict"),
    [
        ("pypi.org:443", "pypi.org", "named"),
        ("pypi.org:80", "pypi.org", "other port"),
        ("pypi.org:443", "a.pypi.org", "unknown"),
        ("*.pypi.org:443", "a.b.pypi.org", "named"),
        ("*.pypi.org:443", "pypi.org", "unknown"),
        ("*.pypi.org:443", "evilpypi.org", "unknown"),
        ("*.pypi.org:443", ".pypi.org", "unknown"),
        ("*:*, pypi.org:443/tcp", "pypi.org", "plain"),
        ("*:*, pypi.org:443/tcp", "x.org", "named"),
    ],
)
def test_where_rules_of_names_lead(relay: str, rules: str, name: str, verdict: str) -> None:
    assert _leads(relay, rules, name, "443") == verdict


def _hello(name: str | None, **options) -> bytes:
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl._create_unverified_context()
    if "most" in options:
        context.maximum_version = options["most"]
    if "alpn" in options:
        context.set_alpn_protocols(options["alpn"])
    try:
        context.wrap_bio(into, out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def _records(hello: bytes, size: int) -> bytes:
    parts = [hello[5:][i : i + size] for i in range(0, len(hello) - 5, size)]
    return b"".join(b"\x16\3\1" + pack(">H", len(part)) + part for part in parts)


def _minimal(*extensions: bytes) -> bytes:
    found = b"".join(extensions)
    body = b"\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0" + pack(">H", len(found)) + found
    return b"\x16\3\1" + pack(">H", len(body) + 4) + b"\1" + pack(">I", len(body))[1:] + body


def _server_name(name: bytes) -> bytes:
    return pack(">HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name


def _request(host: str, *fields: str, version: str = "1.1") -> bytes:
    return "\r\n".join((f"POST / HTTP/{version}", f"Host: {host}", *fields, "", "")).encode()


NAMED = _hello("pypi.org")
SEEN = {
    "a ClientHello": (NAMED, "pypi.org"),
    "of TLS 1.2": (_hello("pypi.org", most=ssl.TLSVersion.TLSv1_2), "pypi.org"),
    "a long one": (_hello("pypi.org", alpn=[f"{n:0100}" for n in range(90)]), "pypi.org"),
    "in records of one byte": (_records(NAMED, 1), "pypi.org"),
    "with what comes behind": (NAMED + b"\x14\3\3\0\1\1\x17\3\3\0\5early", "pypi.org"),
    "in capitals": (NAMED.replace(b"pypi.org", b"PyPI.Org"), "pypi.org"),
    "a part of one": (NAMED[:100], "more"),
    "without a name": (_hello(None), "a ClientHello without a server name"),
    "the least": (_minimal(_server_name(b"pypi.org")), "pypi.org"),
    "two names": (_minimal(_server_name(b"pypi.org"), _server_name(b"evil.org")), "two server names"),
    "an empty name": (_minimal(_server_name(b"")), "a malformed server name"),
    "an extension that is cut": (_minimal(_server_name(b"pypi.org"), b"\0\x2b\0\3\2"), "a malformed ClientHello"),
    "with a NUL": (NAMED.replace(b"pypi.org", b"pypi\0org"), "a malformed server name"),
    "of another kind": (NAMED.replace(b"\0\0\x08pypi.org", b"\1\0\x08pypi.org"), "a malformed server name"),
    "no ClientHello": (b"\x16\3\1\0\5\2\0\0\1x", "no ClientHello"),
    "an alert between": (_records(NAMED, 50).replace(b"\x16\3\1\0\x32", b"\x15\3\1\0\x32"), "neither TLS nor HTTP"),
    "too long": (b"\x16\3\1\x40\0\1\1\0\0" + bytes(16380), "a ClientHello that is too long"),
    "SSL 2": (b"\x80\x2e\1\3\1" + bytes(40), "neither TLS nor HTTP"),
    "HTTP": (b"GET /a?b HTTP/1.1\r\nAccept: */*\r\nhost:\t PyPI.org:8080 \r\n\r\n", "pypi.org:8080"),
    "HTTP without an end": (b"GET / HTTP/1.1\r\nHost: pypi.org\r\n", "more"),
    "a bare line feed": (b"GET / HTTP/1.1\r\nHost: pypi.org\n\r\n\r\n", "a malformed HTTP request"),
    "a bare carriage return": (b"GET / HTTP/1.1\r\nHost: a\rHost: b\r\n\r\n", "a malformed HTTP request"),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : pypi.org\r\n\r\n", "a malformed HTTP request"),
    "a line that goes on": (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "a malformed HTTP request"),
    "a user": (b"GET / HTTP/1.1\r\nHost: pypi.org@evil.org\r\n\r\n", "a malformed Host"),
    "a port of letters": (b"GET / HTTP/1.1\r\nHost: pypi.org:x\r\n\r\n", "a malformed Host"),
    "an empty port": (b"GET / HTTP/1.1\r\nHost: pypi.org:\r\n\r\n", "a malformed Host"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "neither TLS nor HTTP to the server itself"),
    "HTTP/0.9": (b"GET /\r\n", "neither TLS nor HTTP to the server itself"),
    "two requests": (_request("pypi.org") + _request("evil.org"), "pypi.org evil.org"),
    "a request after a body": (_request("a.org", "Content-Length: 4") + b"GET " + _request("b.org"), "a.org b.org"),
    "a request in a body": (_request("a.org", "Content-Length: 99") + _request("b.org"), "a.org"),
    "chunks": (
        _request("a", "Transfer-Encoding: chunked") + b"4\r\nGET \r\nA\r\n0\r\n\r\n56789\r\n0\r\n\r\n" + _request("b"),
        "a . . . . . b",
    ),
    "a chunk with words": (_request("a", "Transfer-Encoding: chunked") + b"4;a=b\r\n", "a a malformed chunk"),
    "a chunk too long": (_request("a", "Transfer-Encoding: chunked") + b"0" * 13 + b"\r\n", "a a malformed chunk"),
    "a chunk that ends later": (_request("a", "Transfer-Encoding: chunked") + b"1\r\nab", "a . a malformed chunk"),
    "trailers": (_request("a", "Transfer-Encoding: chunked") + b"0\r\nHost: b\r\n\r\n", "a a malformed chunk"),
    "a part of a chunk": (_request("a", "Transfer-Encoding: chunked") + b"0\r\n", "a more"),
    **{
        f"no clear end, {i}": (_request("a", *fields, version=version), "an HTTP request of doubtful length")
        for i, (version, *fields) in enumerate(
            (
                ("1.1", "Content-Length: 1", "Content-Length: 1"),
                ("1.1", "Content-Length: +1"),
                ("1.1", "Content-Length: 1, 1"),
                ("1.1", "Content-Length:"),
                ("1.1", "Content-Length: 0x10"),
                ("1.1", "Content-Length: 1", "Transfer-Encoding: chunked"),
                ("1.0", "Transfer-Encoding: chunked"),
                ("1.1", "Transfer-Encoding: gzip, chunked"),
                ("1.1", "Transfer-Encoding: identity"),
                ("1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
            )
        )
    },
    "another protocol": (
        _request("a", "Upgrade: h2c") + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a neither TLS nor HTTP to the server itself",
    ),
    "TLS behind HTTP": (_request("a") + NAMED, "a pypi.org"),
    "an endless head": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000, "an HTTP request whose head is too long"),
}


@pytest.mark.parametrize("what", SEEN)
def test_what_the_first_bytes_say(relay: str, what: str) -> None:
    data, verdict = SEEN[what]
    done = subprocess.run([relay, "ask"], input=data, capture_output=True, check=True)
    assert done.stdout.decode() == verdict


def test_any_bytes(relay: str) -> None:
    """Sanitizers and relay.c's own demands end it otherwise."""
    rounds = 40_000 * MANY
    done = subprocess.run([relay, str(rounds)], capture_output=True, text=True, check=True)
    assert rounds // 4 < int(done.stdout) < rounds


def test_denials_as_they_are_shown() -> None:
    time = "2026-11-26T11:37:29.123456789Z"
    lines = (
        f"{time} tcp 2001:0db8:0000:0000:0000:0000:0000:0001 443 - not on it\n{time} dns - 0 evil.org a b\n{time} ud"
    )
    found = parse(lines.encode())
    assert found == (
        Denial(time, "tcp", "2001:db8::1", 443, "", "not on it"),
        Denial(time, "dns", "", 0, "evil.org", "a b"),
    )
    assert [text(denial) for denial in found] == [
        f"{time} tcp [2001:db8::1]:443: not on it", f"{time} dns evil.org: a b"
    ]  # fmt: skip
