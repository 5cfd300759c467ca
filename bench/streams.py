"""How long does exec take, and what does `logs -f` bring of a fast container? kist beside podman and docker, in turn.

    python bench/streams.py [ROUNDS] [MEGABYTES] [ENGINE...]    30, 1000, and all; as root

exec: /bin/true in a container that runs, as a whole command.

logs -f: a container prints numbered lines of 100 bytes, from a pipe that is filled from outside: 100 MB a second, or as
fast as they are taken. `logs -f` is there before the first one. Each byte that comes is compared with what was printed,
and lines that are missing, repeated or broken are counted; the speed is that of the whole way, until the last line has
come. With each engine's own log, and with files of 1 MB of which three are kept.
"""

from __future__ import annotations

import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import harness
from density import Engine, engines

LINE_BYTES = 100
PACE_BYTES_S = 100_000_000
PIECE_BYTES = 1_000_000
SMALL = {
    "kist": ["--log-opt", "max-size=1m", "--log-opt", "max-file=3"],
    "docker": ["--log-opt", "max-size=1m", "--log-opt", "max-file=3"],
    "podman": ["--log-driver", "k8s-file", "--log-opt", "max-size=1mb"],
}


def write_lines(path: Path, count: int) -> None:
    tail = b" " + b"x" * (LINE_BYTES - 11) + b"\n"
    with open(path, "wb") as file:
        for start in range(0, count, 100_000):
            file.write(b"".join([b"%09d" % n + tail for n in range(start, min(start + 100_000, count))]))


@dataclass
class Came:
    """What a follower brought."""

    megabytes_s: float
    missing: int = 0
    repeated: int = 0
    broken: int = 0


class Counter:
    """Compares what comes with what was printed; where it differs, line by line."""

    def __init__(self, lines: mmap.mmap) -> None:
        self.lines, self.view, self.at = lines, memoryview(lines), 0
        self.rest, self.next, self.differs = b"", 0, False
        self.missing = self.repeated = self.broken = 0

    def take(self, data: bytes) -> None:
        if not self.differs:
            if self.view[self.at : self.at + len(data)] == data:
                self.at += len(data)
                return
            self.differs, whole = True, self.at - self.at % LINE_BYTES
            self.next, self.rest = whole // LINE_BYTES, self.lines[whole : self.at]
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._line(line)

    def _line(self, line: bytes) -> None:
        number = int(line[:9]) if line[:9].isdigit() else -1
        if number < 0 or self.lines[number * LINE_BYTES : (number + 1) * LINE_BYTES - 1] != line:
            self.broken += 1
        elif number < self.next:
            self.repeated += 1
        else:
            self.missing += number - self.next
            self.next = number + 1

    def end(self) -> None:
        done = self.next if self.differs else self.at // LINE_BYTES
        self.missing += len(self.lines) // LINE_BYTES - done
        self.view.release()


def feed(path: Path, lines: mmap.mmap, pace_bytes_s: int) -> None:
    with open(path, "wb", buffering=0) as pipe, memoryview(lines) as view:
        began = time.perf_counter()
        for start in range(0, len(lines), PIECE_BYTES):
            if pace_bytes_s:
                time.sleep(max(began + start / pace_bytes_s - time.perf_counter(), 0))
            piece = view[start : start + PIECE_BYTES]
            while piece:
                piece = piece[pipe.write(piece) :]
        del piece


def follow(engine: Engine, directory: Path, lines: mmap.mmap, flags: list[str], pace_bytes_s: int) -> Came:
    pipe = directory / "pipe"
    os.mkfifo(pipe)
    volume = ["-v", f"{pipe}:/pipe"]
    try:
        engine("run", "-d", "--name", "log", *engine.run, *flags, *volume, *engine.image, "sh", "-c",
               "echo; exec cat /pipe")  # fmt: skip
        counter, argv = Counter(lines), [*engine.argv, "logs", "-f", "log"]
        with subprocess.Popen(argv, env=engine.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
            assert reader.stdout and reader.stderr
            assert reader.stdout.read(1) == b"\n"  # it follows
            began = time.perf_counter()
            feeder = threading.Thread(target=feed, args=(pipe, lines, pace_bytes_s))
            feeder.start()
            said: list[bytes] = []
            hearer = threading.Thread(target=lambda: said.append(reader.stderr.read()))  # type: ignore[union-attr]
            hearer.start()
            while data := os.read(reader.stdout.fileno(), 1 << 20):
                counter.take(data)
            took = time.perf_counter() - began
            feeder.join()
            hearer.join()
        counter.end()
        if reader.returncode or said[0]:
            print(f"{engine.name}: logs -f: {reader.returncode} {said[0].decode(errors='replace')[-200:]}")
        return Came(len(lines) / 1e6 / took, counter.missing, counter.repeated, counter.broken)
    finally:
        engine("rm", "-f", "log")
        pipe.unlink()


def show(title: str, came: dict[str, list[Came]]) -> None:
    print(title)
    print(
        f"{'':<12}{'MB/s':>8}{'least':>8}{'most':>8}{'missing':>12}{'repeated':>12}{'broken':>10}   lines, in all runs"
    )
    for name, runs in came.items():
        speeds = [run.megabytes_s for run in runs]
        sums = [sum(getattr(run, what) for run in runs) for what in ("missing", "repeated", "broken")]
        print(f"{name:<12}{statistics.median(speeds):>8.0f}{min(speeds):>8.0f}{max(speeds):>8.0f}"
              f"{sums[0]:>12}{sums[1]:>12}{sums[2]:>10}")  # fmt: skip


def main(rounds: int, megabytes: int, names: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        write_lines(directory / "lines", megabytes * 10_000)
        with harness.own_dockerd(directory) as docker_host, open(directory / "lines", "rb") as file:
            lines = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            found = [engine for engine in engines(directory, docker_host) if not names or engine.name in names]
            for engine in found:
                engine("run", "-d", "--name", "exec", *engine.run, *engine.image, "sleep", "100000")
            cases = {engine.name: (lambda e=engine: e("exec", "exec", "/bin/true")) for engine in found}
            times = harness.interleave(cases, rounds)
            for engine in found:
                engine("rm", "-f", "exec")
            versions = {e.name: harness.version(e.argv[0], "--version") for e in found}
            harness.report("exec /bin/true", times, versions, base="kist", digits=1)
            for small in (False, True):
                for pace in (PACE_BYTES_S, 0):
                    came: dict[str, list[Came]] = {engine.name: [] for engine in found}
                    for _ in range(max(rounds // 6, 1)):
                        for engine in found:
                            flags = SMALL[engine.name] if small else []
                            came[engine.name].append(follow(engine, directory, lines, flags, pace))
                    show(f"logs -f of {megabytes} MB {'at 100 MB/s' if pace else 'as fast as they are taken'}, "
                         f"{'files of 1 MB' if small else 'its own log'}", came)  # fmt: skip
            print(f"load {os.getloadavg()[1]:.1f}")
            lines.close()
        subprocess.run(["umount", f"{directory}/podman/overlay"], capture_output=True, check=False)


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:] if text.isdigit()]
    rounds, megabytes = numbers + [30, 1000][len(numbers) :]
    main(rounds, megabytes, [text for text in sys.argv[1:] if not text.isdigit()])
