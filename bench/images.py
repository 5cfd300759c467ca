"""How long from a saved image on the disk to a process that runs in it, how long to be rid of it, and to pull it from
a registry on loopback? kist in both forms beside podman and docker.

One layer of this machine's own files, and the same files in ten layers; all load the same archive with gzip layers into
an empty store, and run /bin/true. All stores are on one ext4 of their own, and each is emptied between the rounds,
outside the time that counts.

    python bench/images.py [ROUNDS [MEBIBYTES]]
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import harness

from kist.codec import dumps
from kist.spec.image import CONFIG, LAYER, MANIFEST, ContainerConfig, ImageConfig, Manifest, RootFs
from kist.store.blobs import BlobStore
from kist.store.compression import gzip_module
from kist.store.data import boot_id, create
from kist.store.documents import architecture
from kist.store.images import ImageStore
from kist.store.saving import save

KIST = str(Path(sys.executable).with_name("kist"))
Times = dict[str, list[float]]
TREES = ("/usr/share/doc", "/usr/lib/python3", "/usr/share/perl", "/usr/include", "/usr/bin", "/usr/lib")


def members(limit_bytes: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Files of this machine, as they are, up to so many bytes."""
    busybox = shutil.which("busybox")
    if not busybox:
        sys.exit("this needs busybox: apt-get install busybox-static")
    total, tar = 0, tarfile.open(fileobj=io.BytesIO(), mode="w")  # noqa: SIM115
    for name, source in (("bin/true", busybox), ("bin/sh", busybox)):
        yield tar.gettarinfo(source, name), Path(source).read_bytes()
    for tree in TREES:
        for directory, _, names in os.walk(tree):
            info = tar.gettarinfo(directory, f"files{directory}")
            info.mtime = int(info.mtime)
            yield info, b""
            for name in sorted(names):
                path = f"{directory}/{name}"
                info = tar.gettarinfo(path, f"files{path}")
                if not info.isreg():
                    continue
                total += info.size
                if total > limit_bytes:
                    return
                info.type, info.mtime = tarfile.REGTYPE, int(info.mtime)  # whole seconds, as docker and buildah pack it
                yield info, Path(path).read_bytes()


