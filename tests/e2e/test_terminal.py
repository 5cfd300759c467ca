"""A person at a terminal: -t, resizing, Ctrl-C, Ctrl-Z, job control; and signals without one."""

import os
import signal
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containers import KIST
from kist.engine.making import make, own_stdio
from kist.engine.state import StateDirectory
from kist.faces.cli.request import run_request, this_process
from kist.kernel.program import become, open_program
from kist.plan.steps import INIT, Entry, Exec, Open, Slots
from machine import wait_until
from terminal import Terminal

RUN = [*KIST, "run", "--rm"]
PROMPT = r"\$ "
# Says that it is there when it has no handlers any more.
SLEEPER = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); print('up', flush=True); time.sleep(600)"


@pytest.fixture(autouse=True)
def plain_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS1", "$ ")
    monkeypatch.setenv("TERM", "dumb")


SHELL = [*RUN, "-it", "-e", "PS1=$ ", "host", "sh"]


def test_a_terminal_of_its_own(rootfs):
    with Terminal(SHELL, rows=31, columns=97) as terminal:
        terminal.expect(PROMPT)
        terminal.type("stty size; tty; ls -l /dev/console | cut -c1\n")
        terminal.expect(r"31 97\r\n/dev/pts/0\r\nc\r\n")
        terminal.type("exit 7\n")
        assert terminal.wait() == 7


def test_it_follows_a_resize():
    with Terminal(SHELL) as terminal:
        terminal.expect(PROMPT)
        terminal.resize(44, 111)
        size = ""
        while size != "44 111":  # the signal takes its way through two terminals
            terminal.type("stty size\n")
            size = terminal.expect(r"(\d+ \d+)\r\n").group(1)


def test_control_keys_belong_to_the_program_inside(rootfs):
    with Terminal(SHELL) as terminal:
        terminal.expect(PROMPT)
        terminal.type("cat\n")
        terminal.type("echoed\n")
        terminal.expect("echoed\r\nechoed")
        terminal.type("\x03")
        terminal.expect(PROMPT)
        terminal.type("cat\n")
        terminal.type("again\n")
        terminal.expect("again\r\nagain")
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.type("kill -9 %1; wait; exit 3\nexit 3\n")
        assert terminal.wait() == 3


def test_the_callers_terminal_is_as_it_was(rootfs):
    with Terminal(["bash", "--norc", "-i"]) as terminal:
        terminal.expect(PROMPT)
        before = terminal.modes()
        terminal.type(" ".join(RUN) + f" -it --rootfs {rootfs} sh -c 'kill -9 $$; exit 1'; echo done=$?\n")
        terminal.expect(r"done=1\r\n")
        terminal.expect(PROMPT)
        assert terminal.modes() == before


def test_the_callers_terminal_is_raw_meanwhile(rootfs):
    with Terminal(SHELL) as terminal:
        terminal.expect(PROMPT)
        assert not terminal.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)


def test_interrupt_without_a_terminal_inside():
    """Ctrl-C reaches the command; as a PID 1 without a handler it would survive, as a command it should not."""
    with Terminal([*RUN, "host", "python3", "-c", SLEEPER]) as terminal:
        terminal.expect("up")
        terminal.type("\x03")
        assert terminal.wait() == 128 + signal.SIGINT


def test_a_handler_inside_gets_the_interrupt(rootfs):
    script = "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.1; done"
    with Terminal([*RUN, "--rootfs", str(rootfs), "sh", "-c", script]) as terminal:
        terminal.expect("up")
        terminal.type("\x03")
        terminal.expect("caught")
        assert terminal.wait() == 9


def test_job_control(rootfs):
    """Ctrl-Z stops the container with us; fg lets both go on."""
    with Terminal(["bash", "--norc", "-i"]) as terminal:
        terminal.expect(PROMPT)
        script = "echo up; while :; do echo tick; sleep 0.1; done"
        terminal.type(" ".join(RUN) + f' --rootfs {rootfs} sh -c "{script}"\n')
        terminal.expect("tick\r\n.*tick\r\n")
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.expect(PROMPT)
        terminal.type("echo quiet; sleep 0.5; echo still\n")
        assert "tick" not in terminal.expect("quiet\r\n.*?still\r\n").group().partition("quiet\r\n")[2]
        terminal.type("fg\n")
        terminal.expect("tick\r\n.*tick\r\n")
        terminal.type("\x03")
        terminal.expect(PROMPT)
        terminal.type("exit\n")
        terminal.wait()


