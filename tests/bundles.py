"""OCI bundles, and a runtime with runc's command line to give them to: kist-oci, or what KIST_OCI_CLI names.

`KIST_OCI_CLI=runc` (or crun) runs the tests that use this on another runtime: that tests the tests.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import ROOT

CLI = os.environ.get("KIST_OCI_CLI", "kist-oci")
KIST_OCI = str(Path(sys.executable).with_name("kist-oci"))
PROGRAM = KIST_OCI if CLI == "kist-oci" else shutil.which(CLI) or CLI
_HIDE = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'  # crun refuses controllers on v1 beside a v2 tree
COMMANDS = {
    "kist-oci": [KIST_OCI],
    "runc": ["runc"],
    "crun": ["unshare", "--mount", "sh", "-c", _HIDE, "sh", "crun"],
}
kist_only = pytest.mark.skipif(CLI != "kist-oci", reason="about kist-oci itself")


def config(*args: str, rootfs: str | Path, **process: object) -> dict:
    """A config.json that any runtime takes; as an ordinary user with a user namespace of one id."""
    kinds = ["pid", "ipc", "uts", "mount"] + (["network"] if ROOT else ["user"])
    made: dict = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": ["PATH=/usr/bin:/bin", "HOME=/root"],
            "cwd": "/",
            "noNewPrivileges": True,
            "capabilities": {kind: ["CAP_KILL"] for kind in ("bounding", "effective", "permitted")},
            **process,
        },
        "root": {"path": str(rootfs), "readonly": False},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["newinstance", "ptmxmode=0666"],
            },
        ],
        "linux": {"namespaces": [{"type": kind} for kind in kinds]},
    }
    if not ROOT:
        made["linux"]["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        made["linux"]["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    return made


class Runtime:
    """A runtime with a state directory of its own."""

    def __init__(self, directory: Path, rootfs: Path, name: str = CLI) -> None:
        self.directory, self.rootfs = directory, rootfs
        self.root = directory / "state"
        self.argv = [*COMMANDS[name], "--root", str(self.root)]
        self.ids: list[str] = []

    def bundle(self, *args: str, change: Callable[[dict], object] | None = None, **process: object) -> Path:
        """A new bundle directory; `change` alters the config before it is written."""
        made = config(*args, rootfs=self.rootfs, **process)
        if change:
            change(made)
        path = self.directory / f"bundle-{len(list(self.directory.glob('bundle-*')))}"
        path.mkdir()
        (path / "config.json").write_text(json.dumps(made))
        return path

    def new_id(self) -> str:
        """An id that no other test on this machine uses."""
        self.ids.append(f"kist-test-{os.getpid()}-{time.monotonic_ns()}")
        return self.ids[-1]

    def __call__(self, *args: str | Path, ok: bool = True, **kwargs) -> subprocess.CompletedProcess[str]:
        kwargs.setdefault("stdin", None if "input" in kwargs else subprocess.DEVNULL)
        done = subprocess.run([*self.argv, *map(str, args)], capture_output=True, text=True, timeout=120, **kwargs)
        assert not ok or done.returncode == 0, (args, done.returncode, done.stdout, done.stderr)
        return done

    def start(self, *args: str | Path, cwd: Path | None = None) -> None:
        """For commands that leave a process behind: it keeps what they were given as standard output."""
        log = self.directory / "output"
        with log.open("ab") as out:
            argv = [*self.argv, *map(str, args)]
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=120, cwd=cwd)
        assert done.returncode == 0, (args, log.read_text())

    def output(self) -> str:
        """What containers that were `start`ed have printed."""
        path = self.directory / "output"
        return path.read_text() if path.exists() else ""

    def create(self, *args: str, options: tuple[str | Path, ...] = (), **bundle) -> str:
        """A created container; its id."""
        id = self.new_id()
        self.start("create", "--bundle", self.bundle(*args, **bundle), *options, id)
        return id

    def running(self, *args: str, **bundle) -> str:
        """A container that runs and has printed a line."""
        before = self.output()
        id = self.new_id()
        args = args or ("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
        self.start("run", "--detach", "--bundle", self.bundle(*args, **bundle), id)
        wait_for(lambda: "\n" in self.output()[len(before) :])
        return id

    def state(self, id: str) -> dict:
        return json.loads(self("state", id).stdout)

    def wait_status(self, id: str, status: str) -> dict:
        wait_for(lambda: self.state(id)["status"] == status)
        return self.state(id)

    def leftovers(self) -> list[str]:
        """State, mounts, cgroups and processes of this runtime's containers."""
        found = [f"state {path}" for path in self.root.glob("*")]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if str(self.directory) in line]
        found += [f"cgroup {path}" for path in cgroups_named(self.ids)]
        return found


def cgroups_named(ids: list[str]) -> list[str]:
    found = []
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{directory}/{name}" for name in names if any(id in name for id in ids)]
    return found


def wait_for(what: Callable[[], object], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def oci(tmp_path: Path, rootfs: Path) -> Iterator[Runtime]:
    """Nothing of it may be left once each container was deleted by force."""
    runtime = Runtime(tmp_path, rootfs)
    yield runtime
    for path in list(runtime.root.glob("*")):
        runtime("delete", "--force", path.name)
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not runtime.leftovers(), 5)
    assert not runtime.leftovers()


@contextlib.contextmanager
def console(directory: Path) -> Iterator[Callable[[], int]]:
    """A console socket (its path: DIRECTORY/console): a call waits for the terminal's master side."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "console"))
        listener.listen()
        listener.settimeout(60)

        def receive() -> int:
            connection, _ = listener.accept()
            with connection:
                _, fds, _, _ = socket.recv_fds(connection, 4096, 1)
            return fds[0]

        yield receive
