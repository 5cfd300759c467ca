"""How many containers in the background fit: their start, memory of those who look after them, ps, stats, stop, rm.

    python bench/density.py [CONTAINERS]    300; as root

Containers are started in blocks of a third, in turn, four at a time. Memory is the proportional set size (Pss,
proc_pid_smaps(5)) of the processes that look after containers, each engine's daemon without any container taken off.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import harness

KIST = str(Path(sys.executable).with_name("kist"))
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")  # podman's own may not be raised everywhere
LOOK_AFTER = {
    "kist": ("kist",),
    "podman": ("conmon",),
    "docker": ("dockerd", "containerd", "containerd-shim", "docker-proxy"),
}


def pss_bytes(names: tuple[str, ...], mark: str) -> int:
    """Of processes whose name begins so; `mark` is in the environment or command line of this run's."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            comm = (process / "comm").read_text().strip()
            about = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            if comm.startswith(names) and mark.encode() in about:
                lines = (process / "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total


class Engine:
    def __init__(
        self, name: str, argv: list[str], run: list[str], image: list[str], mark: str, env: dict[str, str]
    ) -> None:
        self.name, self.argv, self.run, self.image, self.mark = name, argv, run, image, mark
        self.env = {**os.environ, **env}
        self.ids: list[str] = []
        self.starts_ms: list[float] = []
        self.before = pss_bytes(LOOK_AFTER[name], mark)

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self.argv, *words], env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.name} {words[0]}: {done.stderr[-300:]}")
        return done.stdout

    def start(self, count: int) -> None:
        def one(_: int) -> str:
            return self("run", "-d", *self.run, *self.image, "sleep", "100000").strip()

        began = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            self.ids += pool.map(one, range(count))
        self.starts_ms.append((time.perf_counter() - began) * 1000 / count)

    @property
    def memory_bytes(self) -> float:
        return (pss_bytes(LOOK_AFTER[self.name], self.mark) - self.before) / len(self.ids)


QUESTIONS = {"ps": ("ps",), "stats": ("stats", "--no-stream"), "stop all": ("stop", "-t", "0"), "rm all": ("rm",)}


def timed_ms(engine: Engine, *words: str) -> list[float]:
    began = time.perf_counter()
    engine(*words)
    return [(time.perf_counter() - began) * 1000]


def engines(directory: Path, docker_host: str) -> list[Engine]:
    rootfs = harness.busybox_rootfs(directory)
    archive = directory / "box.tar"
    subprocess.run(["tar", "-C", str(rootfs), "-cf", str(archive), "."], check=True)
    own = {"KIST_RUN_DIR": str(directory / "run"), "KIST_DATA_DIR": str(directory / "data")}
    podman = ["podman", "--root", f"{directory}/podman", "--runroot", f"{directory}/podman-run", "--runtime", "runc",
              "--cgroup-manager", "cgroupfs"]  # fmt: skip
    docker = ["docker", "--host", docker_host]
    found = [Engine("kist", [KIST], [], ["box"], str(directory), own)]
    found.append(Engine("podman", podman, ["--network", "none", *LIMITS], ["localhost/box"], str(directory), {}))
    if docker_host:
        found.append(Engine("docker", docker, ["--network", "none", *LIMITS], ["box"], str(directory), {}))
    ready = []
    for engine in found:
        try:
            engine("import", str(archive), "box")
            engine("run", "--rm", *engine.run, *engine.image, "true")
            ready.append(engine)
        except (RuntimeError, FileNotFoundError) as e:
            print(f"left out: {e}", file=sys.stderr)
    return ready


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        with harness.own_dockerd(directory) as docker_host:
            found = engines(directory, docker_host)
            for _ in range(3):
                for engine in found:
                    engine.start(count // 3)
            versions = {e.name: harness.version(e.argv[0], "--version") for e in found}
            harness.report(f"Start one of {count} in the background", {e.name: e.starts_ms for e in found}, versions,
                           base="kist")  # fmt: skip
            for engine in found:
                print(f"{engine.name}: {engine.memory_bytes / 1024:.0f} KiB a container to look after it")
            for what, verb in QUESTIONS.items():
                times = {}
                for engine in found:
                    ids = engine.ids if what.endswith("all") else []
                    times[engine.name] = timed_ms(engine, *verb, *ids)
                harness.report(f"{what}, {count} containers", times, versions, base="kist")
            for engine in found:
                assert not engine("ps", "-aq").strip(), engine.name
        subprocess.run(["umount", f"{directory}/podman/overlay"], capture_output=True, check=False)


if __name__ == "__main__":
    main()
