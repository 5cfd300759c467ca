"""In an image a class is made when it is first asked for, and that is all that is different."""

import builtins
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kist.finder import Finder
from kist.linking import Linked

TEXT = '''
from __future__ import annotations
from fractions import Fraction
from struct import Struct as Packed, Struct, pack as packed, unpack
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fractions import Fraction
    class Value: pass

made = []

class Value:
    """A base."""
    def __init_subclass__(cls):
        made.append(cls.__name__)

class Kind(Value):
    limit = len(made)
    def other(self):
        return Other()

class Other(Kind):
    half = Fraction(1, 2)

class Twice(Value):
    pass

class Twice(Value):
    second = True

class Late(Value):
    pass

def rename():
    global Late
    Late = 1

def make():
    return Other(), isinstance(Other(), Value)

def __getattr__(name):
    if name == "ANSWER":
        return 42
    raise AttributeError(name)
'''


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    def load(text: str) -> ModuleType:
        path = tmp_path / "linked.py"
        path.write_text(text)
        linked = Linked(str(path), ours=True)
        finder = Finder.__new__(Finder)
        finder.image = ""
        finder.make("linked", str(path), linked.code, linked.makers, linked.builtins)
        return sys.modules["linked"]

    yield load
    sys.modules.pop("linked", None)


def test_a_class_is_made_when_it_is_used(load: Callable[[str], Any]) -> None:
    module = load(TEXT)
    assert module.made == ["Twice", "Twice", "Late"]  # names that more than one statement binds
    assert not {"Kind", "Other", "Fraction", "Struct"} & vars(module).keys()
    other, is_value = module.make()
    assert (is_value, other.half.denominator, module.made[3:]) == (True, 2, ["Kind", "Other"])
    assert module.Kind.limit == 3
    assert type(module.Kind().other()) is module.Other is type(other)
    assert module.Value.__doc__ == "A base."
    assert (module.Kind.__module__, module.Kind.__qualname__) == ("linked", "Kind")


def test_names_that_the_module_binds_otherwise(load: Callable[[str], Any]) -> None:
    module = load(TEXT)
    assert module.Twice.second
    module.rename()
    assert module.Late == 1
    assert module.json is sys.modules["json"]
    struct = sys.modules["struct"]
    assert (module.Packed, module.Struct) == (struct.Struct, struct.Struct)
    assert (module.packed, module.unpack) == (struct.pack, struct.unpack)


def test_its_own_getattr_and_dir(load: Callable[[str], Any]) -> None:
    module = load(TEXT)
    assert module.ANSWER == 42
    with pytest.raises(AttributeError, match="NONE"):
        _ = module.NONE
    assert {"Kind", "Fraction", "make", "made"} <= {*dir(module)}
    assert "Kind" not in vars(module)
    with pytest.raises(AttributeError, match="module 'linked' has no attribute 'none'"):
        _ = load("class A: pass").none
    with pytest.raises(NameError, match="'none' is not defined"):
        load("class A: pass\ndef call(): return none").call()


def test_a_class_is_made_once(load: Callable[[str], Any]) -> None:
    module = load("class A:\n    import time; time.sleep(0)\ndef get(): return A")
    found: set[type] = set()
    barrier = threading.Barrier(8)

    def get() -> None:
        barrier.wait()
        found.add(module.get())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1


def test_a_class_that_cannot_be_made(load: Callable[[str], Any]) -> None:
    module = load("class A:\n    1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = module.A


def test_a_traceback_names_the_line(load: Callable[[str], Any]) -> None:
    module = load("\n\nclass A:\n    def fail(self):\n        raise ValueError\n")
    with pytest.raises(ValueError) as raised:
        module.A().fail()
    assert (raised.traceback[-1].lineno, Path(raised.traceback[-1].path).name) == (4, "linked.py")


def test_others_modules_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "other.py"
    path.write_text("class A: pass\n")
    assert not Linked(str(path), ours=False).makers


def test_builtins_of_the_one_who_made_it(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """kist's commands run without `site`, which adds `help`."""

    def linked(*args: Any, **kwargs: Any) -> Linked:
        with monkeypatch.context() as once:
            once.setattr(builtins, "only_there", 0, raising=False)
            return original(*args, **kwargs)

    original = Linked
    monkeypatch.setitem(globals(), "Linked", linked)
    module = load("def call(only_there): return len([only_there])\ndef name(): return only_there")
    assert module.call(1) == 1
    assert vars(module)["len"] is len
    with pytest.raises(NameError):
        module.name()
