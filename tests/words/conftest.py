"""Cases in the words of docker's command line. CLI=podman or CLI=docker runs them on those, which proves the cases."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rivals import CLI

from containers import KIST, no_cgroup_is_left
from engines import docker_daemon, mounts_below, own_cgroups, own_directory, podman_argv
from kist.engine.containers import Containers
from kist.engine.remove import remove
from kist.engine.state import StateDirectory

__all__ = ["no_cgroup_is_left"]

BUSYBOX = next((path for path in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(path)), "")
TOOLS = """
cat chmod chown date dd echo env false grep head hostname id kill ln ls mkdir mount nc od ping ps pwd rm sed seq sh
sha256sum sleep sort stat stty tail tee test touch tr true tty uname wc wget yes
"""
# podman asks for limits that may not be raised everywhere; without a network, as kist is. Its containers are apart from
# those of others here: all that there are are removed after each test.
PODMAN = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
"""


class Cli:
    """`cli("ps", "-a")` gives the process, `cli.ok(...)` its output when it has succeeded."""

    name = CLI

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv

    def __call__(self, *words: str, timeout_s: float = 60, **options: object) -> subprocess.CompletedProcess[str]:
        options.setdefault("text", True)
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            [*self.argv, *words], capture_output=True, check=False, timeout=timeout_s,
            **({"stdin": subprocess.DEVNULL} | options if "input" not in options else options),
        )  # fmt: skip

    def ok(self, *words: str, **options: object) -> str:
        done = self(*words, **options)  # type: ignore[arg-type]
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip() if isinstance(done.stdout, str) else done.stdout

    def fails(self, *words: str, status: int | None = None) -> str:
        done = self(*words)
        assert done.returncode != 0, f"{words} succeeded: {done.stdout}"
        assert status is None or done.returncode == status, f"{words}: {done.returncode} {done.stderr}"
        return done.stderr

    def popen(self, *words: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen([*self.argv, *words], text=True, **options)  # type: ignore[call-overload, no-any-return]

    def until(self, done: Callable[[], object], timeout_s: float = 20) -> None:
        """Wait for what no event tells."""
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.02)

    def status(self, name: str) -> str:
        return self.ok("ps", "-a", "--filter", f"name=^{name}$", "--format", "{{.Status}}")


def busybox_tar(path: Path) -> Path:
    """A small root file system of Debian's static busybox."""
    with tarfile.open(path, "w") as tar:
        for name in ("bin", "etc", "home", "root", "var", "usr"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo("tmp")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(entry)
        program = tar.gettarinfo(os.path.realpath(BUSYBOX), "bin/busybox")
        program.mode, program.uid, program.gid, program.uname, program.gname = 0o755, 0, 0, "", ""
        with open(BUSYBOX, "rb") as file:
            tar.addfile(program, file)
        for tool in TOOLS.split():
            link = tarfile.TarInfo(f"bin/{tool}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, text in (("passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home:/bin/sh\n"),
                           ("group", "root:x:0:\nann:x:1000:\nstaff:x:50:ann\n")):  # fmt: skip
            entry = tarfile.TarInfo(f"etc/{name}")
            entry.size, entry.mode = len(text), 0o644
            from io import BytesIO

            tar.addfile(entry, BytesIO(text.encode()))
    return path


@pytest.fixture(scope="session")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    base = tmp_path_factory.mktemp("words")
    run = base / "run"
    run.mkdir(mode=0o700)
    conf = base / "registries.conf"  # no test asks the internet for a missing image
    conf.write_text('[[registry]]\nprefix = "docker.io"\nlocation = "127.0.0.1:1/hub"\n')
    podman = base / "containers.conf"
    podman.write_text(PODMAN)
    yield {
        "CONTAINERS_CONF": str(podman),
        "KIST_RUN_DIR": str(run),
        "KIST_DATA_DIR": str(base / "data"),
        "CONTAINERS_REGISTRIES_CONF": str(conf),
    }


@pytest.fixture(scope="session")
def _argv(_home: dict[str, str]) -> Iterator[list[str]]:
    """The program; another's with directories, cgroups and, for docker, a daemon of its own."""
    if CLI == "kist":
        yield KIST
        return
    if not shutil.which(CLI):
        pytest.skip(f"no {CLI}")
    with own_directory(CLI) as directory, own_cgroups(f"words-{CLI}") as parent:
        if CLI == "docker":
            with docker_daemon(directory, parent) as argv:
                yield argv
            return
        yield podman_argv(directory, "runc")
        for point in reversed(mounts_below(directory)):  # podman itself keeps its own mounted
            subprocess.run(["umount", "--lazy", point], check=False)


@pytest.fixture(scope="session")
def _box(_home: dict[str, str], _argv: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    if not BUSYBOX:
        pytest.skip("needs busybox-static")
    archive = busybox_tar(tmp_path_factory.mktemp("box") / "box.tar")
    command = [*_argv, "import", "--change", 'CMD ["sh"]', str(archive), "box:latest"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **_home})
    return "box" if CLI != "podman" else "localhost/box"


@pytest.fixture
def box(_box: str) -> str:
    """The name of an image with busybox in it."""
    return _box


@pytest.fixture
def cli(_home: dict[str, str], _argv: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Containers that a test has left are removed after it."""
    for key, value in _home.items():
        monkeypatch.setenv(key, value)
    cli = Cli(_argv)
    yield cli
    if CLI != "kist":
        if ids := cli.ok("ps", "-aq").split():
            cli.ok("rm", "-f", *(("-t", "0") if CLI == "podman" else ()), *ids)
        return
    containers = Containers()
    for container in list(containers.all()):
        if container.kept:
            remove(containers, container, force=True)
    StateDirectory(_home["KIST_RUN_DIR"]).sweep()
    left = [name for name in os.listdir(_home["KIST_RUN_DIR"]) if not name.startswith(".network")]
    assert not left, left
    assert sys.executable


@pytest.fixture
def ok(cli: Cli) -> Callable[..., str]:
    return cli.ok
