"""Beside dockerd, podman, firewalld and ufw, each in a network namespace of its own: containers reach out, are reached
and talk, whatever the others drop; and what is theirs is byte for byte the same after kist has left."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containers import KIST, needs_root
from machine import Machine, machine, wait_until
from traffic import CLIENT, SERVER, ask, outside, server

__all__ = ["machine", "outside"]
pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("nft"), reason="needs nft: apt-get install nftables")]

Reload = Callable[[], object]  # what it does now and then; its rules are the same each time


def needs(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"needs {program}: tests/packages")


@contextmanager
def daemon(machine: Machine, log: Path, *argv: str, **environ: str) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            machine.argv("env", *[f"{k}={v}" for k, v in environ.items()], *argv),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def works(machine: Machine, *argv: str) -> bool:
    return subprocess.run(machine.argv(*argv), capture_output=True, timeout=60).returncode == 0


@contextmanager
def dockerd(machine: Machine, directory: Path) -> Iterator[Reload]:
    """Without forwarding before, dockerd sets the policy of FORWARD to DROP."""
    needs("dockerd", "iptables")
    socket = f"unix://{directory}/socket"
    argv = (
        "dockerd", "-H", socket, "--data-root", f"{directory}/data", "--exec-root", f"{directory}/run",
        "--pidfile", f"{directory}/pid", "--storage-driver", "vfs",
    )  # fmt: skip
    machine.command("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    docker = ("docker", "-H", socket)

    def change() -> None:
        """It puts its rules at the beginning again."""
        machine.command(*docker, "network", "create", "other")
        machine.command(*docker, "network", "rm", "other")

    with daemon(machine, directory / "log", *argv):
        wait_until(lambda: works(machine, *docker, "version"))
        assert "-P FORWARD DROP" in machine.command("iptables", "-S", "FORWARD")
        yield change


@contextmanager
def firewalld(machine: Machine, directory: Path) -> Iterator[Reload]:
    needs("firewalld", "dbus-daemon")
    bus = f"unix:path={directory}/bus"
    (directory / "bus.conf").write_text(f"""<busconfig><type>system</type><listen>{bus}</listen><auth>EXTERNAL</auth>
      <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
      <allow receive_sender="*"/></policy></busconfig>""")
    (directory / "etc").mkdir()
    environ = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
    argv = ("firewalld", "--nofork", "--nopid", "--system-config", f"{directory}/etc", "--log-target", "console")
    told = ("env", f"DBUS_SYSTEM_BUS_ADDRESS={bus}", "firewall-cmd")
    config = ("dbus-daemon", "--nofork", "--nopidfile", f"--config-file={directory}/bus.conf")
    with daemon(machine, directory / "bus.log", *config):
        wait_until((directory / "bus").exists)
        with daemon(machine, directory / "log", *argv, **environ):
            wait_until(lambda: works(machine, *told, "--state"))
            yield lambda: machine.command(*told, "--reload")


@contextmanager
def ufw(machine: Machine, directory: Path) -> Iterator[Reload]:
    """Its files are where it is told to look: a copy is put over them, for it alone."""
    needs("ufw", "iptables")
    shutil.copytree("/etc/ufw", directory / "ufw")
    own = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/ufw && exec ufw --force "$@"', f"{directory}/ufw")
    machine.command(*own, "enable")
    yield lambda: machine.command(*own, "reload")


@contextmanager
def podman(machine: Machine, directory: Path) -> Iterator[Reload]:
    needs("podman")
    if not any(Path(f"/usr/{where}/podman/netavark").exists() for where in ("lib", "libexec")):
        pytest.skip("needs netavark: tests/packages")
    rootfs = directory / "rootfs"
    for path in ("networks", "rootfs/bin"):
        (directory / path).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", rootfs / "bin/sleep")
    argv = (
        "podman", "--root", f"{directory}/data", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp",
        "--runtime", "runc", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--network-backend", "netavark",
        "--network-config-dir", f"{directory}/networks",
    )  # fmt: skip
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    run = ("run", "-d", "--log-driver", "none", *limits, "--name", "c", "-p", "8081:80", "--rootfs", str(rootfs))
    machine.command(*argv, *run, "sleep", "600")
    try:
        yield lambda: machine.command(*argv, "network", "reload", "--all")
    finally:
        machine.command(*argv, "rm", "-f", "-t", "0", "c")


OTHERS = (dockerd, podman, firewalld, ufw)


def ruleset(machine: Machine) -> str:
    return re.sub(r"packets \d+ bytes \d+", "", machine.command("nft", "list", "ruleset"))


def check(machine: Machine, outside: Machine) -> None:
    """In with the source kept, out, and to each other."""
    with machine.container("--network", "bridge", "-p", "8080:80", *server(80)) as process:
        assert process.first == "up"
        assert ask(outside, "192.0.2.2", 8080) == "192.0.2.1 hello"
        script = f"{CLIENT}\nsys.argv[1:3] = sys.argv[5:]{CLIENT}"
        asked = ("192.0.2.1", "99", "tcp", "20", "10.112.0.1", "8080")
        out = machine.run("--network", "bridge", "host", "python3", "-c", script, *asked)
        assert re.fullmatch(r"192\.0\.2\.2 hello\n10\.112\.0\.\d hello\n", out)


@pytest.fixture
def listening(outside: Machine) -> Iterator[None]:
    with subprocess.Popen(outside.argv("python3", "-c", SERVER, "99", "tcp"), stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"up\n"
        yield
        process.kill()


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("other", OTHERS)
def test_beside(machine: Machine, outside: Machine, other) -> None:
    with tempfile.TemporaryDirectory() as path, other(machine, Path(path)) as reload:
        reload()
        before = ruleset(machine)
        check(machine, outside)
        reload()
        check(machine, outside)
        assert machine.kist("network", "rm", "bridge").returncode == 0
        assert ruleset(machine) == before


def forward_rule(machine: Machine) -> str:
    [rule] = [r for r in machine.command("iptables", "-S", "FORWARD").splitlines() if "kist" in r]
    return rule


@pytest.mark.usefixtures("listening")
def test_one_rule_at_the_end_for_our_packets_only(machine: Machine, outside: Machine) -> None:
    """Those of others stay dropped, and without our table it lets through nothing."""
    needs("iptables")
    third = Machine()
    machine.command("ip", "link", "add", "third0", "type", "veth", "peer", "name", "third1", "netns", third.path)
    for host, device, address in ((machine, "third0", "198.51.100.2/24"), (third, "third1", "198.51.100.1/24")):
        host.command("ip", "address", "add", address, "dev", device)
        host.command("ip", "link", "set", device, "up")
    third.command("ip", "route", "add", "default", "via", "198.51.100.2")
    outside.command("ip", "route", "add", "default", "via", "192.0.2.2")
    ip = ("192.0.2.1", 99, "tcp")
    machine.run("--network", "bridge", "host", "true")
    assert ask(third, *ip) == "198.51.100.1 hello"  # what is not kist's passes, beside kist's table
    machine.command("iptables", "-P", "FORWARD", "DROP")
    out = ("--network", "bridge", "host", "python3", "-c", CLIENT, "192.0.2.1", "99", "tcp")
    assert machine.run(*out, "20") == "192.0.2.2 hello\n"
    assert forward_rule(machine) == (
        "-A FORWARD -m mark --mark 0x10000000/0x10000000 -m comment --comment kist -j ACCEPT"
    )
    assert ask(third, *ip, "0.5") == "TimeoutError"
    machine.command("ip", "link", "add", "br-0123456789ab", "type", "bridge")  # as docker names them
    machine.command("ip", "link", "add", "docker", "type", "veth", "peer", "name", "inside", "netns", outside.path)
    machine.command("ip", "link", "set", "docker", "master", "br-0123456789ab", "up")
    wire = ((machine, "br-0123456789ab", "203.0.113.1/24"), (outside, "inside", "203.0.113.9/24"))
    for host, device, address in wire:
        host.command("ip", "address", "add", address, "dev", device)
        host.command("ip", "link", "set", device, "up")
    hidden = (*out[:6], "203.0.113.9", *out[7:])
    assert machine.run(*hidden, "0.5") == "TimeoutError\n"
    machine.command("iptables", "-I", "FORWARD", "-d", "203.0.113.9", "-j", "ACCEPT")
    assert machine.run(*hidden, "20") == "203.0.113.1 hello\n"  # docker's word counts
    machine.command("iptables", "-D", "FORWARD", "-d", "203.0.113.9", "-j", "ACCEPT")
    machine.command("iptables", "-A", "FORWARD", "-d", "192.0.2.1", "-j", "REJECT")  # who forbids is obeyed
    assert machine.run(*out, "20") == "ConnectionRefusedError\n"
    machine.command("iptables", "-D", "FORWARD", "-d", "192.0.2.1", "-j", "REJECT")
    script = ("sh", "-c", 'echo up; read line; exec python3 -c "$0" 192.0.2.1 99 tcp 0.5', CLIENT)
    argv = machine.argv(*KIST, "run", "-i", "--rm", "--network", "bridge", "host", *script)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        machine.command("iptables", *forward_rule(machine).replace("-A", "-D", 1).split())
        assert process.communicate("\n", timeout=60)[0] == "TimeoutError\n"  # the control: it was our rule
    machine.run(*out, "20")
    machine.command("nft", "delete", "table", "inet", "kist")
    machine.command("nft", "add table ip n; add chain ip n post { type nat hook postrouting priority 100; }; "
                    "add rule ip n post oifname up0 masquerade")  # fmt: skip
    assert ask(third, *ip, "0.5") == "TimeoutError"
    third.close()


def found(machine: Machine) -> tuple[str, str]:
    """What kist doctor says."""
    findings = json.loads(machine.kist("doctor", "--json").stdout)
    return next((one["verdict"], one.get("fix", "")) for one in findings if one["name"] == "firewall")


@pytest.mark.usefixtures("listening", "outside")
def test_what_is_not_ours_to_change_is_told(machine: Machine) -> None:
    """A table of somebody's own, and iptables-legacy: the command that is told is the one that helps."""
    needs("iptables")
    machine.command(
        "nft", "add table inet own; add chain inet own f { type filter hook forward priority 0; policy drop; }"
    )
    machine.command("iptables-legacy", "-P", "FORWARD", "DROP")
    ask_it = ("run", "--rm", "--network", "bridge", "host", "python3", "-c", CLIENT, "192.0.2.1", "99", "tcp")
    done = machine.kist(*ask_it, "0.5")
    assert done.stdout == "TimeoutError\n"
    told = [line.split(": ", 2)[2] for line in done.stderr.splitlines() if " drops " in line]
    assert [words.split()[0] for words in told] == ["nft", "iptables-legacy"]
    assert found(machine) == ("limited", "; ".join(told))
    for words in told:
        machine.command("sh", "-c", words)
    done = machine.kist(*ask_it, "20")
    assert done.stdout == "192.0.2.2 hello\n" and " drops " not in done.stderr
    assert found(machine) == ("ok", "")


