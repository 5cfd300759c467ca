"""Other people's engines with kist-oci as their runtime: podman, podman of an ordinary user, dockerd, containerd.

Each has its own directories, sockets and cgroups, is ended when the tests are over, and leaves nothing.
"""

import contextlib
import io
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import kist
from bundles import CLI, PROGRAM, cgroups_named, is_alive, wait_for

IMAGE = "box:1"
DOCKER = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"


class Engine:
    """`argv` and a verb make a command. `reason`: why there is no such engine here."""

    def __init__(self, name: str, argv: list[str], *, run: tuple[str, ...] = (), prefix: tuple[str, ...] = ()) -> None:
        self.name, self.argv, self.run_options, self.prefix = name, argv, run, prefix
        self.limits = True

    def __call__(self, *args: str, ok: bool = True, **kwargs) -> subprocess.CompletedProcess[str]:
        kwargs.setdefault("stdin", None if "input" in kwargs else subprocess.DEVNULL)
        argv = [*self.prefix, *self.argv, *args]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd="/", **kwargs)
        assert not ok or done.returncode == 0, (args, done.returncode, done.stdout, done.stderr)
        return done

    def run(self, *args: str, **kwargs) -> subprocess.CompletedProcess[str]:
        """`run`, with what this engine needs here."""
        return self("run", *self.run_options, *args, **kwargs)


def image_tar(rootfs: Path) -> bytes:
    """A root file system whose files are root's."""

    def owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        return member

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(rootfs, arcname=".", filter=owned)
    return out.getvalue()


@contextlib.contextmanager
def own_directory(name: str) -> Iterator[Path]:
    """A short path that other users may pass through; whatever was left mounted below is unmounted."""
    path = Path(tempfile.mkdtemp(prefix=f"kist-{name}-", dir="/var/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        left = mounts_below(path)
        for point in reversed(left):
            subprocess.run(["umount", "--lazy", point], check=False)
        shutil.rmtree(path, ignore_errors=True)
    assert not left, f"left mounted: {left}"


def nothing_in(state: Path) -> None:
    """The runtime's own directory."""
    found = os.listdir(state) if state.exists() else []
    assert not found, found


def mounts_below(path: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{path}/")]


def processes_about(word: str) -> list[int]:
    """Those whose command line or environment has it, but for this process and those above it."""
    ours, pid = set(), os.getpid()
    while pid:
        ours.add(pid)
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) not in ours and word.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


@contextlib.contextmanager
def own_cgroups(name: str) -> Iterator[str]:
    """A name for the engine's cgroups, in which none may be left."""
    parent = f"{name}-{os.getpid()}"
    left = []
    try:
        yield parent
    finally:
        for top in cgroups_named([parent]):
            for directory, names, _ in os.walk(top, topdown=False):
                left += [f"{directory}/{name}" for name in names if name != "conmon"]  # podman's own
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
        for top in Path("/sys/fs/cgroup").glob(f"*/{parent}"):
            shutil.rmtree(top, ignore_errors=True)  # plain files: podman's, of controllers that are not mounted
    assert not left, left


def end(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, pids)))


# --- podman