def test_typing_into_a_program_without_a_terminal(rootfs):
    with Terminal([*RUN, "-i", "--rootfs", str(rootfs), "sh", "-c", "tty; read line; echo got $line"]) as terminal:
        terminal.expect("not a tty")
        terminal.type("words\n")
        terminal.expect("got words")
        assert terminal.wait() == 0


def test_end_of_input(rootfs):
    with Terminal([*RUN, "-i", "--rootfs", str(rootfs), "sh", "-c", "echo up; cat; echo end"]) as terminal:
        terminal.expect("up")
        terminal.type("\x04")
        terminal.expect("end")
        assert terminal.wait() == 0


def test_a_full_terminal_does_not_keep_a_signal_away(rootfs):
    """Nobody reads the terminal: the container blocks, the supervisor does not."""
    with Terminal([*RUN, "--rootfs", str(rootfs), "sh", "-c", "echo up; yes"]) as terminal:
        terminal.expect("up")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM


@contextmanager
def started(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that has said "up", with no signal ignored, wherever the tests run."""
    argv = ["env", "--default-signal=HUP,INT,QUIT", *argv]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_ends_what_does_not_look_after_it(number):
    with started([*RUN, "host", "python3", "-c", SLEEPER]) as process:
        process.send_signal(number)
        assert process.wait(30) == 128 + number


@pytest.mark.parametrize("init", [(), ("--init",)])
def test_a_signal_is_passed_on(rootfs, init):
    script = "trap 'exit 5' USR1; echo up; while :; do sleep 0.1; done"
    with started([*RUN, *init, "--rootfs", str(rootfs), "sh", "-c", script]) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) == 5


def test_the_third_time_ends_it_anyway(rootfs):
    script = "trap 'echo again' INT; echo up; while :; do sleep 0.05; done"
    with started([*RUN, "--rootfs", str(rootfs), "sh", "-c", script]) as process:
        assert process.stdout
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "again\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT


def test_nohup(rootfs):
    script = "trap 'exit 4' TERM; trap 'echo hung up' HUP; echo up; while :; do sleep 0.05; done"
    with started(["nohup", *RUN, "--rootfs", str(rootfs), "sh", "-c", script]) as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 4
        assert process.stdout
        assert process.stdout.read() == ""


@contextmanager
def run_in_steps(directory: Path, last: bool, given: dict[str, list[str]]) -> Iterator[int]:
    """As `kist run --rm`, but the first process, born just now or about to become the command, opens the FIFOs `here`
    and `go`, for each of which it waits until somebody else does."""
    pid = os.fork()
    if pid == 0:
        try:
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            request = run_request(given, ("sleep", "600"), this_process())
            states = StateDirectory(os.environ["KIST_RUN_DIR"])
            made = make(request, own_stdio(request), states, attached=True)
            plan = list(made.compiled.plan)
            index = next(i for i, e in enumerate(plan) if e.actor == INIT and (not last or isinstance(e.step, Exec)))
            base = "/w" if last else str(directory)
            plan[index:index] = [
                Entry(Open(f"{base}/{name}", 0, Slots.COUNT - 1), INIT, "exec", "wait") for name in ("here", "go")
            ]
            become(tuple(plan), open_program(), made.kept_fds, ("false",))
        finally:
            os._exit(99)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("last", [False, True], ids=["born", "started"])
@pytest.mark.parametrize("init", [False, True], ids=["plain", "init"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_that_comes_before_the_command_ends_it(
    rootfs: Path, tmp_path: Path, number: int, init: bool, last: bool
) -> None:
    """What is sent to a PID 1 without a handler is lost."""
    directory = tmp_path / "w"
    directory.mkdir()
    for name in ("here", "go"):
        os.mkfifo(directory / name)
    given = {"rootfs": [str(rootfs)], "volume": [f"{directory}:/w"], "rm": ["true"]}
    with run_in_steps(directory, last, given | ({"init": ["true"]} if init else {})) as pid:
        os.close(os.open(directory / "here", os.O_WRONLY))
        os.kill(pid, number)
        status = Path(f"/proc/{pid}/status")
        wait_until(lambda: not int(status.read_text().split("ShdPnd:")[1].split()[0], 16) >> (number - 1) & 1)
        go = os.open(directory / "go", os.O_RDWR)  # which waits for nobody
        try:
            asked = (os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            wait_until(lambda: os.waitid(*asked))
            ended = os.waitid(*asked)
            assert ended and ended.si_status == 128 + number
        finally:
            os.close(go)
