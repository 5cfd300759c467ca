"""kist's own finder finds what importlib finds, and leaves to it what is not as expected."""

import importlib.util
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from kist.finder import Finder

pytestmark = pytest.mark.skipif(sys.flags.optimize > 0, reason="the finder is for ordinary bytecode")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A package kist with a module and a package, compiled."""
    for name, text in (("__init__", ""), ("one", "VALUE = 1\n"), ("two/__init__", "VALUE = 2\n")):
        path = tmp_path / "kist" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        py_compile.compile(str(path))
    return tmp_path


@pytest.mark.parametrize("name", ["kist.one", "kist.two"])
def test_as_importlib(sources: Path, name: str) -> None:
    found = Finder(str(sources)).find_spec(name, None)
    assert found is not None
    wanted = importlib.util.spec_from_file_location(
        name, found.origin, submodule_search_locations=[str(sources / "kist/two")] if name == "kist.two" else None
    )
    assert wanted is not None
    for field in ("name", "origin", "cached", "has_location", "parent", "submodule_search_locations"):
        assert getattr(found, field) == getattr(wanted, field), field
    module = importlib.util.module_from_spec(found)
    assert found.loader is not None
    found.loader.exec_module(module)
    assert (module.VALUE, module.__file__) == ({"kist.one": 1, "kist.two": 2}[name], found.origin)


def changed(path: Path) -> None:
    path.write_text("VALUE = 33\n")


def of_another_python(path: Path) -> None:
    cached = Path(importlib.util.cache_from_source(str(path)))
    cached.write_bytes(b"\0\0\r\n" + cached.read_bytes()[4:])


def cut(path: Path) -> None:
    cached = Path(importlib.util.cache_from_source(str(path)))
    cached.write_bytes(cached.read_bytes()[:40])


def no_code(path: Path) -> None:
    cached = Path(importlib.util.cache_from_source(str(path)))
    cached.write_bytes(cached.read_bytes()[:16] + b"N")


def checked_by_hash(path: Path) -> None:
    py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)


def touched(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize("change", [changed, of_another_python, cut, no_code, checked_by_hash, touched, Path.unlink])
def test_left_to_importlib(sources: Path, change) -> None:
    change(sources / "kist/one.py")
    assert Finder(str(sources)).find_spec("kist.one", None) is None


@pytest.mark.parametrize("name", ["kist", "kistless.one", "os", "kist.none", "kist.__pycache__"])
def test_not_its_own(sources: Path, name: str) -> None:
    assert Finder(str(sources)).find_spec(name, None) is None


def test_all_of_kist_oci_comes_by_it() -> None:
    """Every module of `kist-oci --help`: that one is not found would only be slow."""
    script = (
        "import sys; sys.path.append(sys.argv[1]); from kist.finder import Finder; "
        "sys.meta_path.insert(0, Finder(sys.argv[1])); import kist.engine.runtime.create; "
        "print([n for n, m in sys.modules.items() if n.startswith('kist.') and type(m.__loader__) is not Finder])"
    )
    source = Path(importlib.util.find_spec("kist").origin).parents[1]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):  # the first one may have to compile
        argv = [sys.executable, "-S", "-c", script, str(source)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "['kist.finder']"