# The limits on files and processes that podman asks for by itself may not be raised everywhere.
_LOW = ("--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def podman_argv(directory: Path, runtime: Path | str) -> list[str]:
    return [
        "podman", "--root", f"{directory}/root", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp",
        "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
        "--runtime", str(runtime),
    ]  # fmt: skip


def _wrapper(directory: Path, command: str) -> Path:
    """kist-oci with a state directory of its own: podman's cleanup does not know of --runtime-flag."""
    path = directory / "kist-oci"
    path.write_text(f'#!/bin/sh\nexec {command} --root {directory}/state "$@"\n')
    path.chmod(0o755)
    return path


@contextlib.contextmanager
def podman(rootfs: Path) -> Iterator[Engine]:
    with own_directory("podman") as directory, own_cgroups("kist-podman") as parent:
        engine = Engine(
            "podman", podman_argv(directory, _wrapper(directory, PROGRAM)), run=(*_LOW, "--cgroup-parent", f"/{parent}")
        )
        try:
            (directory / "box.tar").write_bytes(image_tar(rootfs))
            engine("import", "--quiet", str(directory / "box.tar"), IMAGE)
            yield engine
            nothing_in(directory / "state")
            assert not mounts_below(directory / "root")
        finally:
            engine("rm", "--all", "--force", "--time", "0", ok=False)
            left = processes_about(str(directory))
            end(left)
            for point in reversed(mounts_below(directory)):  # podman itself keeps its own mounted
                subprocess.run(["umount", "--lazy", point], check=False)
        assert not left, left


def ordinary_python() -> str:
    """An interpreter that everybody may run, "" without."""
    python = os.environ.get("KIST_TEST_PYTHON", "/usr/bin/python3")
    script = "import sys; assert sys.version_info >= (3, 11)"
    done = subprocess.run([python, "-c", script], capture_output=True, check=False) if os.path.exists(python) else None
    return python if done and done.returncode == 0 else ""


@contextlib.contextmanager
def rootless_podman(rootfs: Path) -> Iterator[Engine]:
    """As a user made for the purpose, with a copy of kist that it may read."""
    user = f"kist-pod-{os.getpid()}"
    with own_directory("user") as home:
        subprocess.run(["useradd", "--no-create-home", "--home-dir", str(home), user], check=True)
        uid = pwd.getpwnam(user).pw_uid
        try:
            shutil.copytree(Path(kist.__file__).parent, home / "lib/kist", ignore=shutil.ignore_patterns("__pycache__"))
            command = f"env PYTHONPATH={home}/lib {ordinary_python()} -P -m kist.faces.oci"
            wrapper = _wrapper(home, command if CLI == "kist-oci" else PROGRAM)
            (home / "box.tar").write_bytes(image_tar(rootfs))
            (home / "xdg").mkdir(mode=0o700)
            subprocess.run(["chown", "-R", f"{user}:", str(home)], check=True)
            as_user = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "env", "-i")
            as_user += (f"HOME={home}", f"XDG_RUNTIME_DIR={home}/xdg", "PATH=/usr/bin:/bin:/usr/sbin", "TERM=xterm")
            engine = Engine("rootless podman", podman_argv(home, wrapper), run=_LOW, prefix=as_user)
            engine.limits = os.path.exists("/sys/fs/cgroup/cgroup.controllers")  # delegation: cgroup v2 alone
            engine("import", "--quiet", str(home / "box.tar"), IMAGE)
            yield engine
            nothing_in(home / "state")
        finally:
            end([pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _owner(pid) == uid])
            subprocess.run(["userdel", "--force", user], check=False, capture_output=True)


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except FileNotFoundError:
        return -1


# --- docker


@contextlib.contextmanager
def docker_daemon(directory: Path, cgroup_parent: str) -> Iterator[list[str]]:
    """One without networks. Gives the client's argv."""
    client = [DOCKER, "-H", f"unix://{directory}/docker.sock"]
    argv = ["dockerd", "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", *client[1:]]
    argv += ["-p", f"{directory}/pid", "--iptables=false", "--ip6tables=false", "--bridge=none"]
    argv += ["--add-runtime", f"kist={PROGRAM}", "--cgroup-parent", f"/{cgroup_parent}", "--storage-driver", "vfs"]
    with daemon(argv, directory, lambda: Engine("docker", client)("version", ok=False).returncode == 0):
        yield client


@contextlib.contextmanager
def docker(rootfs: Path) -> Iterator[Engine]:
    with own_directory("docker") as directory, own_cgroups("kist-docker") as parent:
        with docker_daemon(directory, parent) as argv:
            engine = Engine("docker", argv, run=("--runtime", "kist", "--network", "none"))
            engine("import", "-", IMAGE, input=image_tar(rootfs).decode("latin-1"), encoding="latin-1")
            yield engine
            ids = engine("ps", "--all", "--quiet").stdout.split()
            if ids:
                engine("rm", "--force", *ids)
            nothing_in(directory / "exec/runtime-kist/moby")
        assert not processes_about(str(directory))


@contextlib.contextmanager
def daemon(argv: list[str], directory: Path, answers) -> Iterator[None]:
    """While the block lasts; its words are shown when it does not come up."""
    log = directory / "log"
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: answers() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            end(processes_about(str(directory)))


# --- containerd


@contextlib.contextmanager
def containerd() -> Iterator[Engine]:
    with own_directory("containerd") as directory, own_cgroups("kist-containerd") as parent:
        (directory / "config.toml").write_text(
            f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{directory}/sock"\n[ttrpc]\naddress = "{directory}/sock.ttrpc"\n'
        )
        # The namespace is the name of the cgroup above those of the containers.
        engine = Engine("containerd", ["ctr", "--address", f"{directory}/sock", "--namespace", parent])
        engine.run_options = (
            "--runtime", "io.containerd.runc.v2", "--runc-binary", PROGRAM, "--runc-root", f"{directory}/oci",
            "--rootfs",
        )  # fmt: skip
        argv = ["containerd", "--config", f"{directory}/config.toml"]
        with daemon(argv, directory, lambda: engine("version", ok=False).returncode == 0):
            yield engine
            assert engine("tasks", "ls", "--quiet").stdout == ""
            nothing_in(directory / "oci" / parent)
        assert not processes_about(str(directory))
