"""Containers that are kept: log, attaching, the record of the end, health, and the supervisor's own life and death."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from fcntl import F_OFD_SETLK, F_RDLCK, fcntl
from hashlib import sha256
from pathlib import Path
from struct import pack

import pytest

from kist.engine.prepare import Prepared, Source, setting_for
from kist.kernel.cgroup import remove_cgroups
from kist.kernel.launcher import Launcher
from kist.kernel.probe import probe
from kist.kernel.program import become, open_program
from kist.plan.request import RunRequest
from kist.plan.setting import Attend, Stdio
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.steps import Plan

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="needs root")
RECORD = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) ([FPL]) ([^\n]*)\n")
RATHER_S = 20


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + RATHER_S
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def unpacked(log: bytes) -> tuple[dict[str, bytes], dict[str, int]]:
    """What each stream said, and how much of it was lost. All of the log must be records."""
    said, lost, at = {"stdout": b"", "stderr": b""}, {"stdout": 0, "stderr": 0}, 0
    parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    for match in RECORD.finditer(log):
        assert match.start() == at, log[at : at + 200]
        at, stream = match.end(), match[1].decode()
        if match[2] == b"L":
            lost[stream] += int(match[3])
        else:
            parts[stream].append(match[3] + (b"\n" if match[2] == b"F" else b""))
    assert at == len(log), log[at : at + 200]
    return {stream: b"".join(parts[stream]) for stream in said}, lost


class Box:
    """A container of the host's own files, between its run directory (`run`) and what is kept of it (`data`)."""

    def __init__(self, path: Path) -> None:
        self.run, self.data = path / "run", path / "data"
        self.data.mkdir()
        self.launcher: Launcher | None = None
        self.pid = self.supervisor = 0
        self.cgroups: tuple[str, ...] = ()

    def compiled(
        self, command: tuple[str, ...], stdio: Stdio, *, tty: bool = False, attend: dict[str, object] | None = None,
        timeout_s: float | None = None, memory: int | None = None, logs: Path | None = None,
    ) -> Plan:  # fmt: skip
        for path in (self.run, self.run / "scratch"):
            path.mkdir()
        facts, request = probe(), RunRequest(image="host", command=command, tty=tty, timeout_s=timeout_s,
                                             memory_bytes=memory)  # fmt: skip
        source = Source(request, facts, str(self.run / "scratch"))
        removals = (str(self.run), *[str(self.run / name) for name in ("scratch", "attach")])
        setting = setting_for(request, os.urandom(32).hex(), source, stdio, removals, attached=not stdio.detached)
        told = Attend(str(logs or self.data / "log"), 20 << 20, 5, str(self.run / "attach"), str(self.data / "ended"))
        setting = replace(setting, attend=replace(told, **(attend or {})))
        made = Prepared(source.request, facts, setting, source).compiled
        self.cgroups = made.cgroup_paths
        return made.plan

    def start(
        self, *command: str, stdin: bool = False, environment: dict[str, str] | None = None, **how: object
    ) -> None:
        stdio = Stdio(stdin="pass" if stdin else "null", detached=True)
        plan, program = self.compiled(command, stdio, **how), open_program()  # type: ignore[arg-type]
        try:
            self.launcher = Launcher(plan, program, detached=True, environment=environment)
        finally:
            os.close(program)
        self.pid, self.supervisor = self.launcher.started()
        self.launcher.let_go()
        self.launcher = None

    def start_here(self, *command: str, stdio: tuple[int, int, int], relays: tuple[int, ...] = ()) -> None:
        """In the foreground: the process that would wait for it becomes its supervisor, on its own fds."""
        plan = self.compiled(command, Stdio(stdin="null", relays=relays))
        self.supervisor = os.fork()
        if self.supervisor == 0:
            try:
                for fd, given in enumerate(stdio):
                    os.dup2(given, fd)
                become(plan, open_program(), (), ("/bin/false",))
            finally:
                os._exit(99)

    def attach(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here = os.open(self.run, os.O_PATH)
        client.connect(f"/proc/self/fd/{here}/attach")
        os.close(here)
        client.settimeout(RATHER_S)
        return client

    @property
    def logs(self) -> list[Path]:
        return sorted(self.data.glob("log.[0-9]*"), key=lambda path: int(path.suffix[1:]))

    @property
    def said(self) -> bytes:
        """In whole records: the last one may be half written at this moment."""
        log = b"".join([path.read_bytes() for path in self.logs])
        return unpacked(log[: log.rfind(b"\n") + 1])[0]["stdout"]

    def end(self) -> dict[str, object]:
        """Wait for it. All that it needed on the host is gone, and what is known of its end is whole."""
        until(lambda: gone(self.supervisor))
        assert gone(self.pid)
        assert not self.run.exists()
        ended: dict[str, object] = json.loads((self.data / "ended").read_text())
        assert {path.name for path in self.data.iterdir()} == {"ended", *[path.name for path in self.logs]}
        return ended


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    if box.launcher:
        box.launcher.close()
    if box.supervisor and not gone(box.supervisor):
        os.kill(box.supervisor, signal.SIGKILL)
        until(lambda: gone(box.pid))
    remove_cgroups(box.cgroups)  # as a sweep does after a supervisor that was killed


def python(text: str, *words: str) -> tuple[str, ...]:
    return ("/usr/bin/python3", "-c", text, *words)


# --- the log


def test_log_holds_what_was_printed(box: Box) -> None:
    code = """if True:
        import os, random, sys
        chance = random.Random(int(sys.argv[1]))
        for _ in range(300):
            size = chance.choice([0, 1, 2, 40, 100, 5000, 70000])
            data = chance.randbytes(size) if chance.random() < 0.5 else b"x" * size
            data = data.replace(b"\\n", b"") if chance.random() < 0.3 else data + b"\\n" * chance.choice([0, 1, 1, 3])
            fd = chance.choice([1, 2])
            while data:
                data = data[os.write(fd, data):]
        os.write(1, b"no end\\0of line")
    """
    chance, expected = random.Random(7), {1: b"", 2: b""}
    for _ in range(300):
        size = chance.choice([0, 1, 2, 40, 100, 5000, 70000])
        data = chance.randbytes(size) if chance.random() < 0.5 else b"x" * size
        data = data.replace(b"\n", b"") if chance.random() < 0.3 else data + b"\n" * chance.choice([0, 1, 1, 3])
        expected[chance.choice([1, 2])] += data
    before = time.time()
    box.start(*python(code, "7"))
    assert box.end()["code"] == 0
    said, lost = unpacked(b"".join([path.read_bytes() for path in box.logs]))
    assert said == {"stdout": expected[1] + b"no end\0of line", "stderr": expected[2]}
    assert not any(lost.values())
    stamp = box.logs[0].read_bytes()[:19].decode()
    assert before - 1 <= time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S")) - time.timezone <= time.time()


def test_a_prompt_shows_at_once(box: Box) -> None:
    box.start("sh", "-c", "printf 'name? '; read name; echo $name; echo end", stdin=True)
    until(lambda: box.logs and box.logs[0].read_bytes().endswith(b" stdout P name? \n"))
    with box.attach() as client:
        client.send(b"dkist\n")
        assert box.end()["code"] == 0
    assert box.said == b"name? kist\nend\n"


def test_rotation_loses_nothing(box: Box) -> None:
    """Who opens each file before it is dropped has read all; a file holds whole records and no more than its limit."""
    command = "while read n; do seq $n $((n + 9999)); done"
    box.start("sh", "-c", command, stdin=True, attend={"log_bytes": 1 << 20, "log_count": 3})
    followed: dict[str, int] = {}
    with box.attach() as client:
        for n in range(1, 300_000, 10_000):  # little enough to open each file before it goes
            client.send(b"d%d\n" % n)
            until(lambda n=n: box.logs and box.logs[-1].read_bytes().endswith(b" F %d\n" % (n + 9999)))  # type: ignore[misc]
            followed |= {path.name: os.open(path, os.O_RDONLY) for path in box.logs if path.name not in followed}
        client.send(b"e")
        box.end()
    names = sorted(followed, key=lambda name: int(name[4:]))
    assert len(box.logs) == 3 and names == [f"log.{i}" for i in range(1, len(names) + 1)] and len(names) > 10
    whole = b""
    for name in names:
        with open(followed[name], "rb") as file:
            data = file.read()
        assert len(data) <= 1 << 20
        unpacked(data)
        whole += data
    assert unpacked(whole)[0]["stdout"] == b"".join([b"%d\n" % n for n in range(1, 300_001)])


@pytest.mark.parametrize(("followed", "kept"), [(5, 10), (15, 7), (0, 2)])
def test_a_gigabyte_more_is_kept_while_somebody_follows(box: Box, followed: int, kept: int) -> None:
    """Of files of 128 MiB, of which two are asked for."""
    size, record = 128 << 20, b"2026-11-26T11:37:29.123456789Z stdout F old\n"
    for number in range(1, 21):
        (box.data / f"log.{number}").write_bytes(record)
    with open(box.data / "log.20", "r+b") as file:  # the last one is full
        file.seek(size - len(record) - 1)
        file.write(b"\n" + record)
    with open(box.data / "log.followed", "w+b") as lock:
        if followed:
            fcntl(lock, F_OFD_SETLK, pack("hhxxxxqqixxxx", F_RDLCK, 0, followed, 0, 0))  # somebody reads that one
        box.start("echo", "new", attend={"log_bytes": size, "log_count": 2})
        until(lambda: gone(box.supervisor))
    assert [path.name for path in box.logs] == [f"log.{number}" for number in range(22 - kept, 22)]
    assert unpacked(box.logs[-1].read_bytes())[0]["stdout"] == b"new\n"


def test_many_that_were_kept_go_little_by_little(box: Box) -> None:
    for number in range(1, 201):
        (box.data / f"log.{number}").write_bytes(b"2026-11-26T11:37:29.123456789Z stdout F old\n")
    box.start("sh", "-c", "echo a; sleep 0.1; echo b; sleep 0.1; echo c; sleep 0.1; echo d",
              attend={"log_bytes": 1, "log_count": 2})  # fmt: skip
    box.end()
    assert [path.name for path in box.logs] == ["log.203", "log.204"]


def test_log_goes_on_where_it_was(box: Box) -> None:
    """And what a killed supervisor left half written is no record."""
    (box.data / "log.7").write_bytes(b"2026-11-26T11:37:29.123456789Z stdout F old\n2026-11-26T11:3")
    box.start("echo", "new")
    box.end()
    assert [path.name for path in box.logs] == ["log.7"]
    assert box.said == b"old\nnew\n"


@needs_root
def test_full_disk_stops_nobody(box: Box, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
    try:
        filler = small / "filler"
        filler.write_bytes(bytes(100 << 10))
        box.start(
            "sh",
            "-c",
            "seq 1 100000; echo; touch /tmp/done; read go; echo after; echo more",
            stdin=True,
            logs=small / "log",
        )
        with box.attach() as client:
            until(Path(f"/proc/{box.pid}/root/tmp/done").exists)
            filler.unlink()
            client.send(b"dgo\n")
            box.end()
        log = (small / "log.1").read_bytes()
    finally:
        subprocess.run(["umount", small], check=True)
    said, lost = unpacked(log)
    printed = b"".join([b"%d\n" % n for n in range(1, 100001)]) + b"\n"
    assert said["stdout"].endswith(b"after\nmore\n") and lost["stderr"] == 0
    assert len(said["stdout"]) + lost["stdout"] == len(printed) + len(b"after\nmore\n")
    before, _, after = log.partition(b" stdout L ")
    before = before[: before.rindex(b"\n") + 1]
    assert after and printed.startswith(unpacked(before)[0]["stdout"])


# --- attaching


def test_data_passes_intact(box: Box) -> None:
    """200 MB from one client, while another, which is dead, and one that only looks on are there."""
    box.start("sha256sum", stdin=True)
    with box.attach() as client, box.attach():
        box.attach().close()
        block, digest = random.Random(1).randbytes(60000), sha256()
        for n in range(3500):
            data = block[n:] + block[:n]
            digest.update(data)
            client.send(b"d" + data)
        client.send(b"e")
        assert box.end()["code"] == 0
    assert box.said.split()[0].decode() == digest.hexdigest()


def test_a_command_that_does_not_read(box: Box) -> None:
    """Its input waits, and only that: the log and others go on; nothing of it is lost in the end."""
    box.start("sh", "-c", "while ! [ -e /tmp/go ]; do sleep 0.05; done; echo said; wc -c", stdin=True)
    with box.attach() as client:
        client.setblocking(False)
        sent = 0
        try:
            while True:
                sent += client.send(b"d" + bytes(9999)) - 1
        except BlockingIOError:
            pass
        assert 65536 <= sent < 2 << 20
        Path(f"/proc/{box.pid}/root/tmp/go").touch()
        until(lambda: box.said)
        client.setblocking(True)
        client.send(b"e")
        box.end()
    assert box.said.split() == [b"said", b"%d" % sent]


def test_sixteen_clients_and_the_next_one_waits(box: Box) -> None:
    box.start("cat", stdin=True)
    clients = [box.attach() for _ in range(17)]
    for n, client in enumerate(clients):
        client.send(b"d%d\n" % n)
    until(lambda: len(box.said.split()) == 16)
    clients[3].close()
    until(lambda: len(box.said.split()) == 17)
    clients[5].send(b"e")
    box.end()
    assert sorted(map(int, box.said.split())) == list(range(17))
    for client in clients:
        client.close()


def test_terminal(box: Box) -> None:
    command = "until [ \"$(stty size)\" = '33 77' ]; do sleep 0.02; done; echo sized; read word; echo got $word; exit 3"
    box.start("sh", "-c", command, tty=True, stdin=True)
    with box.attach() as client:
        client.send(b"w" + pack("HH", 33, 77))
        until(lambda: box.said == b"sized\r\n")
        client.send(b"e")  # a terminal has no end
        client.send(b"dword\n")
        assert box.end()["code"] == 3
    assert box.said == b"sized\r\nword\r\ngot word\r\n"


# --- in the foreground


def test_foreground_output_goes_to_the_caller_and_the_log(box: Box, tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb+") as out, open(tmp_path / "err", "wb+") as err, open("/dev/null", "rb") as null:
        out.write(b"before\n")
        out.flush()
        command = ("sh", "-c", "seq 1 50000; echo wrong >&2; printf end; exit 5")
        box.start_here(*command, stdio=(null.fileno(), out.fileno(), err.fileno()))
        _, status = os.waitpid(box.supervisor, 0)
        assert os.waitstatus_to_exitcode(status) == 5
    printed = b"".join([b"%d\n" % n for n in range(1, 50_001)]) + b"end"
    assert (tmp_path / "out").read_bytes() == b"before\n" + printed
    assert (tmp_path / "err").read_bytes() == b"wrong\n"
    assert box.end()["code"] == 5
    log = b"".join([path.read_bytes() for path in box.logs])
    assert unpacked(log)[0] == {"stdout": printed, "stderr": b"wrong\n"}


def test_a_caller_that_reads_no_more(box: Box) -> None:
    """As without a log: the command cannot write any more. Here it would write without end."""
    ours, theirs = os.pipe()
    with open("/dev/null", "rb") as null:
        box.start_here("yes", stdio=(null.fileno(), theirs, null.fileno()))
    os.close(theirs)
    assert os.read(ours, 4) == b"y\ny\n"
    os.close(ours)
    _, status = os.waitpid(box.supervisor, 0)
    assert os.waitstatus_to_exitcode(status) in (1, 128 + signal.SIGPIPE)
    box.end()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_slow_caller_pushes_back_and_blocks_nobody(box: Box, kind: str) -> None:
    """The command waits for who reads its output, as without a log; signals and those who attach get through."""
    ours, theirs = os.pipe() if kind == "pipe" else [end.detach() for end in socket.socketpair()]
    with open("/dev/null", "rb") as null:
        code = (
            "trap 'exit 7' TERM; echo started >&2; head -c 3000000 /dev/zero | tr '\\0' x; while :; do sleep 0.02; done"
        )
        box.start_here("sh", "-c", code, stdio=(null.fileno(), theirs, null.fileno()))
    os.close(theirs)
    until(lambda: box.logs and box.said)
    size = 0
    while size != (size := box.logs[0].stat().st_size):
        time.sleep(0.2)
    assert len(box.said) < 1_500_000
    with box.attach() as client:
        client.send(b"w" + pack("HH", 1, 1))
    data = b""
    while len(data) < 3_000_000:
        data += os.read(ours, 1 << 16)
    os.kill(box.supervisor, signal.SIGTERM)
    _, status = os.waitpid(box.supervisor, 0)
    os.close(ours)
    assert os.waitstatus_to_exitcode(status) == 7 and data == b"x" * 3_000_000
    box.end()
    assert box.said == data


# --- the end


def test_exit_status_and_signal(box: Box) -> None:
    box.start("sh", "-c", "exit 3")
    now, ended = time.time_ns(), box.end()
    assert (ended["code"], ended["signaled"], ended["timed_out"]) == (3, False, False)
    assert abs(int(str(ended["ended_ns"])) - now) < 5e9
    reports = ended["reports"]
    assert isinstance(reports, dict) and (not ROOT or any(name.startswith("memory.") for name in reports))
    assert all(isinstance(ended[key], int) for key in ("wall_ns", "user_us", "system_us", "max_rss_bytes"))


@needs_root
def test_out_of_memory_is_reported(box: Box) -> None:
    box.start(*python("b = [bytearray(1 << 20) for _ in range(500)]"), memory=32 << 20)
    ended = box.end()
    assert ended["code"] == 137 and ended["signaled"]
    assert "oom_kill 1" in json.dumps(ended["reports"]).replace("\\n", " ")


def test_timeout(box: Box) -> None:
    box.start("sleep", "1000", timeout_s=0.3)
    ended = box.end()
    assert (ended["code"], ended["signaled"], ended["timed_out"]) == (137, True, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(box: Box, number: int) -> None:
    """Also to a first process that would not hear them, being number 1."""
    box.start("sleep", "1000")
    os.kill(box.supervisor, number)
    assert box.end()["code"] == 128 + number


def test_a_caught_signal(box: Box) -> None:
    box.start("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    until(lambda: box.said)
    os.kill(box.supervisor, signal.SIGTERM)
    assert box.end()["code"] == 7


def test_no_container_without_its_supervisor(box: Box) -> None:
    box.start("sleep", "1000")
    os.kill(box.supervisor, signal.SIGKILL)
    until(lambda: gone(box.pid))
    assert not (box.data / "ended").exists()


def test_after(box: Box) -> None:
    """It begins when nothing is left, with the environment that the supervisor was started with."""
    path = box.data.parent / "after"
    text = f"{{ ls -d {box.run}; cat {box.data}/ended; echo $MARK; ls -l /proc/self/fd; echo all; }} > {path} 2>&1"
    box.start("sh", "-c", "exit 4", attend={"after": ("/bin/sh", "-c", text)}, environment={"MARK": "mark-1"})
    assert box.end()["code"] == 4
    until(lambda: path.exists() and path.read_text().endswith("all\n"))
    told = path.read_text()
    assert "No such file" in told.split("\n")[0] and '"code":4' in told and "mark-1" in told
    assert "memfd" not in told and " 0 -> /dev/null" in told


def test_failure_to_start_leaves_nothing(box: Box) -> None:
    from kist.errors import KistError

    with pytest.raises(KistError):
        box.start("/nowhere", attend={"after": ("/bin/sh", "-c", f"echo > {box.data}/after")})
    assert not box.run.exists()
    assert [path.name for path in box.data.iterdir()] == ["log.1"]


# --- health, and the supervisor itself


def test_health_is_asked_again_and_again(box: Box) -> None:
    path = box.data.parent / "health"
    check = ("/bin/sh", "-c", f"echo $MARK >> {path}; readlink /proc/self/fd/0 >> {path}")
    box.start("cat", stdin=True, attend={"health": check, "health_ms": 20}, environment={"MARK": "m"})
    until(lambda: path.exists() and path.read_text().count("m\n") > 3)
    with box.attach() as client:
        client.send(b"e")
        assert box.end()["code"] == 0
    assert set(path.read_text().split()) == {"m", "/dev/null"}


def test_a_hanging_health_check_disturbs_nobody(box: Box) -> None:
    path = box.data.parent / "health"
    check = ("/bin/sh", "-c", f"echo $$ >> {path}; exec sleep 1000")
    box.start("cat", stdin=True, attend={"health": check, "health_ms": 10})
    until(lambda: path.exists() and path.read_text())
    with box.attach() as client:
        client.send(b"dstill here\n")
        until(lambda: box.said == b"still here\n")
        client.send(b"e")
        box.end()
    (pid,) = path.read_text().split()
    assert gone(int(pid))


def test_the_supervisor_is_small_and_nobodys(box: Box) -> None:
    box.start("sh", "-c", "seq 1 10000; echo ready >&2; sleep 1000")
    until(lambda: b"ready" in b"".join([path.read_bytes() for path in box.logs]))
    base = Path(f"/proc/{box.supervisor}")
    private = re.findall(r"^Private_\w+: +(\d+) kB", (base / "smaps_rollup").read_text(), re.MULTILINE)
    assert sum(map(int, private)) < 300
    assert (base / "comm").read_text().startswith("kist ")
    assert (base / "cmdline").read_bytes().startswith(b"kist ")
    assert {os.readlink(base / "fd" / str(fd)) for fd in range(3)} == {"/dev/null"}
    fields = (base / "stat").read_text().rpartition(")")[2].split()
    parent, session = int(fields[1]), int(fields[3])
    assert parent != os.getpid() and session == box.supervisor

    def wakes_up() -> bool:
        switches = [
            re.findall(r"^voluntary.*", (base / "status").read_text(), re.MULTILINE)
            for _ in "ab"
            if not time.sleep(0.2)
        ]
        return switches[0] != switches[1]

    until(lambda: not wakes_up())
    os.kill(box.supervisor, signal.SIGTERM)
    box.end()
