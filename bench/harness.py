"""Interleaved timing: every case once a round, in turn, so that a noisy machine is noisy for all of them alike."""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

Case = Callable[[], object]


def command(*argv: str, cwd: str | Path | None = None, env: Mapping[str, str] | None = None) -> Case:
    """A case that runs a program and fails with it."""

    def run() -> None:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(argv)}: status {done.returncode}: {done.stderr.decode(errors='replace')[-400:]}"
            )

    return run


def interleave(cases: Mapping[str, Case], rounds: int, *, warmup: int = 2) -> dict[str, list[float]]:
    """Milliseconds of each call, by case; the order is another one in each round, so that none always pays for what the
    same other has left to the kernel. A case that fails in the warm-up is left out, and said so."""
    alive = dict(cases)
    for name, case in cases.items():
        try:
            for _ in range(warmup):
                case()
        except Exception as e:
            print(f"left out: {name}: {e}", file=sys.stderr)
            del alive[name]
    times: dict[str, list[float]] = {name: [] for name in alive}
    order, shuffle = list(alive.items()), random.Random(1).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name, case in order:
            began = time.perf_counter()
            case()
            times[name].append((time.perf_counter() - began) * 1000)
    return times


def cpu_ms() -> float:
    """Processor time of all children that ended, in milliseconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1000


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def version(*argv: str) -> str:
    if not shutil.which(argv[0]):
        return ""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def report(
    question: str, times: Mapping[str, Sequence[float]], versions: Mapping[str, str], *, base: str, digits: int = 2
) -> None:
    """A table, and one line of JSON: median, p95 and the ratio base/case of the medians."""
    rows = {}
    for name, values in times.items():
        median = statistics.median(values)
        ratio = statistics.median(times[base]) / median if base in times else 0.0
        rows[name] = {
            "median_ms": round(median, digits),
            "p95_ms": round(percentile(values, 95), digits),
            "ratio": round(ratio, 3),
        }
    print(question)
    print(f"{'':<34}{'median ms':>10}{'p95 ms':>10}{base + ' / this':>26}")
    for name, row in rows.items():
        print(f"{name:<34}{row['median_ms']:>10.{digits}f}{row['p95_ms']:>10.{digits}f}{row['ratio']:>26.2f}")
    host = {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version(),
            "load": round(os.getloadavg()[1], 1)}  # fmt: skip
    print(json.dumps({"question": question, "rows": rows, "versions": dict(versions), "host": host}))


def busybox_rootfs(directory: Path) -> Path:
    """A root file system of one static program: `true`, `sh` and the like."""
    root = directory / "rootfs"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    busybox = shutil.which("busybox")
    if not busybox:
        sys.exit("this needs busybox: apt-get install busybox-static")
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("true", "sh", "sleep", "cat", "ls"):
        (root / "bin" / name).unlink(missing_ok=True)
        (root / "bin" / name).symlink_to("busybox")
    return root


@contextmanager
def own_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A new ext4 with a journal in a file below `directory`, for root; else a plain directory.

    For whoever makes and deletes many files: without a journal ext4 looks, for each new one, through all inodes that
    were deleted in the last minutes (linux/fs/ext4/ialloc.c, recently_deleted), which makes rounds slower and slower.
    """
    disk, place = directory / "disk.img", directory / "disk"
    place.mkdir()
    if os.geteuid() or not all(map(shutil.which, ("mkfs.ext4", "losetup"))):
        yield place
        return
    with open(disk, "xb") as file:
        file.truncate(size_bytes)
    command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(disk))()
    argv = ["losetup", "--direct-io=on", "--find", "--show", str(disk)]
    device = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        command("mount", device, str(place))()
        try:
            yield place
        finally:
            command("umount", str(place))()
    finally:
        command("losetup", "--detach", device)()


@contextmanager
def own_dockerd(directory: Path) -> Iterator[str]:
    """A dockerd of our own while the block lasts: its DOCKER_HOST, or "" where there is none to start."""
    if os.geteuid() or not shutil.which("dockerd"):
        yield ""
        return
    socket = f"unix://{directory}/docker.sock"
    argv = ["dockerd", "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "-p", f"{directory}/pid"]
    argv += ["-H", socket, "--iptables=false", "--ip6tables=false", "--bridge=none"]
    with open(directory / "dockerd.log", "wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            for _ in range(100):
                if not subprocess.run(["docker", "-H", socket, "version"], capture_output=True, check=False).returncode:
                    break
                time.sleep(0.2)
            yield socket
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def own_registry(directory: Path) -> Iterator[str]:
    """Debian's docker-registry on loopback while the block lasts: HOST:PORT, or "" where there is none."""
    if not shutil.which("docker-registry"):
        yield ""
        return
    config = directory / "registry.yml"
    config.write_text(
        "version: 0.1\nlog: {level: info}\nhttp: {addr: '127.0.0.1:0'}\n"
        f"storage: {{filesystem: {{rootdirectory: {directory}/registry}}}}\n"
    )
    argv = ["docker-registry", "serve", str(config)]
    env = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            line = next(line for line in process.stderr or () if "listening on " in line)
            threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
            yield line.partition("listening on ")[2].partition('"')[0].partition(",")[0].strip()
        finally:
            process.terminate()


def without_empty_v2_tree() -> None:
    """crun refuses a host whose controllers are on cgroup v1 beside a v2 tree with some: hide that tree from us all."""
    mounts = Path("/proc/self/mountinfo").read_text()
    tree = "/sys/fs/cgroup/unified"
    if os.geteuid() or f" {tree} " not in mounts or os.environ.get("KIST_BENCH_UNSHARED"):
        return
    os.environ["KIST_BENCH_UNSHARED"] = "1"
    script = f'umount {tree}; exec "$@"'
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, *sys.argv])
