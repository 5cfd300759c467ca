"""How long from a saved image on the disk to a process that runs in it, and how long to be rid of it? kist in both
forms beside podman and docker.

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
from pathlib import Path

import harness

from kist.codec import dumps
from kist.spec.image import CONFIG, LAYER, MANIFEST, ContainerConfig, ImageConfig, Manifest, RootFs
from kist.store.blobs import BlobStore
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
            yield tar.gettarinfo(directory, f"files{directory}"), b""
            for name in sorted(names):
                path = f"{directory}/{name}"
                info = tar.gettarinfo(path, f"files{path}")
                if not info.isreg():
                    continue
                total += info.size
                if total > limit_bytes:
                    return
                info.type = tarfile.REGTYPE
                yield info, Path(path).read_bytes()


def archive(path: Path, limit_bytes: int, layers: int) -> tuple[int, int]:
    """Save an image of so many layers; (entries, bytes of compressed layers)."""
    outs = [io.BytesIO() for _ in range(layers)]
    tars = [tarfile.open(fileobj=out, mode="w") for out in outs]  # noqa: SIM115
    count = 0
    for info, data in members(limit_bytes):
        target = tars[0 if info.isdir() or info.name.startswith("bin/") else count % layers]
        target.addfile(info, io.BytesIO(data))
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

    def __init__(self, command: list[str], env: dict[str, str], empty: Callable[[], object], run: list[str]) -> None:
        self._command, self._env, self.empty, self._run = command, {**os.environ, **env}, empty, run

    def _call(self, *argv: str) -> None:
        harness.command(*self._command, *argv, env=self._env)()

    def start(self, path: Path) -> None:
        self._call("load", "-i", str(path))
        self._call("run", "--rm", *self._run, "localhost/bench:1", "/bin/true")

    def remove(self) -> None:
        self._call("rmi", "localhost/bench:1")


def engines(directory: Path, docker_host: str) -> dict[str, Engine]:
    found: dict[str, Engine] = {}
    for form in ("erofs", "directories"):
        data = directory / form

        def empty(data: Path = data, form: str = form) -> None:
            shutil.rmtree(data, ignore_errors=True)
            create(str(data))
            if form == "directories":
                (data / "form").write_bytes(boot_id() + b"directories")

        found[f"kist, {form}"] = Engine([KIST], {"KIST_DATA_DIR": str(data)}, empty, [])
    if shutil.which("podman"):
        root = ["--root", f"{directory}/podman", "--runroot", f"{directory}/podman-run"]
        command = ["podman", *root, "--storage-driver", "overlay"]
        low = ["--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        found["podman"] = Engine(command, {}, harness.command(*command, "rmi", "-af"), low)
    if docker_host:
        command = ["docker", "-H", docker_host]
        argv = [*command, "image", "prune", "-af"]
        found["docker"] = Engine(command, {}, harness.command(*argv), ["--network", "none"])
    return found


def measure(
    engines: dict[str, Engine], path: Path, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    starts: dict[str, list[float]] = {}
    removals: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, engine in list(engines.items()):
            try:
                engine.empty()
                subprocess.run(["sync"], check=False)
                began = time.perf_counter()
                engine.start(path)
                middle = time.perf_counter()
                engine.remove()
                ended = time.perf_counter()
            except RuntimeError as e:
                print(f"left out: {name}: {e}", file=sys.stderr)
                del engines[name]
                continue
            starts.setdefault(name, []).append((middle - began) * 1000)
            removals.setdefault(name, []).append((ended - middle) * 1000)
    return starts, removals


def main() -> None:
    harness.without_empty_v2_tree()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    limit = (int(sys.argv[2]) if len(sys.argv) > 2 else 450) << 20
    versions = {program: harness.version(program, "--version") for program in ("podman", "docker")}
    with (
        tempfile.TemporaryDirectory(prefix="kist-bench-", dir="/var/tmp") as name,
        harness.own_disk(Path(name), 24 << 30) as directory,
    ):
        with harness.own_dockerd(directory) as docker_host:
            found = engines(directory, docker_host)
            for layers in (1, 10):
                path = directory / f"image{layers}.tar"
                entries, size = archive(path, limit, layers)
                starts, removals = measure(found, path, rounds)
                what = f"{layers} layers, {entries} files, {size >> 20} MiB compressed"
                harness.report(f"Load and run /bin/true: {what}", starts, versions, base="kist, erofs")
                harness.report(f"Remove: {what}", removals, versions, base="kist, erofs")
        subprocess.run(["umount", f"{directory}/podman/overlay"], capture_output=True, check=False)


if __name__ == "__main__":
    main()
