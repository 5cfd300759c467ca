"""Containers in a run directory of the tests' own, of which nothing may be left after any test."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kist.engine.state import StateDirectory
from kist.kernel.probe import probe

ROOT = os.geteuid() == 0
_COMMAND = Path(sys.executable).with_name("kist-python")
_HOW = ["-I", "-S", "-X", "utf8", str(_COMMAND)]  # as hand_over.c starts it: there in half the time
KIST = [sys.executable, "-W", "error::ResourceWarning", *(_HOW if _COMMAND.exists() else ["-m", "kist.faces.cli"])]


def leftovers(run_dir: Path) -> list[str]:
    found = [f"file {path}" for path in run_dir.rglob("*")]
    found += [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(run_dir) in line]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            comm = (process / "comm").read_text().strip()
        except OSError:
            continue
        if (
            f"KIST_RUN_DIR={run_dir}".encode() in environ
            and process.name != str(os.getpid())
            and comm.startswith("kist")
        ):
            found.append(f"process {process.name}")
    return found


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("KIST_RUN_DIR", str(path))
    monkeypatch.setenv("KIST_DATA_DIR", str(tmp_path / "data"))
    registries = tmp_path / "registries.conf"  # no test asks the internet for a missing image
    registries.write_text('[[registry]]\nprefix = "docker.io"\nlocation = "127.0.0.1:1/hub"\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(registries))
    yield path
    StateDirectory(str(path)).sweep()  # as the next command would, after a test that killed
    deadline = time.monotonic() + 5  # what was killed ends in its own time
    while found := leftovers(path):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


@pytest.fixture(scope="session", autouse=True)
def no_cgroup_is_left() -> Iterator[None]:
    """An empty cgroup of this user's that stays is nobody's: a running container's holds processes."""

    def empty() -> set[Path]:
        tops = [*Path("/sys/fs/cgroup").glob("kist"), *Path("/sys/fs/cgroup").glob("*/kist")]
        return {path for top in tops for path in top.iterdir() if path.is_dir() and is_empty(path)}

    def is_empty(path: Path) -> bool:
        try:
            return path.stat().st_uid == os.geteuid() and not (path / "cgroup.procs").read_text().strip()
        except OSError:  # another's, gone since it was listed
            return False

    before = empty()
    yield
    left = empty() - before
    for _ in range(50):
        left &= empty()  # all the time: not what another's containers pass through
        if not left:
            return
        time.sleep(0.1)
    assert not left


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of one static program, owned by whoever runs the tests."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("needs busybox: apt-get install busybox-static")
    root = tmp_path_factory.mktemp("box") / "rootfs"
    for name in ("bin", "etc", "tmp", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nweb:x:34:\nextra:x:77:web\n")
    (root / "etc/hostname").write_text("image\n")
    return root


def can_limit() -> bool:
    cgroup = probe().cgroup
    if cgroup.version == 1:
        return "memory" in cgroup.v1 and cgroup.v1["memory"].writable
    return bool(cgroup.v2 and cgroup.v2.delegated)


needs_root = pytest.mark.skipif(not ROOT, reason="needs root")
needs_limits = pytest.mark.skipif(not can_limit(), reason="this user may make no cgroup with limits")
MANY_IDS = ROOT or bool(probe().subuids and probe().newuidmap)
needs_ids = pytest.mark.skipif(not MANY_IDS, reason="this user has no subordinate ids")


def kist(*args: str, **kwargs) -> subprocess.CompletedProcess[str]:
    """`kist ARGS`: everything caught, nothing to read unless `input` is given."""
    kwargs.setdefault("stdin", None if "input" in kwargs else subprocess.DEVNULL)
    done = subprocess.run([*KIST, *args], capture_output=True, text=True, timeout=120, **kwargs)
    assert "ResourceWarning" not in done.stderr, done.stderr
    return done


def ok(*words: str, **kwargs) -> str:
    """What it prints, of a command that has to end well."""
    done = kist(*words, **kwargs)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout.strip()


def code(*words: str, **kwargs) -> str:
    """The code of the error that a command has to end with."""
    done = kist(*words, **kwargs)
    assert done.returncode != 0, words
    assert "Traceback" not in done.stderr
    return done.stderr.partition("\nSee '")[0].strip().rpartition("[")[2].rstrip("]")


def inside(*args: str, stderr_too: bool = False, **kwargs) -> str:
    """What a container prints that has to end well."""
    done = kist("run", "--rm", *args, **kwargs)
    assert done.returncode == 0, done.stderr
    return done.stdout + (done.stderr if stderr_too else "")
