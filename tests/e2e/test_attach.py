"""A person at a terminal of a container that is kept: attach, detach, exec, and their terminal afterwards."""

import os
import signal
import time

import pytest

from containers import KIST, kist
from terminal import Terminal


@pytest.fixture(autouse=True)
def removed(run_dir):
    yield
    kist("rm", "-f", "shell")


def test_run_may_be_left_and_come_back_to():
    with Terminal([*KIST, "run", "-it", "--name", "shell", "host", "sh"]) as terminal:
        before = terminal.modes()
        terminal.type("stty size; x=kept\n")
        terminal.expect("24 80")
        terminal.resize(30, 100)
        time.sleep(0.3)
        terminal.type("stty size\n")
        terminal.expect("30 100")
        terminal.type("\x10\x11")
        terminal.expect("detached")
        assert terminal.wait() == 0
        assert terminal.modes() == before
    assert "Up" in kist("ps").stdout
    with Terminal([*KIST, "attach", "shell"], rows=40, columns=90) as terminal:
        time.sleep(0.5)
        terminal.type("stty size; echo $x\n")
        terminal.expect("40 90")
        terminal.expect("kept")
        terminal.type("exit 4\n")
        assert terminal.wait() == 4
        assert terminal.modes() == before


def test_other_keys_to_leave_by_and_those_that_only_begin_like_them():
    with Terminal(
        [*KIST, "run", "-it", "--name", "shell", "--detach-keys", "ctrl-a,x", "host", "cat", "-v"]
    ) as terminal:
        terminal.type("\x10\x11\n")
        terminal.expect(r"\^P")
        terminal.type("\x01y\n")
        terminal.expect(r"\^Ay")
        terminal.type("\x01x")
        terminal.expect("detached")
        assert terminal.wait() == 0


def test_control_c_is_the_containers():
    script = "trap 'echo caught' INT; while :; do sleep 0.1; done"
    with Terminal([*KIST, "run", "-it", "--name", "shell", "host", "sh", "-c", script]) as terminal:
        time.sleep(0.5)
        terminal.type("\x03")
        terminal.expect("caught")
        assert kist("kill", "shell").returncode == 0
        assert terminal.wait() == 137


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_the_terminal_is_put_in_order_when_attach_is_ended(number):
    assert kist("run", "-dit", "--name", "shell", "host", "sh").returncode == 0
    with Terminal([*KIST, "attach", "--sig-proxy=false", "shell"]) as terminal:
        before = terminal.modes()
        terminal.type("echo a$((1+1))\n")
        terminal.expect("a2")
        assert terminal.modes() != before
        os.kill(terminal.pid, number)
        terminal.wait()
        assert terminal.modes() == before
    assert "Up" in kist("ps").stdout


def test_start_interactive_gives_the_terminal():
    assert kist("create", "-it", "--name", "shell", "host", "sh").returncode == 0
    for status in (7, 0):
        with Terminal([*KIST, "start", "-ai", "shell"]) as terminal:
            terminal.type("tty\n")
            terminal.expect("/dev/pts/0")
            terminal.type(f"exit {status}\n")
            assert terminal.wait() == status


def test_exec_gives_a_terminal_of_its_own():
    assert kist("run", "-d", "--name", "shell", "host", "sleep", "1000").returncode == 0
    with Terminal([*KIST, "exec", "-it", "shell", "sh"], rows=33, columns=77) as terminal:
        before = terminal.modes()
        terminal.type("stty size\n")
        terminal.expect("33 77")
        terminal.resize(20, 60)
        time.sleep(0.3)
        terminal.type("stty size\n")
        terminal.expect("20 60")
        terminal.type("exit 5\n")
        assert terminal.wait() == 5
        assert terminal.modes() == before


def test_exec_hides_the_callers_terminal():
    """Without -t the command gets pipes: it could type into a terminal that it holds (CVE-2017-5226)."""
    assert kist("run", "-d", "--name", "shell", "host", "sleep", "1000").returncode == 0
    with Terminal(
        [*KIST, "exec", "-i", "shell", "sh", "-c", "read x; for i in 0 1 2; do test -t $i; echo $x$?; done"]
    ) as t:
        t.type("is\n")
        for _ in range(3):
            t.expect("is1")
        assert t.wait() == 0
