"""attach and start -a: streams, signals, exit status."""

import hashlib
import signal
import subprocess
import time

import pytest
from rivals import CLI, MUCH_BYTES

from terminal import Terminal


def gives(cli, status, expected):
    """podman 4.3's attach ends with 0, whatever the container's status is."""
    return status == expected or (cli.name == "podman" and status == 0)


def test_attach_shows_what_comes_and_gives_the_exit_status(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "echo before; sleep 1.5; echo out; echo err >&2; exit 6")
    cli.until(lambda: "before" in cli("logs", "web").stdout)
    done = cli("attach", "--no-stdin", "web")
    assert gives(cli, done.returncode, 6)
    assert done.stderr == "err\n"
    assert done.stdout.split()[-1] == "out"  # podman says goodbye with a newline more


def test_attach_passes_input_on(cli, box):
    cli.ok("run", "-d", "-i", "--name", "web", box, "sh", "-c", "read x; echo got $x; exit 3")
    done = cli("attach", "web", input="hello\n")
    assert gives(cli, done.returncode, 3)
    if cli.name == "docker":  # there who has said all hears nothing more: moby's daemon/stream/attach.go
        assert cli.ok("logs", "web") == "got hello"
    else:
        assert done.stdout.strip() == "got hello"


@pytest.mark.skipif(CLI == "podman", reason="podman 4.3 ends the command's input as soon as one who attached has none")
def test_several_attach_at_once(cli, box):
    cli.ok("run", "-d", "-i", "--name", "web", box, "sh", "-c", "read x; echo $x; read y; echo $y")
    first = cli.popen("attach", "--no-stdin", "web", stdout=subprocess.PIPE)
    second = cli.popen("attach", "web", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(1)
    second.stdin.write("one\ntwo\n")
    second.stdin.flush()
    assert [process.communicate(timeout=20)[0].split() for process in (first, second)] == [["one", "two"]] * 2


def test_attach_passes_signals_on(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done")
    cli.until(lambda: "up" in cli("logs", "web").stdout)
    process = cli.popen("attach", "--no-stdin", "web", stdout=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert gives(cli, process.wait(20), 9)
    process.stdout.close()


def test_attach_without_sig_proxy_leaves_it_running(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sleep", "1000")
    process = cli.popen("attach", "--no-stdin", "--sig-proxy=false", "web", stdout=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) != 0 or cli.name == "podman"
    process.stdout.close()
    assert cli.ok("ps", "-q")


def test_attach_to_one_that_does_not_run_fails(cli, box):
    cli.ok("create", "--name", "web", box, "true")
    cli.fails("attach", "web")
    cli.fails("attach", "nosuch")


def test_start_attached(cli, box):
    cli.ok("create", "--name", "web", box, "sh", "-c", "echo out; echo err >&2; exit 4")
    done = cli("start", "-a", "web")
    assert (done.returncode, done.stdout, done.stderr) == (4, "out\n", "err\n")


def test_start_interactive(cli, box):
    cli.ok("create", "-i", "--name", "web", box, "cat")
    assert cli("start", "-a", "-i", "web", input="hello").stdout == "hello"


def test_attach_passes_much_in(cli, box):
    size = MUCH_BYTES
    cli.ok("create", "-i", "--name", "web", box, "sh", "-c", "sleep 1; sha256sum")
    cli.ok("start", "web")
    source = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE)
    done = cli("attach", "web", stdin=source.stdout, timeout_s=120)
    source.stdout.close()
    source.wait()
    expected = hashlib.sha256()
    for _ in range(size >> 20):
        expected.update(bytes(1 << 20))
    assert done.stdout.split() == [expected.hexdigest(), "-"]


def test_attach_passes_much_out(cli, box):
    size = MUCH_BYTES
    cli.ok("create", "-i", "--name", "web", box, "sh", "-c", f"read x; yes abcdefghijklmnopqrstuvwxyz | head -c {size}")
    with cli.popen("start", "-a", "-i", "web", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write("go\n")
        process.stdin.flush()
        digest, count = hashlib.sha256(), 0
        while data := process.stdout.buffer.read1(1 << 20):
            digest.update(data)
            count += len(data)
    expected = hashlib.sha256((b"abcdefghijklmnopqrstuvwxyz\n" * (size // 27 + 1))[:size])
    assert count == size
    assert digest.hexdigest() == expected.hexdigest()
    assert process.returncode == 0


def test_attach_needs_no_log(cli, box):
    cli.ok("run", "-d", "--name", "web", "--log-driver", "none", box, "sh", "-c", "sleep 1; echo out; exit 5")
    done = cli("attach", "--no-stdin", "web")
    assert gives(cli, done.returncode, 5)
    assert done.stdout.strip() == "out"
    cli.fails("logs", "web")
    cli.ok("start", "web")
    cli.ok("rm", "-f", "web")


@pytest.mark.skipif(CLI == "podman", reason="podman 4.3 passes them on")
def test_start_with_other_detach_keys(cli, box):
    cli.ok("create", "-it", "--name", "shell", box, "sh", "-c", "echo up; exec cat -v")
    with Terminal([*cli.argv, "start", "-ai", "--detach-keys", "ctrl-a,x", "shell"]) as terminal:
        terminal.expect("up")
        terminal.type("\x10\x11\n")
        terminal.expect(r"\^P")
        terminal.type("\x01x")
        assert terminal.wait() == 0 or CLI == "docker"  # docker 28: an error that says "read escape sequence"
        assert cli.status("shell").startswith("Up")
