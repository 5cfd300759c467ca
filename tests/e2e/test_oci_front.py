"""kist-oci's front (launcher/front.c) does the ordinary case as Python does it, and leaves it all others.

Each case runs twice: by the command, and by its Python part alone.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles import KIST_OCI, Runtime, kist_only, oci, wait_for
from containers import ROOT, needs_root

__all__ = ["oci"]
pytestmark = kist_only

PYTHON_PART = f"{KIST_OCI}-python"
CREATED, RUNNING, STOPPED, GONE = "created", "running", "stopped", "gone"


def made(oci: Runtime, status: str) -> str:
    """A container in that status."""
    if status == GONE:
        return oci.new_id()
    id = oci.create("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done" if status != STOPPED else "exit 3")
    if status != CREATED:
        oci("start", id)
        oci.wait_status(id, status)
    return id


def told(oci: Runtime, program: str, id: str, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command, without what differs between two containers."""
    pid = _pid(oci, id)
    log = oci.directory / f"{id}.log"
    argv = [program, "--root", str(oci.root), "--log", str(log), "--log-format", "json", *words]
    done = subprocess.run([word.replace("ID", id) for word in argv], capture_output=True, text=True, timeout=60)
    logged = [json.loads(line)["msg"] for line in log.read_text().splitlines()] if log.exists() else []
    text = "\n".join([done.stderr, *logged]).replace(id, "ID").replace(str(oci.root), "ROOT")
    output = done.stdout.replace(id, "ID").replace(f'"pid": {pid}', '"pid": PID')
    lines = [line for line in output.splitlines() if '"created"' not in line and '"bundle"' not in line]
    return done.returncode, "\n".join(lines), text


def _pid(oci: Runtime, id: str) -> int:
    try:
        return json.loads((oci.root / id / "state.json").read_text())["pid"]
    except FileNotFoundError:
        return 0


def ending(oci: Runtime, id: str) -> str:
    done = oci("state", id, ok=False)
    return json.loads(done.stdout)["status"] if done.returncode == 0 else GONE


COMMANDS = [
    ("state", "ID"),
    ("start", "ID"),
    ("kill", "ID", "0"),
    ("kill", "ID", "CONT"),
    ("kill", "ID", "SIGWINCH"),
    ("kill", "ID", "sigcont"),
    ("kill", "ID", "18"),
    ("kill", "ID", "018"),
    ("kill", "ID", "99"),
    ("kill", "ID", "RTMIN+1x"),
    ("kill", "--all", "ID", "CONT"),
    ("kill", "ID", "CONT", "more"),
    ("delete", "ID"),
    ("delete", "--force", "ID"),
    ("delete", "ID", "-f"),
    ("delete", "--force=false", "ID"),
    ("delete", "--nonsense", "ID"),
    ("delete", "ID", "more"),
    ("delete",),
    ("start", "../ID"),
    ("start", "--help"),
]


@pytest.mark.parametrize("status", [CREATED, RUNNING, STOPPED, GONE])
def test_as_python_alone(oci: Runtime, status):
    """Two containers take the commands until one changes them; then others go on."""
    pair: list[str] = []
    for words in COMMANDS:
        pair = pair or [made(oci, status) for _ in range(2)]
        front, python = (
            told(oci, program, id, *words) for program, id in zip((KIST_OCI, PYTHON_PART), pair, strict=True)
        )
        assert front == python, words
        endings = [ending(oci, id) for id in pair]
        assert endings[0] == endings[1], words
        if endings[0] != status:
            pair = []


@pytest.mark.parametrize("words", [("state", "ID"), ("start", "ID"), ("kill", "ID", "KILL"), ("delete", "-f", "ID")])
def test_without_python(oci: Runtime, words, monkeypatch):
    """The ordinary case does not even need it: the front alone, in a directory without the Python part."""
    monkeypatch.setenv("PATH", "/nowhere")
    alone = oci.directory / "alone"
    shutil.copy(KIST_OCI, alone)
    id = made(oci, CREATED)
    code, _, text = told(oci, str(alone), id, *words)
    assert (code, text) == (0, "")
    code, _, text = told(oci, str(alone), id, "state", "--nonsense", "ID")
    assert code == 1 and "its Python part" in text


