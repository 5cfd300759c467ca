"""A disk that is full, or read-only, or holds a huge log: clear errors, no hang; what ends and removes still works."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import KIST, needs_root

pytestmark = needs_root


def kist(*words: str, **options) -> subprocess.CompletedProcess[str]:
    """No command may hang: 5 s."""
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([*KIST, *words], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=5,
                          check=False, **options)  # fmt: skip


def ok(*words: str) -> str:
    done = kist(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(name: str) -> str:
    """Its status and exit status, and whether docker's State.Error says something."""
    return ok("inspect", "--format", '{{.State.Status}} {{.State.ExitCode}} {{ne .State.Error ""}}', name)


def refused(why: str, *words: str) -> None:
    done = kist(*words)
    assert done.returncode in (1, 125) and why in done.stderr, (words, done.returncode, done.stderr)
    assert "Traceback" not in done.stderr


@pytest.fixture
def disk(run_dir: Path) -> Iterator[Path]:
    """KIST_DATA_DIR, which has room for 4 MiB."""
    place = Path(os.environ["KIST_DATA_DIR"])
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    with open(disk / "ballast", "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))


def test_no_space_for_the_record(rootfs, disk):
    ok("ps")
    fill(disk)
    for words in (("run", "-d"), ("run",), ("create",)):
        refused("No space left on device", *words, "--name", "web", "--rootfs", str(rootfs), "true")
    assert ok("ps", "-aq") == ""
    (disk / "ballast").unlink()
    ok("run", "--name", "web", "--rootfs", str(rootfs), "true")
    ok("rm", "web")


def test_what_ends_and_removes_works_on_a_full_disk(rootfs, disk):
    for name in ("web", "db", "old"):
        ok("run", "-d", "--name", name, "--rootfs", str(rootfs), "sleep", "1000")
    ok("stop", "-t", "0", "old")
    fill(disk)
    assert ok("exec", "web", "echo", "here") == "here"
    refused("No space left on device", "start", "old")
    assert state("old") == "exited 125 true"  # that it ran before, and why it does not now
    ok("stop", "-t", "0", "web")
    ok("kill", "db")
    assert ok("wait", "db") == "137"
    assert ok("ps", "-q") == ""
    ok("rm", "-f", "web", "db", "old")
    assert ok("ps", "-aq") == ""


def test_a_read_only_store(rootfs, disk):
    for name in ("web", "old"):
        ok("run", "-d", "--name", name, "--rootfs", str(rootfs), "sh", "-c", "echo here; sleep 1000")
    ok("stop", "-t", "0", "old")
    subprocess.run(["mount", "--bind", disk, disk], check=True)  # what is open for writing stays so
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
    try:
        assert ok("logs", "web") == "here"
        assert set(ok("ps", "-a", "--format", "{{.Names}}").split()) == {"web", "old"}
        assert ok("exec", "web", "echo", "here") == "here"
        for words in (("run", "-d", "--rootfs", str(rootfs), "true"), ("create", "--rootfs", str(rootfs), "true"),
                      ("start", "old"), ("rename", "web", "new"), ("rm", "old"),
                      ("volume", "create", "data")):  # fmt: skip
            refused("Read-only file system", *words)
        ok("kill", "web")
        assert ok("wait", "web") == "137"  # its record could be written, and not get its name
        assert state("web") == "exited 137 false"
        assert state("old") == "exited 137 false"
    finally:
        subprocess.run(["umount", disk], check=True)
    ok("rm", "-f", "web", "old")


def test_a_log_of_ten_gigabytes(rootfs, run_dir):
    id = ok("run", "-d", "--name", "web", "--rootfs", str(rootfs), "sh", "-c", "echo first; echo second")
    ok("wait", "web")
    (log,) = Path(os.environ["KIST_DATA_DIR"], "containers", id).glob("log.[0-9]*")
    records = log.read_bytes()
    with open(log, "r+b") as file:
        file.seek(10 << 30)  # a hole
        file.write(b"\n" + records * 2)
    assert ok("logs", "--tail", "2", "web") == "first\nsecond"
    assert ok("logs", "--tail", "1", "-f", "web") == "second"
    with subprocess.Popen([*KIST, "logs", "web"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and [process.stdout.readline() for _ in range(2)] == ["first\n", "second\n"]
        process.terminate()  # it need not read on to the end
        process.wait(5)
    ok("ps", "-s")
    ok("rm", "web")