def archive(path: Path, limit_bytes: int, layers: int) -> tuple[int, int]:
    """Save an image of so many layers, each with a part of the trees; (entries, bytes of compressed layers)."""
    outs = [io.BytesIO() for _ in range(layers)]
    tars = [tarfile.open(fileobj=out, mode="w") for out in outs]  # noqa: SIM115
    count = total = 0
    for info, data in members(limit_bytes):
        tars[min(total * layers // limit_bytes, layers - 1)].addfile(info, io.BytesIO(data))
        total += len(data)
        count += 1
    with tempfile.TemporaryDirectory(prefix="kist-bench-") as name, BlobStore(f"{name}/data") as blobs:
        diff_ids, blob_layers = [], []
        for tar, out in zip(tars, outs, strict=True):
            tar.close()
            diff_ids.append(blobs.put(out.getvalue(), LAYER).digest)
            blob_layers.append(blobs.put(gzip.compress(out.getvalue(), 6), f"{LAYER}+gzip"))
        machine, variant = architecture()
        config = ImageConfig(machine, "linux", RootFs("layers", tuple(diff_ids)), variant=variant,
                             config=ContainerConfig(cmd=("/bin/true",)))  # fmt: skip
        manifest = Manifest(2, blobs.put(dumps(config).encode(), CONFIG), tuple(blob_layers), MANIFEST)
        store = ImageStore(f"{name}/data")
        store.add("localhost/bench:1", blobs.put(dumps(manifest).encode(), MANIFEST))
        with open(path, "wb") as file:
            save(store, ["localhost/bench:1"], file, "docker-archive")
    return count, sum(layer.size for layer in blob_layers)


class Engine:
    """Commands in a store of their own."""

    def __init__(
        self, command: list[str], env: dict[str, str], empty: Callable[[], object], run: list[str], pull: list[str]
    ) -> None:
        self._command, self._env, self.empty, self._run = command, {**os.environ, **env}, empty, run
        self._pull = pull

    def _call(self, *argv: str) -> None:
        harness.command(*self._command, *argv, env=self._env)()

    def start(self, path: Path) -> None:
        self._call("load", "-i", str(path))
        self._call("run", "--rm", *self._run, "localhost/bench:1", "/bin/true")

    def remove(self) -> None:
        self._call("rmi", "localhost/bench:1")

    def pull(self, name: str) -> None:
        self._call("pull", *self._pull, "-q", name)

    def push(self, path: Path, name: str) -> None:
        self.empty()
        self._call("load", "-i", str(path))
        self._call("tag", "localhost/bench:1", name)
        self._call("push", "-q", name)

    def peak_of_load(self, path: Path) -> int:
        """Bytes of memory that kist's process had at most: VmHWM, proc_pid_status(5)."""
        self.empty()
        argv = [sys.executable, "-c", _PEAK, "load", "-i", str(path)]
        return int(subprocess.run(argv, env=self._env, capture_output=True, check=True).stdout.split()[-1]) << 10

    def fetch(self, name: str) -> None:
        """The blobs alone."""
        harness.command(sys.executable, "-c", _FETCH, name, env=self._env)()


_PEAK = """
import re, sys
from kist.faces.cli.__main__ import run
assert run(sys.argv[1:]) == 0
print(re.search("VmHWM:\\\\s*(\\\\d+)", open("/proc/self/status").read())[1])
"""
_FETCH = """
import sys
from kist.registry.client import Client
from kist.spec.reference import parse_reference
from kist.store.blobs import BlobStore
Client().pull(parse_reference(sys.argv[1]), BlobStore())
"""


def engines(directory: Path, docker_host: str) -> dict[str, Engine]:
    found: dict[str, Engine] = {}
    for form in ("erofs", "directories"):
        data = directory / form

        def empty(data: Path = data, form: str = form) -> None:
            shutil.rmtree(data, ignore_errors=True)
            create(str(data))
            if form == "directories":
                (data / "form").write_bytes(boot_id() + b"directories")

        found[f"kist, {form}"] = Engine([KIST], {"KIST_DATA_DIR": str(data)}, empty, [], [])
    if shutil.which("podman"):
        root = ["--root", f"{directory}/podman", "--runroot", f"{directory}/podman-run"]
        command = ["podman", *root, "--storage-driver", "overlay"]
        low = ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        found["podman"] = Engine(command, {}, harness.command(*command, "rmi", "-af"), low, ["--tls-verify=false"])
    if docker_host:
        command = ["docker", "-H", docker_host]
        argv = [*command, "image", "prune", "-af"]
        found["docker"] = Engine(command, {}, harness.command(*argv), ["--network", "none"], [])
    return found


def measure(engines: dict[str, Engine], path: Path, rounds: int) -> tuple[Times, Times, Times]:
    """Milliseconds of load and run, the same of processor time, and of the removal."""
    starts: Times = {}
    processor: Times = {}
    removals: Times = {}
    for _ in range(rounds):
        for name, engine in list(engines.items()):
            try:
                engine.empty()
                subprocess.run(["sync"], check=False)
                began, used = time.perf_counter(), harness.cpu_ms()
                engine.start(path)
                middle, used = time.perf_counter(), harness.cpu_ms() - used
                engine.remove()
                ended = time.perf_counter()
            except RuntimeError as e:
                print(f"left out: {name}: {e}", file=sys.stderr)
                del engines[name]
                continue
            starts.setdefault(name, []).append((middle - began) * 1000)
            removals.setdefault(name, []).append((ended - middle) * 1000)
            if name != "docker":  # its daemon does the work
                processor.setdefault(name, []).append(used)
    return starts, processor, removals


def pulls(engines: dict[str, Engine], host: str, path: Path, directory: Path, rounds: int) -> Times:
    """Milliseconds of a pull into an empty store, beside curl of its blobs and a flush to the disk."""
    name, kist = f"{host}/bench:1", engines["kist, erofs"]
    kist.push(path, name)
    blobs = [file.parent.name for file in (directory / "registry").rglob("data") if file.stat().st_size >> 20]
    urls = [f"http://{host}/v2/bench/blobs/sha256:{digest}" for digest in blobs]
    outputs = [argument for url in urls for argument in ("-o", str(directory / "blob"), url)]

    def curl() -> None:
        harness.command("curl", "-sf", *outputs)()
        harness.command("sync", str(directory / "blob"))()

    cases: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "curl and sync, the blobs": (lambda: (directory / "blob").unlink(missing_ok=True), curl),
        "kist, blobs alone": (kist.empty, lambda: kist.fetch(name)),
    }
    for other, engine in engines.items():
        cases[f"{other}, pull"] = (engine.empty, partial(engine.pull, name))
    times: Times = {}
    for _ in range(rounds):
        for case, (empty, act) in cases.items():
            empty()
            subprocess.run(["sync"], check=False)
            began = time.perf_counter()
            act()
            times.setdefault(case, []).append((time.perf_counter() - began) * 1000)
    return times


def main() -> None:
    harness.without_empty_v2_tree()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    limit = (int(sys.argv[2]) if len(sys.argv) > 2 else 355) << 20
    versions = {program: harness.version(program, "--version") for program in ("podman", "docker")}
    versions["gzip in kist"] = gzip_module()
    with (
        tempfile.TemporaryDirectory(prefix="kist-bench-", dir="/var/tmp") as own,
        harness.own_disk(Path(own), 24 << 30) as directory,
    ):
        with harness.own_dockerd(directory) as docker_host:
            found = engines(directory, docker_host)
            for layers in (1, 10):
                path = directory / f"image{layers}.tar"
                entries, size = archive(path, limit, layers)
                starts, processor, removals = measure(found, path, rounds)
                what = f"{layers} layers, {entries} files, {size / 1e6:.0f} MB compressed"
                harness.report(f"Load and run /bin/true: {what}", starts, versions, base="kist, erofs")
                harness.report(f"The same, processor time: {what}", processor, versions, base="kist, erofs")
                harness.report(f"Remove: {what}", removals, versions, base="kist, erofs")
                for name, engine in found.items():
                    if name.startswith("kist"):
                        print(f"{name}: at most {engine.peak_of_load(path) / 1e6:.0f} MB of memory to load it")
                with harness.own_registry(directory) as host:
                    if host and shutil.which("curl"):
                        times = pulls(found, host, path, directory, rounds)
                        harness.report(f"Pull from loopback: {what}", times, versions, base="kist, erofs, pull")
                shutil.rmtree(directory / "registry", ignore_errors=True)
        subprocess.run(["umount", f"{directory}/podman/overlay"], capture_output=True, check=False)


if __name__ == "__main__":
    main()