def test_a_copy_alone_has_the_python_part_of_path(oci: Runtime, monkeypatch):
    """Its name is no matter. Places before it in PATH are passed by as execvp(3) does."""
    wrong = [oci.directory / name for name in ("a file", "cannot be run", "a directory", "its interpreter is gone")]
    for place in wrong[1:]:
        place.mkdir()
    wrong[0].write_text("")
    (wrong[1] / "kist-oci-python").write_text("#!/bin/sh\nexit 99\n")
    (wrong[2] / "kist-oci-python").mkdir()
    (wrong[3] / "kist-oci-python").write_text("#!/nowhere/python\n")
    (wrong[3] / "kist-oci-python").chmod(0o755)
    places = [*map(str, wrong), "/nowhere", "/" * 5000, os.path.dirname(KIST_OCI), "/usr/bin", "/bin"]
    monkeypatch.setenv("PATH", ":".join(places))
    oci.argv[0] = shutil.copy(KIST_OCI, oci.directory / "my-runtime")
    assert oci("run", "--bundle", oci.bundle("echo", "inside"), oci.new_id()).stdout == "inside\n"
    id = oci.running()  # by create's Python part, the launcher and the supervisor
    assert oci("exec", id, "echo", "beside").stdout == "beside\n"
    oci("delete", "--force", id)
    assert "my-runtime" not in (help := oci("--help").stdout) and "kist-oci" in help


