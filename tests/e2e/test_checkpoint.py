"""`kist-oci checkpoint` and `restore`, with the real criu: what a process counts goes on where it stopped.

Debian 12's criu is too old for Linux 6.13 and later (vDSO): there these tests are skipped. They also run in the small
machine, tests/vm.
"""

import array
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from containers import needs_root
from kist.codec import plain
from kist.faces.oci.spec import template

OCI = [sys.executable, "-m", "kist.faces.oci"]
COUNT = "i=0; while :; do i=$((i+1)); echo $i >/tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.1; done"
WAIT_S = 60
# On v2, criu otherwise changes the options of the host's own cgroup file system (its issue 3029).
CGROUPS = ("--manage-cgroups-mode", "ignore") if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else ()

pytestmark = needs_root


@pytest.fixture(scope="module")
def criu() -> str:
    program = shutil.which("criu")
    if not program:
        pytest.skip("needs criu: apt-get install criu")
    check = subprocess.run([program, "check"], capture_output=True, text=True)
    if check.returncode:
        pytest.skip(f"criu does not work on this kernel: {check.stderr.strip().splitlines()[-1]}")
    return program


class Oci:
    """`kist-oci` with a root directory and a bundle of its own."""

    def __init__(self, directory: Path, rootfs: Path) -> None:
        self.directory, self.bundle, self.rootfs = directory, directory / "bundle", rootfs
        self.bundle.mkdir()

    def __call__(self, *args: str, status: int | None = 0, **kwargs) -> subprocess.CompletedProcess[str]:
        """Checks the status unless that is None. Files in place of pipes: a container that lives on may hold them."""
        argv = [*OCI, "--root", str(self.directory / "root"), *args]
        out, err = self.directory / "out", self.directory / "err"
        kwargs = {"stdin": subprocess.DEVNULL} | kwargs
        with out.open("w") as stdout, err.open("w") as stderr:
            kwargs = {"stdout": stdout, "stderr": stderr} | kwargs
            code = subprocess.run(argv, timeout=300, **kwargs).returncode
        done = subprocess.CompletedProcess(argv, code, out.read_text(), err.read_text())
        assert status in (None, code), done.stderr
        return done

    def config(self, command: str, *mounts: dict, **changes: object) -> None:
        config = plain(template(rootless=False))
        config["process"] |= {"args": ["sh", "-c", command], "terminal": bool(changes.pop("terminal", False))}
        config["mounts"] += [{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}, *mounts]
        config |= {"root": {"path": str(self.rootfs)}, "annotations": {"org.criu.config": ""}} | changes
        config["linux"]["cgroupsPath"] = f"/kist/{self.directory.name}"
        (self.bundle / "config.json").write_text(json.dumps(config))

    def run(self, *options: str, **kwargs) -> None:
        null = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
        self("run", "-d", "-b", str(self.bundle), *options, "c", **null | kwargs)

    def checkpoint(self, *options: str, status: int = 0, **kwargs) -> subprocess.CompletedProcess[str]:
        images = () if "--image-path" in options else ("--image-path", str(self.directory / "images"))
        return self("checkpoint", *CGROUPS, *images, *options, "c", status=status, **kwargs)

    def restore(self, *options: str, **kwargs) -> None:
        null = dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)
        images = ("--image-path", str(self.directory / "images"), *CGROUPS)
        done = self("restore", "-b", str(self.bundle), *images, *options, "c", status=None, **null | kwargs)
        log = self.directory / "images/restore.log"
        assert done.returncode == 0, log.read_text()[-3000:] if log.exists() else done.stderr

    def states(self) -> list[str]:
        containers = json.loads(self("list", "--format", "json").stdout or "[]") or []
        return [container["status"] for container in containers]

    def count(self) -> int:
        """Once there is a number."""
        found: list[str] = []

        def read() -> bool:
            found.append(self("exec", "c", "cat", "/tmp/count", status=None).stdout)
            return bool(found[-1])

        eventually(read)
        return int(found[-1])


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, true
        time.sleep(0.05)


