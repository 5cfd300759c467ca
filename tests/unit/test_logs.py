"""Logs: records to text, the last lines, and files that rotate away under a slow reader."""

import fcntl
import os
import threading
import time

import pytest

from kist.engine import log_files
from kist.engine.log_files import Follower, Gap, LogFiles
from kist.engine.log_records import Records, Shown
from kist.errors import InvalidInput
from kist.plan.moment import moment, stamp


def record(text: bytes, kind: bytes = b"stdout F", second: int = 0) -> bytes:
    return b"2026-11-26T11:37:%02d.123456789Z %s %s\n" % (second, kind, text)


def shown(chunks: list[bytes], **how) -> dict[int, bytes]:
    records, out = Records(Shown(**how)), {1: b"", 2: b""}
    for chunk in chunks:
        for stream, text in records.texts(chunk):
            out[stream] += text
    return out


def test_streams_parts_and_losses():
    log = record(b"one") + record(b"er", b"stderr P") + record(b"tw", b"stdout P") + record(b"r", b"stderr F")
    log += record(b"o") + record(b"4096", b"stdout L") + record(b"", b"stdout F") + record(b"end", b"stdout P")
    for cut in range(1, 8):
        lines = log.splitlines(keepends=True)
        out = shown([b"".join(lines[:cut]), b"".join(lines[cut:])])
        assert out[1] == b"one\ntwo\n\nend"
        assert out[2] == b"err\nkist: 4096 bytes of stdout were lost: disk full\n"


def test_timestamps_only_where_a_line_begins():
    log = record(b"a", b"stdout P", 1) + record(b"b", second=2) + record(b"c", second=3) + record(b"d", second=4)
    times = [b"2026-11-26T11:37:%02d.123456789Z" % second for second in (1, 3, 4)]
    assert shown([log], timestamps=True)[1] == b"%s ab\n%s c\n%s d\n" % tuple(times)


def test_since_and_until():
    log = b"".join(record(b"%d" % second, second=second) for second in range(10))
    low, high = (b"2026-11-26T11:37:%02d.000000000Z" % second for second in (3, 7))
    assert shown([log], since=low, until=high)[1] == b"3\n4\n5\n6\n"
    records = Records(Shown(until=high))
    list(records.texts(log))
    assert records.over


@pytest.mark.parametrize("runs", [1, 7, 8, 9, 50])
def test_runs_of_any_length(runs):
    log = record(b"o") * runs + record(b"e", b"stderr F") * runs + record(b"o") * runs
    assert shown([log]) == {1: b"o\n" * 2 * runs, 2: b"e\n" * runs}


@pytest.mark.parametrize(("lines", "expected"), [(0, b""), (1, b"fg"), (2, b"e\nfg"), (3, b"bcd\ne\nfg"), (99, None)])
def test_the_last_lines_over_several_files(tmp_path, lines, expected):
    parts = [record(b"a"), record(b"b", b"stdout P") + record(b"c", b"stdout P"), record(b"d") + record(b"e"),
             record(b"f", b"stdout P") + record(b"g", b"stdout P")]  # fmt: skip
    for number, part in enumerate(parts, 3):
        (tmp_path / f"log.{number}").write_bytes(part)
    files = LogFiles(f"{tmp_path}/log")
    offset = files.start_of_last(lines)
    chunks = []
    for chunk in files.read(offset):
        if not chunk:
            break
        chunks.append(chunk)
    files.close()
    assert shown(chunks)[1] == (b"a\nbcd\ne\nfg" if expected is None else expected)


def test_a_slow_reader_loses_nothing_that_is_rotated_away(tmp_path):
    """The writer waits only until each file was seen, and never for the reader, who sleeps until all is written."""
    lock = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    log = tmp_path / "files"
    log.mkdir()
    (log / "log.1").write_bytes(b"")
    files = LogFiles(f"{log}/log")
    follower = Follower(files, str(log), os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    expected = b""
    for number in range(1, 31):
        with open(log / f"log.{number}", "ab") as file:
            for line in range(100):
                text = b"%d-%d" % (number, line)
                file.write(record(text))
                expected += text + b"\n"
        deadline = time.monotonic() + 30
        while len(files.fds) < number:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        (log / f"log.{number}").unlink()
    releaser = threading.Timer(0.2, os.close, (lock,))
    releaser.start()
    chunks, ended = [], False
    for chunk in files.read():
        if chunk:
            chunks.append(chunk)
        elif ended:
            break
        elif follower.ended:
            follower.look()
            ended = True
        else:
            follower.wait()
    files.close()
    releaser.join()
    assert shown(chunks)[1] == expected


def test_a_gap_is_an_error(tmp_path):
    (tmp_path / "log.1").write_bytes(record(b"a"))
    files = LogFiles(f"{tmp_path}/log")
    (tmp_path / "log.5").write_bytes(record(b"b"))
    with pytest.raises(Gap, match="2 to 4"):
        files.open_new()
    files.close()


def test_what_is_held_for_a_slow_reader_has_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(log_files, "MOST_BYTES", 1000)
    (tmp_path / "log.1").write_bytes(record(b"a"))
    files = LogFiles(f"{tmp_path}/log")
    for number in range(2, 40):
        (tmp_path / f"log.{number}").write_bytes(record(b"a"))
    with pytest.raises(Gap, match="behind"):
        files.open_new()
    assert len(files.fds) == 1  # the rest of the disk is free
    files.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1136073600", 1136073600 * 10**9), ("1136073600.000000001", 1136073600 * 10**9 + 1),
     ("1970-01-01T00:00:01.5Z", 1_500_000_000), ("1970-01-01T01:00:00.000000002+01:00", 2),
     ("90m", 10**15 - 5400 * 10**9), ("1s", 10**15 - 10**9)],
)  # fmt: skip
def test_moments(text, expected):
    assert moment("--since", text, 10**15) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-11-26T11:37:29.Z", "1 h", "-"])
def test_no_moments(text):
    with pytest.raises(InvalidInput, match="--since"):
        moment("--since", text, 0)


def test_a_stamp_is_as_the_records_have_it():
    assert stamp(1_500_000_000) == b"1970-01-01T00:00:01.500000000Z"