@pytest.mark.parametrize("path", ["", ":", ".", "venv:", "venv", "./venv", "/nowhere", "/nowhere/kist-oci-python"])
def test_a_copy_alone_without_it(oci: Runtime, path: str):
    """What PATH says of the working directory does not count."""
    (oci.directory / "venv").symlink_to(os.path.dirname(KIST_OCI))
    cwd = os.path.dirname(KIST_OCI) if path in ("", ":", ".") else oci.directory
    alone = shutil.copy(KIST_OCI, oci.directory / "my-runtime")
    done = subprocess.run([alone, "--version"], env={"PATH": path}, cwd=cwd, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    first, why, next = done.stderr.splitlines()
    assert first == "kist: cannot start its Python part, kist-oci-python"
    assert why.startswith("  why:  there is none beside this program") and "none in PATH" in why
    assert next == "  next: install kist, or add to PATH the directory that it is installed in"


@needs_root
def test_a_copy_alone_without_path(oci: Runtime):
    """As podman deletes a container."""
    alone = shutil.copy(KIST_OCI, oci.directory / "my-runtime")
    script = (
        f"mount --bind {os.path.dirname(KIST_OCI)} /usr/local/bin && exec env --ignore-environment {alone} --version"
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True)
    assert done.stdout.startswith("kist-oci "), done.stderr


def test_one_beside_comes_first(oci: Runtime):
    """Also one that cannot be started: PATH would have another version than was installed here."""
    alone = shutil.copy(KIST_OCI, oci.directory / "my-runtime")
    beside = oci.directory / "my-runtime-python"
    beside.write_text("#!/bin/sh\necho beside $*\n")
    beside.chmod(0o755)
    env = {"PATH": f"{os.path.dirname(KIST_OCI)}:/bin"}
    assert subprocess.run([alone, "x"], env=env, capture_output=True, text=True).stdout == "beside x\n"
    beside.chmod(0o644)
    done = subprocess.run([alone, "x"], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "it lies beside this program, but cannot be started" in done.stderr
    beside.unlink()
    assert subprocess.run([alone, "--help"], env=env, capture_output=True, text=True).stdout[:5] == "NAME:"


def test_so_does_kist(oci: Runtime):
    alone = shutil.copy(Path(KIST_OCI).with_name("kist"), oci.directory / "my-kist")
    env = {"PATH": os.path.dirname(KIST_OCI)}
    assert "kist" in subprocess.run([alone, "--version"], env=env, capture_output=True, text=True, check=True).stdout
    done = subprocess.run([alone, "--version"], env={"PATH": "/nowhere"}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("kist: cannot start its Python part, kist-python\n")


@pytest.mark.parametrize("words", [("kill", "ID", "KILL"), ("delete", "--force", "ID")])
@needs_root
def test_a_paused_container_is_left_to_python(oci: Runtime, words):
    ids = [made(oci, RUNNING) for _ in range(2)]
    for id in ids:
        oci("pause", id)
    front, python = (told(oci, program, id, *words) for program, id in zip((KIST_OCI, PYTHON_PART), ids, strict=True))
    assert front == python == (0, "", "")
    for id in ids:
        wait_for(lambda id=id: ending(oci, id) in (STOPPED, GONE))


DAMAGES = {
    "no ordinary file": lambda path: (path / "ordinary").unlink(),
    "an empty one": lambda path: (path / "ordinary").write_bytes(b""),
    "one of another version": lambda path: (path / "ordinary").write_bytes(b"kist-oci ordinary 2\0\0\0\0\0\0"),
    "one that is cut": lambda path: (path / "ordinary").write_bytes((path / "ordinary").read_bytes()[:40]),
    "one that does not end": lambda path: (path / "ordinary").write_bytes(b"kist-oci ordinary 1" * 9999),
    "no state": lambda path: (path / "state.json").unlink(),
    "an odd state": lambda path: (path / "state.json").write_text((path / "state.json").read_text().replace(":", ": ")),
    "a number that is none": lambda path: (path / "state.json").write_text('{"pid":-1}'),
    "somebody's file": lambda path: (path / "mine").write_text(""),
    "somebody's directory": lambda path: (path / "mine" / "too").mkdir(parents=True),
}


@pytest.mark.parametrize("verb", ["state", "kill", "delete"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage(oci: Runtime, verb, damage):
    ids = [made(oci, CREATED) for _ in range(2)]
    pids = [oci.state(id)["pid"] for id in ids]
    for id in ids:
        DAMAGES[damage](oci.root / id)
    front, python = (
        told(oci, program, id, verb, "ID") for program, id in zip((KIST_OCI, PYTHON_PART), ids, strict=True)
    )
    assert front == python
    assert (oci.root / ids[0]).exists() == (oci.root / ids[1]).exists()
    for id, pid in zip(ids, pids, strict=True):
        shutil.rmtree(oci.root / id / "mine", ignore_errors=True)
        (oci.root / id / "mine").unlink(missing_ok=True)
        (oci.root / id).mkdir(exist_ok=True)
        (oci.root / id / "state.json").write_text(f'{{"pid":{pid}}}')


def test_hooks_are_left_to_python(oci: Runtime):
    said = oci.directory / "said"

    def hooks(config: dict) -> None:
        config["hooks"] = {
            kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {kind} >> {said}"]}]
            for kind in ("poststart", "poststop")
        }

    id = oci.create("true", change=hooks)
    oci("start", id)
    oci.wait_status(id, STOPPED)
    oci("delete", id)
    assert said.read_text().split() == ["poststart", "poststop"]


def test_an_environment_is_not_believed(oci: Runtime):
    """Whoever calls it cannot have it load what it likes."""
    trap = oci.directory / "trap"
    trap.mkdir()
    for name in ("sitecustomize", "os", "kist"):
        (trap / f"{name}.py").write_text("raise SystemExit(99)")
    env = {"PYTHONPATH": str(trap), "PYTHONHOME": str(trap), "PYTHONSTARTUP": str(trap / "os.py"), "PATH": str(trap)}
    done = subprocess.run([KIST_OCI, "--help"], env=env, cwd=trap, capture_output=True, text=True)
    assert (done.returncode, done.stdout[:5]) == (0, "NAME:")
    assert subprocess.run([KIST_OCI, "--version"], env={}, cwd="/", capture_output=True).returncode == 0


def test_many_words(oci: Runtime):
    words = ("delete", *["ID"] * 1500)
    assert told(oci, KIST_OCI, oci.new_id(), *words) == told(oci, PYTHON_PART, oci.new_id(), *words)


@pytest.fixture
def runtime_directory(tmp_path: Path) -> Iterator[Path]:
    """What XDG_RUNTIME_DIR names: of root's it must be one of a session."""
    path = Path(f"/run/user/kist-test-{os.getpid()}") if ROOT else tmp_path / "session"
    existed = path.parent.is_dir()
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)
    if not existed:
        path.parent.rmdir()


def test_where_containers_are_by_default(oci: Runtime, runtime_directory: Path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_directory))
    alone = shutil.copy(KIST_OCI, oci.directory / "alone")
    id, bundle = oci.new_id(), oci.bundle("true")
    subprocess.run([PYTHON_PART, "create", "-b", bundle, id], stdin=subprocess.DEVNULL, check=True)
    assert (runtime_directory / "kist-oci" / id).is_dir()
    assert subprocess.run([alone, "state", id], stdout=subprocess.DEVNULL).returncode == 0
    assert subprocess.run([alone, "delete", id]).returncode == 0
    assert not (runtime_directory / "kist-oci" / id).exists()


def test_the_state_is_python_s_to_the_byte(oci: Runtime):
    annotations = {"key": 'a "quoted" \\ word', "ü": "\n", "empty": ""}
    id = oci.create("true", change=lambda config: config.update(annotations=annotations))
    argv = ["--root", str(oci.root), "state", id]
    front, python = (
        subprocess.run([p, *argv], capture_output=True, check=True).stdout for p in (KIST_OCI, PYTHON_PART)
    )
    assert front == python
    assert json.loads(front)["annotations"] == annotations


def test_it_is_no_larger_than_it_need_be():
    assert Path(KIST_OCI).read_bytes()[:4] == b"\x7fELF"
    assert os.path.getsize(KIST_OCI) < 32 << 10
