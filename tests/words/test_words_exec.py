"""exec: environment, user, directory, streams, exit statuses."""

import hashlib
import subprocess

import pytest
from rivals import MUCH_BYTES, needs_all_capabilities

from containers import needs_limits


@pytest.fixture
def running(cli, box):
    cli.ok("run", "-d", "--name", "web", "-e", "A=1", "-e", "B=2", "-w", "/tmp", box, "sleep", "1000")
    return "web"


def test_exec_runs_beside_the_command(cli, running):
    assert "sleep 1000" in cli.ok("exec", running, "ps")
    assert cli.ok("exec", running, "hostname") == cli.ok("exec", running, "cat", "/etc/hostname")


def test_exec_has_the_containers_environment_and_directory(cli, running):
    lines = cli.ok("exec", running, "env").splitlines()
    assert {"A=1", "B=2", "HOME=/root"} <= set(lines)
    assert cli.ok("exec", running, "pwd") == "/tmp"


def test_exec_env_comes_over_the_containers(cli, running, tmp_path):
    (tmp_path / "env").write_text("B=file\nC=file\n")
    lines = cli.ok("exec", "-e", "C=flag", "--env-file", str(tmp_path / "env"), running, "env").splitlines()
    assert {"A=1", "B=file", "C=flag"} <= set(lines)


@pytest.mark.parametrize(
    ("user", "expected"),
    [("ann", "1000 1000 /home"), ("1000", "1000 1000 /home"), ("1000:50", "1000 50 /home"),
     ("ann:staff", "1000 50 /home"), ("33", "33 0 /"), ("33:33", "33 33 /"), ("0", "0 0 /root")],
)  # fmt: skip
def test_exec_user(cli, running, user, expected):
    script = "echo $(id -u) $(id -g) $HOME"
    assert cli.ok("exec", "-u", user, running, "sh", "-c", script) == expected


def test_exec_user_gets_its_groups(cli, running):
    assert "50" in cli.ok("exec", "-u", "ann", running, "id", "-G").split()


@pytest.mark.parametrize("user", ["nobodyknows", "ann:nogroup", "99999999999"])
def test_exec_of_an_unknown_user_runs_nothing(cli, running, user):
    cli.fails("exec", "-u", user, running, "touch", "/ran")
    cli.fails("exec", running, "ls", "/ran")


def test_exec_workdir(cli, running):
    assert cli.ok("exec", "-w", "/etc", running, "pwd") == "/etc"


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_exec_gives_the_exit_status(cli, running, status):
    assert cli("exec", running, "sh", "-c", f"exit {status}").returncode == status


def test_exec_gives_128_and_the_signal(cli, running):
    assert cli("exec", running, "sh", "-c", "kill -9 $$").returncode == 137


@pytest.mark.parametrize(("command", "status"), [("nosuchcommand", 127), ("/etc/passwd", 126), ("/nosuch/file", 127)])
def test_exec_of_what_is_no_program(cli, running, command, status):
    assert cli("exec", running, command).returncode in (status, 126 if cli.name == "docker" else status)  # 20.10


def test_exec_keeps_the_streams_apart(cli, running):
    done = cli("exec", running, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_exec_reads_only_with_interactive(cli, running):
    assert cli.ok("exec", "-i", running, "cat", input="hello") == "hello"
    assert cli.ok("exec", running, "cat", input="hello") == ""


def test_exec_detached_goes_on(cli, running):
    cli.ok("exec", "-d", running, "sh", "-c", "sleep 0.3; touch /tmp/done; sleep 1000")
    cli.until(lambda: cli("exec", running, "ls", "/tmp/done").returncode == 0)


def test_exec_detached_with_a_terminal_that_nobody_reads(cli, running):
    cli.ok("exec", "-dt", running, "sh", "-c", "tty > /tmp/tty; seq 100000; touch /tmp/done; sleep 1000")
    cli.until(lambda: cli("exec", running, "ls", "/tmp/done").returncode == 0)
    assert cli.ok("exec", running, "cat", "/tmp/tty").startswith("/dev/pts/")


def test_exec_gives_a_terminal(cli, running):
    assert cli.ok("exec", "-t", running, "tty") == "/dev/pts/0"
    assert "TERM=xterm" in cli.ok("exec", "-t", running, "env")


@needs_all_capabilities
def test_exec_privileged_has_more_capabilities(cli, running):
    def effective(*flags):
        lines = cli.ok("exec", *flags, running, "grep", "CapEff", "/proc/self/status")
        return int(lines.split()[-1], 16)

    assert effective() & effective("--privileged") == effective()
    assert bin(effective("--privileged")).count("1") > bin(effective()).count("1")


@needs_all_capabilities
def test_exec_inherits_no_capability(cli, running):
    """CVE-2022-29162."""
    for flags in ((), ("-u", "ann"), ("--privileged",)):
        lines = cli.ok("exec", *flags, running, "grep", "-E", "CapInh|CapAmb", "/proc/self/status").split()
        assert set(lines[1::2]) == {"0000000000000000"}


@needs_limits
def test_exec_in_one_that_is_paused_fails(cli, running):
    cli.ok("pause", running)
    assert "paused" in cli.fails("exec", running, "true") or cli.name == "podman"  # "container state improper"
    cli.ok("unpause", running)


def test_exec_in_one_that_does_not_run_fails(cli, box):
    cli.ok("create", "--name", "web", box, "true")
    cli.fails("exec", "web", "true")
    cli.fails("exec", "nosuch", "true")


@needs_limits
def test_exec_counts_towards_the_containers_limits(cli, box):
    cli.ok("run", "-d", "--name", "web", "--pids-limit", "5", box, "sleep", "1000")
    done = cli("exec", "web", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 1 & done; wait")
    assert "fork" in done.stderr or done.returncode != 0


def test_exec_ends_with_its_container(cli, running):
    process = cli.popen("exec", running, "sleep", "1000")
    cli.until(lambda: cli.ok("exec", running, "ps").count("sleep 1000") == 2)
    cli.ok("kill", running)
    assert process.wait(20) == 137


def test_exec_passes_much_through_both_ways(cli, running):
    size = MUCH_BYTES
    source = subprocess.Popen(["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' 'x'"], stdout=subprocess.PIPE)
    with cli.popen("exec", "-i", running, "cat", stdin=source.stdout, stdout=subprocess.PIPE) as through:
        source.stdout.close()
        digest, count = hashlib.sha256(), 0
        while data := through.stdout.buffer.read1(1 << 20):
            digest.update(data)
            count += len(data)
    source.wait()
    expected = hashlib.sha256()
    for _ in range(size >> 20):
        expected.update(b"x" * (1 << 20))
    assert (count, digest.digest()) == (size, expected.digest())
