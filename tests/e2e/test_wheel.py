"""What users install: a wheel with the launcher in it, which needs neither a compiler nor the sources."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from containers import ROOT, leftovers
from kist.kernel.probe import probe

REPOSITORY = Path(__file__).parents[2]
PARTS = ("src", "launcher", "bin", "pyproject.toml", "setup.py", "README.md", "LICENSE")
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
PYTHON = os.environ.get("KIST_TEST_PYTHON", "/usr/bin/python3")  # one that all users may run

pytestmark = [
    pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc"),
    pytest.mark.skipif(not (REPOSITORY / "src/kist").is_dir(), reason="needs the sources"),
]


def pip(*args: str | Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from nothing but the sources: no launcher that was compiled before."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    nothing_built = shutil.ignore_patterns("__pycache__", "_launcher", "_layers.so", "kist-oci", "*.egg-info", "*.o")
    for part in PARTS:
        if (REPOSITORY / part).is_dir():
            shutil.copytree(REPOSITORY / part, source / part, ignore=nothing_built)
        else:
            shutil.copy(REPOSITORY / part, source / part)
    done = pip("wheel", source, "--no-deps", "--wheel-dir", out, "--retries", "1", *_isolation())
    if "installing build dependencies" in done.stderr.lower():
        pytest.skip("pip cannot reach setuptools >= 77, and this Python has none")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.iterdir()
    return path


def _isolation() -> list[str]:
    asked = "import setuptools; assert int(setuptools.__version__.split('.')[0]) >= 77"
    here = subprocess.run([sys.executable, "-c", asked], capture_output=True)
    return [] if here.returncode else ["--no-build-isolation"]


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """bin of a virtual environment with the wheel and nothing else, that all users may read."""
    modern = "import sys, venv; assert sys.version_info >= (3, 11)"
    if subprocess.run([PYTHON, "-c", modern], capture_output=True).returncode:
        pytest.skip(f"{PYTHON} is no Python 3.11 with venv: set KIST_TEST_PYTHON")
    top = Path(mkdtemp(prefix="kist-test-", dir="/var/tmp"))
    try:
        top.chmod(0o755)
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", top / "venv"], check=True)
        done = pip("--python", top / "venv/bin/python", "install", "--no-deps", "--no-index", wheel)
        assert done.returncode == 0, done.stdout + done.stderr
        yield top / "venv/bin"
    finally:
        shutil.rmtree(top)


def test_what_is_in_it(wheel: Path):
    version, tag = wheel.stem.removeprefix("kist-").split("-", 1)
    assert tag.startswith("py3-none-linux_")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert archive.read("kist/kernel/_launcher").startswith(b"\x7fELF")
        assert archive.read("kist/store/_layers.so").startswith(b"\x7fELF")
    assert {name.split("/")[0] for name in names} == {"kist", f"kist-{version}.data", f"kist-{version}.dist-info"}
    assert "kist/py.typed" in names


def _linked(program: Path, directory: Path) -> Path:
    """The same program by another name, in another place."""
    link = directory / "runc"
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    return link


@pytest.mark.parametrize("user", ["root", "nobody"] if ROOT else ["this user"])
def test_it_runs_containers(installed: Path, user: str):
    if user != "root" and not probe().user_namespaces:
        pytest.skip(probe().user_namespaces_reason)
    prefix = NOBODY if user == "nobody" else []
    run_dir = Path(mkdtemp(prefix="kist-test-", dir="/var/tmp"))
    if user == "nobody":
        os.chown(run_dir, 65534, 65534)
    env = {"PATH": "/usr/bin:/bin", "KIST_RUN_DIR": str(run_dir), "HOME": "/", "LANG": "C.UTF-8"}

    def output(*command: str | Path) -> str:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=120, env=env, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        assert output(installed / "kist", "run", "--rm", "host", "sh", "-c", "echo $$; id -u") == "1\n0\n"
        asked = "import kist; print(kist.__file__); print(kist.run(['sh', '-c', 'echo $$']).stdout)"
        where, pid = output(installed / "python", "-c", asked).split()
        assert where.startswith(str(installed.parent)) and pid == "1"
        assert "run" in output(installed / "kist-oci", "--help")  # without site: the script has found kist
        assert "spec" in output(_linked(installed / "kist-oci", run_dir), "--help")
        (run_dir / "runc").unlink()
        assert leftovers(run_dir) == []
    finally:
        shutil.rmtree(run_dir)