@pytest.fixture
def oci(tmp_path: Path, rootfs: Path) -> Iterator[Oci]:
    oci = Oci(tmp_path, rootfs)
    yield oci
    oci("delete", "--force", "c", status=None)
    assert not list((tmp_path / "root").glob("*"))
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line]
    cgroups = [
        *Path("/sys/fs/cgroup").glob(f"kist/{tmp_path.name}"),
        *Path("/sys/fs/cgroup").glob(f"*/kist/{tmp_path.name}"),
    ]
    assert not cgroups


def test_it_goes_on_where_it_stopped(criu: str, oci: Oci, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a").write_text("of the host")
    (tmp_path / "pids").mkdir()
    oci.config(COUNT, {"destination": "/mnt", "type": "bind", "source": str(data), "options": ["rbind"]})
    oci.run()
    before = oci.count()
    oci.checkpoint("--work-path", str(tmp_path / "work"))
    assert (tmp_path / "work/dump.log").exists()
    assert oci.states() == []
    oci.restore("-d", "--pid-file", str(tmp_path / "pids/pid"))
    assert oci.states() == ["running"]
    after = oci.count()
    assert before <= after < before + 100  # it has not begun anew, and time stood still
    eventually(lambda: oci.count() > after)
    state = json.loads(oci("state", "c").stdout)
    assert state["pid"] == int((tmp_path / "pids/pid").read_text())
    assert oci("exec", "c", "cat", "/mnt/a").stdout == "of the host"
    assert oci("exec", "c", "sh", "-c", "cat /proc/kcore /proc/keys; ls /proc/acpi", status=None).stdout == ""  # masked
    # Twice: what was brought back can be saved again.
    oci.checkpoint()
    oci.restore("-d")
    assert oci.count() > after
    oci("pause", "c")
    assert oci.states() == ["paused"]
    oci("resume", "c")
    oci("kill", "c", "KILL")
    eventually(lambda: oci.states() == ["stopped"])


def test_left_running(criu: str, oci: Oci) -> None:
    oci.config(COUNT)
    oci.run()
    before = oci.count()
    oci.checkpoint("--leave-running")
    assert oci.states() == ["running"]
    eventually(lambda: oci.count() > before)


def test_memory_is_saved_before(criu: str, oci: Oci, tmp_path: Path) -> None:
    """What has not changed since is not saved again."""
    if subprocess.run([criu, "check", "--feature", "mem_dirty_track"], capture_output=True).returncode:
        pytest.skip("this kernel does not track which memory is written (CONFIG_MEM_SOFT_DIRTY)")
    oci.config(COUNT)
    oci.run()
    before = oci.count()
    oci.checkpoint("--pre-dump", "--image-path", str(tmp_path / "before"))
    assert oci.states() == ["running"]
    oci.checkpoint("--parent-path", "../before")
    assert os.path.realpath(tmp_path / "images/parent") == str(tmp_path / "before")
    assert memory_bytes(tmp_path / "images") < memory_bytes(tmp_path / "before")
    oci.restore("-d")
    assert oci.count() >= before


def memory_bytes(images: Path) -> int:
    return sum(path.stat().st_size for path in images.glob("pages-*.img"))


def test_pipes_are_the_callers(criu: str, oci: Oci) -> None:
    """And who waits for its end gets its exit status."""
    oci.config('while read line; do echo "<$line>"; done; exit 7')
    with Pipes() as pipes:
        oci.run(**pipes.ends)
        assert pipes.answer("one") == "<one>\n"
        oci.checkpoint()
    with Pipes() as pipes:
        argv = [*OCI, "--root", str(oci.directory / "root"), "restore", "-b", str(oci.bundle)]
        argv += ["--image-path", str(oci.directory / "images"), *CGROUPS, "c"]
        waits = subprocess.Popen(argv, **pipes.ends)
        assert pipes.answer("two") == "<two>\n"
        pipes.to.close()
        assert waits.wait(WAIT_S) == 7
    assert oci.states() == []


class Pipes:
    """For standard input, and for output and errors."""

    def __enter__(self) -> Self:
        (stdin, to), (from_, stdout) = os.pipe(), os.pipe()
        self.to, self.from_ = os.fdopen(to, "w"), os.fdopen(from_)
        self.ends = {"stdin": stdin, "stdout": stdout, "stderr": stdout}
        return self

    def answer(self, line: str) -> str:
        print(line, file=self.to, flush=True)
        return self.from_.readline()

    def rest(self) -> str:
        os.set_blocking(self.from_.fileno(), False)
        return self.from_.read()

    def __exit__(self, *_: object) -> None:
        self.to.close()
        self.from_.close()
        for fd in {*self.ends.values()}:
            os.close(fd)


def test_a_terminal_is_handed_over_again(criu: str, oci: Oci, tmp_path: Path) -> None:
    oci.config("while read line; do echo got $line; done", terminal=True)
    with socket.socket(socket.AF_UNIX) as console:
        console.bind(str(tmp_path / "console"))
        console.listen()
        oci.run("--console-socket", str(tmp_path / "console"))
        with master(console) as terminal:
            talk(terminal, "one")
            oci.checkpoint()
        oci.restore("-d", "--console-socket", str(tmp_path / "console"))
        with master(console) as terminal:
            talk(terminal, "two")


def master(console: socket.socket) -> io.FileIO:
    """The side of the terminal that is sent; without it the other side hangs up."""
    connection, _ = console.accept()
    with connection:
        _, ancillary, _, _ = connection.recvmsg(100, socket.CMSG_SPACE(4))
    return open(array.array("i", ancillary[0][2])[0], "r+b", buffering=0)


def talk(terminal: io.FileIO, word: str) -> None:
    terminal.write(f"{word}\n".encode())
    heard = b""
    while f"got {word}".encode() not in heard:
        heard += terminal.read(100)


def test_what_cannot_be_saved_goes_on(criu: str, oci: Oci, tmp_path: Path) -> None:
    """A file of the host's for its output is none of the container's. criu's log is quoted."""
    oci.config(COUNT)
    with (tmp_path / "host").open("w") as file:
        oci.run(stdout=file)
    before = oci.count()
    failed = oci.checkpoint(status=1)
    assert "criu failed: type DUMP" in failed.stderr
    assert "Error" in failed.stderr and "dump.log" in failed.stderr
    assert oci.states() == ["running"]
    eventually(lambda: oci.count() > before)


def test_what_cannot_be_brought_back_leaves_nothing(criu: str, oci: Oci, tmp_path: Path) -> None:
    oci.config(COUNT)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/descriptors.json").write_text("[]")
    failed = oci("restore", "-d", "-b", str(oci.bundle), "--image-path", str(tmp_path / "images"), "c", status=1)
    assert "criu failed: type RESTORE" in failed.stderr
    assert oci.states() == []


# --- without criu's help


def test_options_are_checked(oci: Oci, tmp_path: Path) -> None:
    oci.config(COUNT)
    oci("create", "-b", str(oci.bundle), "c", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert "cannot be checkpointed in created state" in oci.checkpoint(status=1).stderr
    assert "--page-server ADDRESS:PORT" in oci.checkpoint("--page-server", "host", status=1).stderr
    assert "'pid' is not supported" in oci.checkpoint("--empty-ns", "pid", status=1).stderr
    warned = oci("--criu", "/usr/sbin/criu", "checkpoint", "c", status=1)
    assert "--criu ignored" in warned.stderr


def test_without_criu(oci: Oci, tmp_path: Path) -> None:
    oci.config(COUNT)
    oci.run()
    env = os.environ | {"PATH": str(tmp_path)}
    failed = oci.checkpoint(status=1, env=env)
    assert "the program criu is not installed" in failed.stderr
    failed = oci("restore", "-b", str(oci.bundle), "d", status=1, env=env)
    assert "the program criu is not installed" in failed.stderr
    assert oci.states() == ["running"]
