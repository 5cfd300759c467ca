"""--allow-net: every way around it is blocked and logged. As root, and as an ordinary user."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import ROOT, kist
from internet import DNS, EVIL, FILES, HOST, LAN, METADATA, PYPI, SECOND, internet, missing, relays

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
NAMES = "pypi.test, *.pythonhosted.test, files.pythonhosted.test:22/tcp, meta.test, me.test, lan.test, "
NAMES += "second.test, shared.test, zero.test, loop.test, mapped.test, gateway.test, turns.test"
RUN = """
import json, sys
import kist
result = kist.run(["python3", "-c", open(sys.argv[1]).read()], allow_net=sys.argv[2], dns=sys.argv[3],
                  cap_add=["NET_ADMIN", "NET_RAW"], timeout=120)
denied = [[d.protocol, d.address, d.port, d.name, d.reason] for d in result.denied]
print(json.dumps([result.returncode, result.stdout, result.stderr, denied]))
"""


class Outcome:
    def __init__(self, answer: str, heard: list[str]) -> None:
        code, out, err, self.denied = json.loads(answer)
        assert code == 0, err
        self.came, self.heard = json.loads(out), heard


@pytest.fixture(scope="module", params=["root", "user"] if ROOT else ["user"])
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    directory = tmp_path_factory.mktemp("egress")
    (directory / "run").mkdir(mode=0o700)
    places = {"KIST_RUN_DIR": str(directory / "run"), "KIST_DATA_DIR": str(directory / "data")}
    with internet(directory, request.param == "user") as net:
        script = Path(__file__).with_name("egress_attempts.py")
        done = net.run(
            sys.executable, "-c", RUN, str(script), f"{NAMES}, 10.9.0.0/16:5432", DNS, env={**os.environ, **places}
        )
        assert done.returncode == 0, done.stderr
        yield Outcome(done.stdout, net.heard())
    assert not [path for path in (directory / "run").iterdir() if path.name != ".network"]


WELL = {
    "allowed": f"HTTP/1.0 200 OK|{PYPI} pypi.test -", "allowed, split": "record 22",
    "allowed http": f"{PYPI} - PyPI.test:80", "allowed address": f"hello from {LAN}",
    "allowed plain": f"hello from {FILES}",
}  # fmt: skip
NOT, THERE = "the address is not on the list", "only TCP goes out"
# What is denied: protocol, address, port, name, reason. None: the attempt is no connection to be denied.
DENIED = {
    "direct IP": ("tcp", EVIL, 443, "", NOT),
    "direct IP of an allowed name": ("tcp", PYPI, 443, "", NOT),
    "other name": ("dns", "", 0, "evil.test", "not on the list"),
    "other name server": ("udp", EVIL, 53, "", "another name server"),
    "other name server, TCP": ("tcp", DNS, 53, "", NOT),
    "DoH by address": ("tcp", DNS, 443, "", NOT),
    "DoH by name": ("dns", "", 0, "dns.test", "not on the list"),
    "DoT": ("tcp", DNS, 853, "", NOT),
    "DoT at an allowed name": ("tcp", "", 853, "pypi.test", "not at this port"),
    "QUIC": ("udp", None, 443, "", THERE),
    "wrong SNI": ("tcp", "", 443, "pypi.test", "TLS for evil.test"),
    "wrong SNI, split": ("tcp", "", 443, "pypi.test", "TLS for evil.test"),
    "SNI of a neighbour": ("tcp", "", 443, "pypi.test", "TLS for neighbour.test"),
    "no SNI": ("tcp", "", 443, "pypi.test", "a ClientHello without a server name"),
    "no TLS": ("tcp", "", 443, "pypi.test", "neither TLS nor HTTP to the server itself"),
    "Host mismatch": ("tcp", "", 80, "pypi.test", "HTTP for evil.test"),
    "no Host": ("tcp", "", 80, "pypi.test", "an HTTP request without a Host"),
    "two Hosts": ("tcp", "", 80, "pypi.test", "two Hosts"),
    "a Host of two lines": ("tcp", "", 80, "pypi.test", "a malformed Host"),
    "proxy's request": ("tcp", "", 80, "pypi.test", "neither TLS nor HTTP to the server itself"),
    "CONNECT": ("tcp", "", 80, "pypi.test", "neither TLS nor HTTP to the server itself"),
    "IPv6": ("tcp", "2001:db8::10", 443, "", NOT),
    "IPv6 datagram": ("udp", "2001:db8::10", 443, "", THERE),
    "raw TCP": ("tcp", EVIL, 443, "", None),
    "raw protocol": ("47", EVIL, 0, "", THERE),
    "injected": ("udp", EVIL, 5555, "", THERE),
    "ICMP": ("icmp", EVIL, 0, "", THERE),
    "vsock": None,
    "vsock, 32 bits": None,
    "vsock, socketcall": None,
    "qrtr": None,
    "mapped address": ("tcp", EVIL, 443, "", NOT),
    "SNI with a dot": ("tcp", "", 443, "pypi.test", "TLS for pypi.test."),
    "second request": ("tcp", "", 80, "pypi.test", "HTTP for second.evil.test"),
    "behind a body": ("tcp", "", 80, "pypi.test", "HTTP for body.evil.test"),
    "behind chunks": ("tcp", "", 80, "pypi.test", "HTTP for chunks.evil.test"),
    "two lengths": ("tcp", "", 80, "pypi.test", "an HTTP request of doubtful length"),
    "h2c": ("tcp", "", 80, "files.pythonhosted.test", "neither TLS nor HTTP to the server itself"),
    "host by its second address": ("tcp", SECOND, 80, "second.test", "the name leads to this host"),
    "host by routers' address": ("tcp", "2001:db8::", 80, "shared.test", "the name leads to this host"),
    "a name of 0.0.0.0": ("tcp", "0.0.0.0", 80, "zero.test", "the name leads to this host"),
    "a name of loopback": ("tcp", "127.0.0.1", 80, "loop.test", "the name leads to this host"),
    "a name of a mapped address": ("tcp", LAN, 80, "mapped.test", "the name leads to a private address"),
    "a name of a bridge": ("tcp", "10.112.0.1", 80, "gateway.test", "the name leads to a private address"),
    "a name that turns": ("tcp", LAN, 80, "turns.test", "the name leads to a private address"),
    "metadata": ("tcp", METADATA, 80, "", NOT),
    "metadata by name": ("tcp", METADATA, 80, "meta.test", "the name leads to a private address"),
    "host": ("tcp", HOST, 80, "", NOT),
    "host by name": ("tcp", HOST, 80, "me.test", "the name leads to this host"),
    "LAN": ("tcp", LAN, 80, "", NOT),
    "LAN by name": ("tcp", LAN, 80, "lan.test", "the name leads to a private address"),
    "the relay itself": ("tcp", "127.0.0.1", 61054, "", NOT),
    "long name": ("dns", "", 0, ".".join(["a" * 60] * 3) + ".evil.test", "not on the list"),
    "long name below an allowed one": ("dns", "", 0, "a" * 40 + "." + "b" * 40 + ".pythonhosted.test",
                                       "too long for a rule with *"),
    "many names": ("dns", "", 0, None, "too many names in a short time"),
    "other routes": ("tcp", EVIL, 443, "", NOT),
    "other rules": ("tcp", EVIL, 4430, "", NOT),
}  # fmt: skip


@pytest.mark.parametrize("name", WELL)
def test_what_is_on_the_list(outcome: Outcome, name: str) -> None:
    for words in WELL[name].split("|"):
        assert words in outcome.came[name]


@pytest.mark.parametrize("name", DENIED)
def test_blocked_and_logged(outcome: Outcome, name: str) -> None:
    came, expected = outcome.came[name], DENIED[name]
    assert came.startswith("failed: ") or came in ("0 answers", "the end", "sent"), came
    if expected:
        same = [d for d in outcome.denied if all(e is None or e == word for e, word in zip(expected, d, strict=True))]
        assert same, (came, outcome.denied)


def test_nothing_else_arrived_in_the_world(outcome: Outcome) -> None:
    to = {line for line in outcome.heard if line.startswith("packet ")}
    allowed = {f"packet 17 {DNS} 53", f"packet 6 {LAN} 5432", f"packet 6 {FILES} 22", f"packet 6 {FILES} 80"}
    assert to == allowed | {f"packet 6 {PYPI} {port}" for port in (80, 443)}
    spoken = {line for line in outcome.heard if line.split()[0] in ("tls", "http")}
    hosts = ("PyPI.test:80", "pypi.test", "turns.test")
    assert spoken == {
        f"tls {PYPI} pypi.test",
        f"http {FILES} files.pythonhosted.test",
        *[f"http {PYPI} {host}" for host in hosts],
    }
    names = [line.split()[1] for line in outcome.heard if line.startswith("dns ")]
    below = [name for name in names if name.endswith(".pythonhosted.test")]
    assert {*names} - {*below} == {name.strip() for name in NAMES.split(",") if "python" not in name}
    assert len(below) < 60  # of 150 that were asked for


def test_other_kinds_of_questions_have_no_answer(outcome: Outcome) -> None:
    assert outcome.came["TXT"] == "0 answers"


REFUSED = {
    "--privileged": "contradicts", "--network bridge": "contradicts",
    "--pid host --cap-add SYS_ADMIN": "contradicts", "--security-opt seccomp=unconfined": "vsock",
    "--without seccomp": "vsock",
}  # fmt: skip
REFUSED_TO_ROOT = {
    "--pid host": "trace",
    "--without pidns": "trace",
    "--cap-add SYS_ADMIN": "SYS_ADMIN",
    "--cap-add ALL": "SYS_MODULE",
    "--without caps": "SYS_RAWIO",
}


@pytest.mark.parametrize("flags", [*REFUSED, *(REFUSED_TO_ROOT if ROOT else ())])
def test_what_could_enter_the_hosts_network_is_refused(flags: str) -> None:
    done = kist("explain", "--allow-net", "pypi.test", *flags.split(), "host", "true")
    assert done.returncode == 125 and (REFUSED | REFUSED_TO_ROOT)[flags] in done.stderr


def test_the_relay_has_no_powers(run_dir: Path) -> None:
    """And without it nothing goes out."""
    box = ("--name", "box", "--allow-net", "*", "host", "sleep", "600")
    assert kist("run", "-d", *box).returncode == 0
    try:
        ((relay,),) = relays(str(run_dir)).values()
        process = Path(f"/proc/{relay}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
        if ROOT:
            assert {*status["Uid"].split(), *status["Gid"].split()} == {"65534"} and not status["Groups"].strip()
            kinds = {os.readlink(fd).split(":")[0] for fd in (process / "fd").iterdir()}
            log = [kind for kind in kinds if kind.endswith("/net")]
            assert kinds == {"/dev/null", "socket", "anon_inode", *log} and len(log) == 1
        os.kill(relay, signal.SIGKILL)
        done = kist("exec", "box", "python3", "-c", "import socket; socket.create_connection(('203.0.113.10', 443), 5)")
        assert done.returncode == 1 and "rror" in done.stderr
        if ROOT:
            done = kist("exec", "--privileged", "box", "true")
            assert done.returncode and "--allow-net" in done.stderr
    finally:
        assert kist("rm", "-f", "box").returncode == 0
