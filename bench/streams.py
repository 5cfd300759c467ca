"""How long does exec take, and how fast does `logs -f` follow? kist beside podman and docker, taken in turns.

    python bench/streams.py [ROUNDS] [MEGABYTES]

exec: /bin/true in a container that runs, as a whole command. logs: a container prints lines of 100 bytes as fast as it
can, with `logs -f` behind it from the first one on; the time is until the last line has come. Engines without a running
daemon, or not installed, are left out.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

LINE = "x" * 99


def engines(directory: Path) -> dict[str, list[str]]:
    """Those that work here, with the image box:1 of one static program."""
    root = harness.busybox_rootfs(directory)
    archive = directory / "box.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    found = {"kist": [str(Path(sys.executable).with_name("kist"))]}
    found |= {name: [name] for name in ("podman", "docker") if shutil.which(name)}
    for name in list(found):
        done = subprocess.run([*found[name], "import", str(archive), "box:1"], capture_output=True, check=False)
        if done.returncode:
            print(f"{name}: left out: {done.stderr.decode().strip().splitlines()[-1:]}")
            del found[name]
    return found


def image(name: str) -> str:
    return "localhost/box:1" if name == "podman" else "box:1"


def flags(name: str) -> list[str]:
    return ["--network", "none"] if name != "kist" else []


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def exec_ms(cli: list[str]) -> float:
    begun = time.perf_counter()
    run([*cli, "exec", "bench-exec", "/bin/true"])
    return (time.perf_counter() - begun) * 1000


def follow_s(name: str, cli: list[str], megabytes: int) -> float:
    """Seconds until all lines have come. Raises ValueError when some are lost."""
    script = f"sleep 0.5; yes {LINE} | head -c {megabytes * 1000000}"
    run([*cli, "run", "-d", "--name", "bench-logs", *flags(name), image(name), "sh", "-c", script])
    try:
        begun, count = time.perf_counter() + 0.5, 0
        with subprocess.Popen([*cli, "logs", "-f", "bench-logs"], stdout=subprocess.PIPE) as reader:
            assert reader.stdout
            while data := reader.stdout.read1(1 << 20):  # type: ignore[attr-defined]
                count += len(data)
        if count != megabytes * 1000000:
            print(f"{name}: {count} of {megabytes * 1000000} bytes came")
        return time.perf_counter() - begun
    finally:
        run([*cli, "rm", "-f", "bench-logs"])


def main(rounds: int, megabytes: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        found = engines(Path(directory))
        times: dict[str, list[float]] = {name: [] for name in found}
        speeds: dict[str, list[float]] = {name: [] for name in found}
        for name, cli in found.items():
            run([*cli, "run", "-d", "--name", "bench-exec", *flags(name), image(name), "sleep", "100000"])
        try:
            for _ in range(rounds):
                for name, cli in found.items():
                    times[name].append(exec_ms(cli))
            for _ in range(3):
                for name, cli in found.items():
                    speeds[name].append(megabytes / follow_s(name, cli, megabytes))
        finally:
            for cli in found.values():
                run([*cli, "rm", "-f", "bench-exec"])
    for name in found:
        print(f"{name:8} exec {statistics.median(times[name]):7.1f} ms (best {min(times[name]):.1f})   "
              f"logs -f {statistics.median(speeds[name]):6.1f} MB/s (best {max(speeds[name]):.1f})")  # fmt: skip


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    main(*(numbers + [30, 100][len(numbers) :]))
