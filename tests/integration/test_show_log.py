"""What a log says, as it was printed: the reader beside the writer, and files that come and go under it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fcntl import F_OFD_GETLK, F_UNLCK, F_WRLCK, fcntl
from pathlib import Path
from struct import pack, unpack

import pytest

from kist.engine.log_files import LogFiles, Place
from kist.errors import StepFailed
from kist.kernel.launcher import Launcher
from kist.kernel.program import open_program
from kist.plan.steps import HOST, Entry, ShowLog

RATHER_S = 20


def record(text: bytes, kind: bytes = b"stdout F", second: int = 0) -> bytes:
    return b"2026-11-26T11:37:%02d.123456789Z %s %s\n" % (second, kind, text)


class Shown:
    """A reader of `log.N` in a directory; following, until `end`."""

    def __init__(
        self, directory: Path, *, place: Place | None = None, timestamps: bool = False, since: str = "",
        until: str = "", follow: bool = False, stdout: int = -1, lock: int = -1,
    ) -> None:  # fmt: skip
        place = place or Place()
        step = ShowLog(f"{directory}/log", max(lock, 0), place.number, place.offset, int(timestamps), since, until,
                       int(follow))  # fmt: skip
        over, self._end = os.pipe2(os.O_CLOEXEC)
        self.fds = [os.memfd_create(name) for name in ("out", "err")]
        program = open_program()
        fds = (over, stdout if stdout >= 0 else self.fds[0], self.fds[1])
        self.launcher = Launcher(
            (Entry(step, HOST, "exec", "as it was printed"),), program, fds, [lock] if lock >= 0 else []
        )
        os.close(program)
        os.close(over)

    def so_far(self, stream: int = 1) -> bytes:
        fd = self.fds[stream - 1]
        return os.pread(fd, os.fstat(fd).st_size, 0)

    def await_text(self, text: bytes) -> None:
        deadline = time.monotonic() + RATHER_S
        while self.so_far() != text:
            assert time.monotonic() < deadline, self.so_far()[-200:]
            time.sleep(0.005)

    def end(self) -> dict[int, bytes]:
        os.close(self._end)
        self._end = -1
        self.launcher.end()
        return {stream: self.so_far(stream) for stream in (1, 2)}

    def close(self) -> None:
        if self._end >= 0:
            os.close(self._end)
        self.launcher.close()
        for fd in self.fds:
            os.close(fd)


Show = Callable[..., Shown]


@pytest.fixture
def show(log: Path) -> Iterator[Show]:
    made: list[Shown] = []

    def one(**how: object) -> Shown:
        made.append(Shown(log, **how))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for shown in made:
        shown.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


def test_streams_parts_and_losses(log: Path, show: Show) -> None:
    text = record(b"one") + record(b"er", b"stderr P") + record(b"tw", b"stdout P") + record(b"r", b"stderr F")
    text += record(b"o") + record(b"4096", b"stdout L") + record(b"", b"stdout F") + record(b"end", b"stdout P")
    lines = text.splitlines(keepends=True)
    for cut in range(1, 8):
        (log / "log.1").write_bytes(b"".join(lines[:cut]))
        (log / "log.2").write_bytes(b"".join(lines[cut:]))
        out = show().end()
        assert out == {1: b"one\ntwo\n\nend", 2: b"err\nkist: 4096 bytes of stdout were lost: disk full\n"}


def test_timestamps_only_where_a_line_begins(log: Path, show: Show) -> None:
    (log / "log.1").write_bytes(record(b"a", b"stdout P", 1) + record(b"b", second=2))
    (log / "log.2").write_bytes(record(b"c", second=3) + record(b"e", b"stderr F", 4) + record(b"d", second=5))
    times = [b"2026-11-26T11:37:%02d.123456789Z" % second for second in (1, 3, 5, 4)]
    out = show(timestamps=True).end()
    assert (out[1], out[2]) == (b"%s ab\n%s c\n%s d\n" % tuple(times[:3]), b"%s e\n" % times[3])


def test_since_and_until(log: Path, show: Show) -> None:
    (log / "log.1").write_bytes(b"".join(record(b"%d" % second, second=second) for second in range(10)))
    low, high = (f"2026-11-26T11:37:{second:02}.000000000Z" for second in (3, 7))
    assert show(since=low, until=high).end()[1] == b"3\n4\n5\n6\n"
    following = show(until=high, follow=True)
    following.launcher.end()  # it does not wait for more
    assert following.end()[1] == b"0\n1\n2\n3\n4\n5\n6\n"


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4095, 65535, 65536])
def test_records_of_any_length(log: Path, show: Show, size: int) -> None:
    """Around what is read, and printed, at once."""
    text, count = b"x" * size, min(5000, (3 << 20) // (size + 41))
    (log / "log.1").write_bytes((record(text) + record(text, b"stderr F") + record(text, b"stdout P")) * count)
    assert show().end() == {1: (text + b"\n" + text) * count, 2: (text + b"\n") * count}


def test_what_is_no_record_is_left_out(log: Path, show: Show) -> None:
    garbage = [b"\n", b"short\n", b"x" * 300_000 + b"\n", b"\0" * 100 + b"\n", record(b"?", b"stdout Q"), b"no end"]
    (log / "log.1").write_bytes(b"".join(record(b"%d" % i) + text for i, text in enumerate(garbage)))
    (log / "log.2").write_bytes(b"y" * 1_000_000)
    (log / "log.3").write_bytes(record(b"last"))
    (log / "log.x").write_bytes(record(b"no file of the log"))
    (log / "log.04").write_bytes(record(b"nor this"))
    assert show().end()[1] == b"0\n1\n2\n3\n4\n5\nlast\n"


@pytest.mark.parametrize(("lines", "expected"), [(0, b""), (1, b"fg"), (2, b"e\nfg"), (3, b"bcd\ne\nfg"), (99, None)])
def test_the_last_lines_over_several_files(log: Path, show: Show, lines: int, expected: bytes | None) -> None:
    parts = [record(b"a"), record(b"b", b"stdout P") + record(b"c", b"stdout P"), record(b"d") + record(b"e"),
             record(b"f", b"stdout P") + record(b"g", b"stdout P")]  # fmt: skip
    for number, part in enumerate(parts, 3):
        (log / f"log.{number}").write_bytes(part)
    with LogFiles(f"{log}/log", 99) as files:
        assert show(place=files.start_of_last(lines)).end()[1] == (
            expected if expected is not None else b"a\nbcd\ne\nfg"
        )


def test_a_reader_comes_before_the_first_file_and_sees_all(log: Path, show: Show) -> None:
    shown, said = show(follow=True), b""
    for number in range(1, 40):
        with open(log / f"log.{number}", "ab", buffering=0) as file:
            for part in (record(b"%d" % number)[:45], record(b"%d" % number)[45:], record(b"end", b"stdout P")):
                file.write(part)  # a record is whole only in the end
        said += b"%d\nend" % number
        if number % 5 == 0:
            shown.await_text(said)
    assert shown.end()[1] == said


def test_a_part_of_a_record_that_is_cut_off_is_not_shown(log: Path, show: Show) -> None:
    """By a full disk, or as the supervisor was killed; what comes then is in its place."""
    file = log / "log.1"
    file.write_bytes(record(b"one") + record(b"two")[:42])
    shown = show(follow=True)
    shown.await_text(b"one\n")
    os.truncate(file, len(record(b"one")))
    with open(file, "ab") as more:
        more.write(record(b"three") + record(b"four"))
    assert shown.end()[1] == b"one\nthree\nfour\n"


def test_a_gap_is_an_error(log: Path, show: Show) -> None:
    (log / "log.1").write_bytes(record(b"a"))
    shown = show(follow=True)
    shown.await_text(b"a\n")
    (log / "log.1").unlink()
    (log / "log.3").write_bytes(record(b"b"))
    with pytest.raises(StepFailed, match="ENODATA"):
        shown.end()


def test_a_reader_of_an_unlinked_file_goes_on_with_the_next(log: Path, show: Show) -> None:
    (log / "log.1").write_bytes(record(b"a"))
    shown = show(follow=True)
    shown.await_text(b"a\n")
    (log / "log.1").unlink()  # a log of one file: the next one is made a moment later
    (log / "log.2").write_bytes(record(b"b"))
    shown.await_text(b"a\nb\n")
    assert shown.end()[1] == b"a\nb\n"


def test_who_is_not_read_any_more_ends(log: Path, show: Show) -> None:
    """At once, also when nothing comes."""
    (log / "log.1").write_bytes(record(b"a"))
    read, write = os.pipe()
    shown = show(follow=True, stdout=write)
    os.close(write)
    assert os.read(read, 10) == b"a\n"
    os.close(read)
    with pytest.raises(StepFailed, match="EPIPE"):
        shown.launcher.end()


def test_a_terminal_or_pipe_that_is_full_and_does_not_block(log: Path, show: Show) -> None:
    text = record(b"x" * 1000) * 1000
    (log / "log.1").write_bytes(text)
    read, write = os.pipe2(os.O_NONBLOCK)
    shown, got = show(stdout=write), b""
    os.close(write)
    os.set_blocking(read, True)
    while data := os.read(read, 1 << 16):
        got += data
    os.close(read)
    shown.end()
    assert got == (b"x" * 1000 + b"\n") * 1000


def test_who_starts_it_takes_it_along(log: Path) -> None:
    script = f"""if True:
        import os, sys
        from pathlib import Path
        sys.path[:0] = {sys.path!r}
        from test_show_log import Shown
        print(Shown(Path({str(log)!r}), follow=True).launcher.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True,
                          check=False)  # fmt: skip
    await_end(int(done.stdout))