@pytest.mark.usefixtures("listening")
def test_reloaded(machine: Machine, outside: Machine) -> None:
    """What others took away is there again, for containers that run."""
    needs("iptables")
    machine.command("iptables", "-P", "FORWARD", "DROP")
    box = machine.container("--name", "box", "--network", "bridge", "-p", "8080:7", *server(7))
    with box as process:
        assert process.first == "up"
        out = ("exec", "box", "python3", "-c", CLIENT, "192.0.2.1", "99", "tcp")
        assert machine.kist(*out, "20").stdout == "192.0.2.2 hello\n"
        assert ask(outside, "192.0.2.2", 8080) == "192.0.2.1 hello"
        before = ruleset(machine)
        machine.command("nft", "flush", "ruleset")
        machine.command("iptables", "-P", "FORWARD", "DROP")
        machine.command("ip", "address", "flush", "dev", "kist0")
        machine.command("sysctl", "-q", "-w", "net.ipv4.ip_forward=0", "net.ipv4.conf.kist0.route_localnet=0")
        assert machine.kist(*out, "0.5").stdout != "192.0.2.2 hello\n"
        id = machine.kist("ps", "-q", "--no-trunc").stdout
        for words in (("box",), ("--all",)):
            done = machine.kist("network", "reload", *words)
            assert (done.returncode, done.stdout) == (0, id), done.stderr
            assert machine.kist(*out, "20").stdout == "192.0.2.2 hello\n"
            assert ask(outside, "192.0.2.2", 8080) == "192.0.2.1 hello"
            assert ask(machine, "127.0.0.1", 8080) == "10.112.0.1 hello"
        assert sorted(ruleset(machine).splitlines()) == sorted(before.splitlines())
        process.kill()
    assert machine.kist("network", "reload").returncode == 125
    assert machine.kist("network", "reload", "--all", "box").returncode == 125
