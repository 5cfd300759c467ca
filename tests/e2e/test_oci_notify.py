"""NOTIFY_SOCKET: a container tells the service manager itself when it is ready. Source: sd_notify(3)."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles import Runtime, kist_only, oci, wait_for
from containers import needs_root

__all__ = ["oci"]
pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("perl"), reason="needs perl to send a datagram")]

SAY = "socket(S, AF_UNIX, SOCK_DGRAM, 0) && send(S, '{}', 0, pack_sockaddr_un($ENV{{NOTIFY_SOCKET}})) || die $!;"
AWAIT_GATE = "$| = 1; print 'up'; select(undef, undef, undef, 0.02) until -e '/mnt/open';"


def service(*messages: str, before: str = "", after: str = "") -> tuple[str, ...]:
    """A program that says these, one datagram each."""
    return ("/usr/bin/perl", "-MSocket", "-e", before + "".join(map(SAY.format, messages)) + after)


@pytest.fixture
def host_programs(tmp_path: Path):
    """Changes a config so that the host's perl is there, and at /mnt the directory `gate`."""
    (tmp_path / "gate").mkdir()

    def change(config: dict) -> None:
        shown = {path: os.path.realpath(path) for path in ("/usr", "/lib", "/lib64") if os.path.isdir(path)}
        for path, source in (shown | {"/mnt": str(tmp_path / "gate")}).items():
            config["mounts"].append({"destination": path, "type": "bind", "source": source, "options": ["rbind", "ro"]})

    return change


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path: Path, monkeypatch) -> Iterator[socket.socket]:
    """What a Type=notify unit gets: a socket that listens, and an environment that names it."""
    name = f"@kist-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1))
        listening.settimeout(20)
        yield listening


def heard(manager: socket.socket, until: str) -> list[str]:
    """The lines of all messages, up to the message that has that line."""
    found: list[str] = []
    while until not in found:
        found += manager.recv(4096).decode().split("\n")
    return found


def test_run(oci: Runtime, manager, host_programs):
    bundle = oci.bundle(*service("STATUS=almost", "READY=1"), change=host_programs)
    oci("run", "-b", bundle, oci.new_id())
    assert "READY=1" in heard(manager, "READY=1")


@kist_only  # runc passes nothing on but READY=1
def test_all_that_it_says(oci: Runtime, manager, host_programs):
    bundle = oci.bundle(*service("STATUS=almost", "READY=1\nSTATUS=up"), change=host_programs)
    oci("run", "-b", bundle, oci.new_id())
    assert heard(manager, "STATUS=up") == ["STATUS=almost", "READY=1", "STATUS=up"]


def test_start_returns_when_it_is_ready(oci: Runtime, manager, host_programs):
    id = oci.create(*service("READY=1", before=AWAIT_GATE, after="sleep 600"), change=host_programs)
    with subprocess.Popen([*oci.argv, "start", id], stdin=subprocess.DEVNULL) as starting:
        wait_for(lambda: oci.output() == "up")
        assert starting.poll() is None
        (oci.directory / "gate/open").touch()
        assert starting.wait(20) == 0
    assert "READY=1" in heard(manager, "READY=1")
    assert oci.state(id)["status"] == "running"


def test_start_of_what_never_says_so(oci: Runtime, manager, host_programs):
    """It returns when the container has ended."""
    id = oci.create("true", change=host_programs)
    oci("start", id)
    oci.wait_status(id, "stopped")
    oci("delete", id)


@kist_only
def test_run_detached(oci: Runtime, manager, host_programs):
    id = oci.new_id()
    oci.start("run", "--detach", "-b", oci.bundle(*service("READY=1", after="sleep 600"), change=host_programs), id)
    assert heard(manager, "READY=1") == ["READY=1"]
    assert oci.state(id)["status"] == "running"