def test_one_that_comes_too_late_for_its_reader_shows_nothing(log: Path) -> None:
    """The reader is killed before its launcher has asked to be told of that; nobody takes what it says."""
    (log / "log.1").write_bytes(record(b"x" * 999) * 999)
    ear, said = os.pipe()
    script = f"""if True:
        import os, sys
        from pathlib import Path
        sys.path[:0] = {sys.path!r}
        from kist.kernel import launcher
        from test_show_log import Shown

        def spawn(program, stdio, name, given, environment):
            reader = os.getpid()
            if pid := os.fork():
                return pid
            for number, fd in enumerate(stdio):
                os.dup2(fd, number)
            for fd in given:
                os.set_inheritable(fd, True)
            while os.getppid() == reader:
                pass
            os.execv(f"/proc/self/fd/{{program}}", [name, *map(str, given)])

        launcher._spawn = spawn
        print(Shown(Path({str(log)!r}), stdout={said}).launcher.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True,
                          check=False, pass_fds=[said])  # fmt: skip
    await_end(int(done.stdout))
    os.close(ear)
    os.close(said)


def await_end(pid: int) -> None:
    deadline = time.monotonic() + RATHER_S
    while Path(f"/proc/{pid}/stat").exists() and ") Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- the files


@pytest.fixture
def lost_and_found(log: Path) -> Iterator[Path]:
    for number in range(1, 11):
        (log / f"log.{number}").write_bytes(record(b"%d" % number))
    yield log


def left(log: Path) -> list[int]:
    names = [path.name for path in log.iterdir()]
    return sorted(int(name[4:]) for name in names if re.fullmatch(r"log\.\d+", name))


def is_needed(log: Path, number: int) -> bool:
    """As its supervisor asks."""
    with open(log / "log.followed", "r+b") as file:
        found = fcntl(file, F_OFD_GETLK, pack("hhxxxxqqixxxx", F_WRLCK, 0, 0, number + 1, 0))
    return unpack("hhxxxxqqixxxx", found)[0] != F_UNLCK


def test_what_was_kept_for_the_last_reader_goes_with_it(lost_and_found: Path) -> None:
    log = lost_and_found
    with LogFiles(f"{log}/log", 3):
        with LogFiles(f"{log}/log", 3):
            assert is_needed(log, 1)
        assert left(log) == list(range(1, 11))
    assert left(log) == [8, 9, 10] and not is_needed(log, 99)


def test_what_was_shown_is_needed_no_more(lost_and_found: Path, show: Show) -> None:
    log = lost_and_found
    with LogFiles(f"{log}/log", 3) as files:
        place = files.start_of_last(7)
        with LogFiles(f"{log}/log", 3):
            pass  # takes nothing away from the others
        assert left(log) == list(range(1, 11))
        shown = show(follow=True, lock=files.lock, place=place)
        shown.await_text(b"".join(b"%d\n" % number for number in range(4, 11)))
        assert [number for number in range(1, 13) if is_needed(log, number)] == [10, 11, 12]
        (log / "log.11").write_bytes(record(b"11"))
        shown.await_text(b"".join(b"%d\n" % number for number in range(4, 12)))
        assert not is_needed(log, 10) and is_needed(log, 11)
        with LogFiles(f"{log}/log", 3):
            pass
        assert left(log) == [9, 10, 11]
        shown.end()


def test_a_reader_beside_a_fast_writer_misses_nothing(log: Path, show: Show) -> None:
    """200 files, each complete as soon as there is a next one, and removed as soon as that many more are there."""
    shown, said, ended = show(follow=True), [], threading.Event()

    def write() -> None:
        for number in range(1, 201):
            with open(log / f"log.{number}", "ab", buffering=0) as file:
                for line in range(100):
                    said.append(b"%d-%d\n" % (number, line))
                    file.write(record(said[-1][:-1]))
            if number > 150:
                (log / f"log.{number - 150}").unlink()
        ended.set()

    threading.Thread(target=write).start()
    assert ended.wait(RATHER_S)
    assert shown.end()[1] == b"".join(said)
