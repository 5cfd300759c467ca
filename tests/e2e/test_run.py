"""Real containers through the command line and the API."""

import os
import subprocess
import sys

import pytest

import kist

KIST = [sys.executable, "-m", "kist.faces.cli"]


def run(*args: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([*KIST, "run", *args], capture_output=True, text=True, timeout=60, **kwargs)


def test_first_process_is_pid_1_in_its_own_namespaces():
    result = kist.run(["sh", "-c", "echo $$; readlink /proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/net"])
    pid, *namespaces = result.stdout.split()
    assert pid == "1"
    assert set(namespaces).isdisjoint(os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt", "net"))


def test_python_runs_the_callers_interpreter():
    result = kist.run(["python", "-c", "import sys; print(sys.prefix)"])
    assert result.stdout.strip() == sys.prefix, result.stderr


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["host", "true"], 0),
        (["host", "sh", "-c", "exit 3"], 3),
        (["--init", "host", "sh", "-c", "kill -TERM $$"], 143),
        (["host", "no-such-command"], 127),
        (["host", "/etc/passwd"], 126),
        (["--rootfs", "/no/such/directory", "true"], 125),
        (["--timeout", "0.2", "host", "sleep", "60"], 137),
    ],
)
def test_exit_status(args, status):
    assert run(*args).returncode == status


def test_input_goes_in_and_output_comes_out():
    assert kist.run(["cat"], input="hello\n" * 100_000).stdout == "hello\n" * 100_000


def test_output_is_bounded():
    result = kist.run(["sh", "-c", "yes | head -c 1000000"], output_limit=1000)
    assert len(result.stdout) == 1000
    assert result.truncated


def test_check_raises():
    with pytest.raises(kist.errors.ProcessFailed):
        kist.run(["false"], check=True)


def test_nothing_is_left():
    before = os.listdir("/run/kist") if os.path.isdir("/run/kist") else []
    run("host", "true")
    assert os.listdir("/run/kist") == before
