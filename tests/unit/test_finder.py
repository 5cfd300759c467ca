"""A program's image gives the modules that importlib gives, and what has changed since is left to importlib."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kist import finder


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with a module and a package in it, each an entry of a program."""
    for name, text in (("__init__", ""), ("one", "import _json\nVALUE = 1\n"), ("two/__init__", "VALUE = 2\n")):
        path = tmp_path / "box" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "box/__pycache__").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setitem(finder.ENTRIES, "box", ("box.one", "box.two"))
    yield tmp_path / "box"
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("box", "_json")]:
        del sys.modules[name]


def image(box: Path) -> finder.Finder:
    """As the second command has it."""
    for _ in range(2):
        forget()
        found = finder.Finder("box", f"{box}/finder.py")
    return found


@pytest.mark.parametrize("name", ["box", "box.one", "box.two", "_json"])
def test_as_importlib(box: Path, name: str) -> None:
    if name in sys.builtin_module_names:
        pytest.skip(f"{name} is no library of this Python")
    found = image(box).find_spec(name, None)
    forget()
    wanted = importlib.util.find_spec(name)
    assert found and wanted
    for field in ("name", "origin", "parent", "submodule_search_locations"):
        assert getattr(found, field) == getattr(wanted, field), field
    module = importlib.util.module_from_spec(found)
    assert found.loader is not None
    found.loader.exec_module(module)
    value = {"box.one": 1, "box.two": 2}.get(name)
    assert (getattr(module, "VALUE", None), module.__file__) == (value, wanted.origin)


def edited(path: Path) -> None:
    path.write_text("VALUE = 33\n")


def touched(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize("change", [edited, touched, Path.unlink])
def test_a_part_that_has_changed(box: Path, change: Callable[[Path], None]) -> None:
    found = image(box)
    change(box / "one.py")
    assert found.find_spec("box.one", None) is None
    assert not list((box / "__pycache__").glob("box.*-*"))  # the next one makes another


@pytest.mark.parametrize("size", [0, 1, 16384, 16400])
def test_an_image_cut_short(box: Path, size: int) -> None:
    path = Path(image(box).image)
    os.truncate(path, size)
    forget()
    sys.dont_write_bytecode = True
    found = finder.Finder("box", f"{box}/finder.py")
    assert found.find_spec("box.two", None) is None


def test_one_that_was_moved(box: Path) -> None:
    path = Path(image(box).image)
    other = box.parent / "other/__pycache__"
    other.mkdir(parents=True)
    path.rename(other / path.name)
    sys.dont_write_bytecode = True
    assert finder.Finder("box", f"{other.parent}/finder.py").find_spec("box.one", None) is None


@pytest.mark.parametrize("name", ["kist", "boxes", "os", "box.none"])
def test_not_its_own(box: Path, name: str) -> None:
    assert image(box).find_spec(name, None) is None


@pytest.mark.parametrize(
    ("program", "module"), [("kist-oci", "kist.engine.runtime.create"), ("kist", "kist.engine.run")]
)
def test_all_of_a_command_comes_by_it(program: str, module: str) -> None:
    """That a module is not in the image would only be slow."""
    script = (
        f"from kist.finder import Finder; import sys; Finder({program!r}); there = set(sys.modules); import {module};"
        "print([n for n, m in sys.modules.items() if n not in there and n.startswith('kist') and"
        " type(m.__loader__) is not Finder])"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):  # the first one may have to make it
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"
