"""Makes a program's image: see finder.py."""

from __future__ import annotations
import __future__

import ast
import builtins
import marshal
import os
import sys
from importlib.machinery import PathFinder
from itertools import chain

from kist.finder import INDEX_BYTES, file_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    from kist.finder import Part

_BINDERS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def make(image: str, made_for: tuple[int, bytes, str, tuple[str, ...]]) -> None:
    """Imports all entries, the last of `made_for`, and writes what that took. If it cannot, the next command tries."""
    index, parts, at, noting = {}, b"", INDEX_BYTES, _Order()
    sys.meta_path.insert(0, noting)
    for entry in made_for[-1]:
        __import__(entry)
        part: Part = {}
        for name in noting.done:
            spec = sys.modules[name].__spec__
            if spec and spec.origin and spec.has_location:
                file = file_of(spec.origin)  # before it is read: what changes now is seen the next time
                if spec.origin.endswith(".py"):
                    linked = Linked(spec.origin, ours=name.startswith("kist."))
                    part[name] = file, linked.code, linked.makers, linked.builtins
                else:
                    part[name] = file, None, {}, ()
        noting.done.clear()
        data = marshal.dumps(part)
        index.update(dict.fromkeys(part, (len(data), at + len(parts))))
        parts += data
    sys.meta_path.remove(noting)
    own = f"{image}.{os.getpid()}"
    try:
        with open(own, "xb", buffering=0) as opened:
            opened.write(marshal.dumps((made_for, index)).ljust(INDEX_BYTES, b"\0") + parts)
        os.rename(own, image)
    except OSError:
        pass


class _Order:
    """Notes the modules that are imported, each after those that it imports."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            run = spec.loader.exec_module

            def noted(module: ModuleType) -> None:
                run(module)
                self.done.append(name)

            spec.loader.exec_module = noted  # type: ignore[method-assign]
        return spec


class Linked:
    """One module: `code` is what runs when it is imported, `makers` has the classes that wait until they are used.

    Such are those that no other statement of the module gives a name to. When classes are made does not matter to
    kist's modules, which do nothing but define when they are imported; those of others are left as they are.
    """

    def __init__(self, path: str, *, ours: bool) -> None:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(), path)
        self.path, self.flags = path, 0
        self.makers: dict[str, CodeType | str] = {}
        self.builtins: tuple[str, ...] = ()
        for node in ast.walk(tree):
            _strip(node)
        if ours:
            for node in tree.body[:]:
                if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                    self.flags = __future__.annotations.compiler_flag
                    tree.body.remove(node)
            tree.body = [*chain.from_iterable(map(_at_run_time, tree.body))]
            counts = _bindings(tree)
            named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id[:2] != "__"}
            self.builtins = tuple(sorted(named & vars(builtins).keys() - counts.keys()))
            tree.body = [*chain.from_iterable(self._kept(node, counts) for node in tree.body)]
        self.code = self._compiled(tree.body)

    def _compiled(self, body: list[ast.stmt]) -> CodeType:
        tree = ast.Module(body, type_ignores=[])
        code: CodeType = compile(tree, self.path, "exec", flags=self.flags, dont_inherit=True)
        return code

    def _kept(self, node: ast.stmt, counts: dict[str, int]) -> list[ast.stmt]:
        """What remains of a statement of the module."""
        if isinstance(node, ast.ClassDef) and counts[node.name] == 1:
            self.makers[node.name] = self._compiled([node])
            return []
        if not isinstance(node, ast.ImportFrom) or not node.module or node.module not in sys.modules:
            return [node]
        there = vars(sys.modules[node.module])
        for alias in node.names[:]:
            if not alias.asname and counts[alias.name] == 1 and isinstance(there.get(alias.name), type):
                self.makers[alias.name] = node.module
                node.names.remove(alias)
        if not node.names:
            return []
        if "__path__" in there or not there.keys() >= {alias.name for alias in node.names}:
            return [node]
        return _without_path(node)


def _strip(node: ast.AST) -> None:
    """What is for readers only: a tenth of the time that reading a module takes."""
    if isinstance(node, ast.arg):
        node.annotation = None
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node.returns = None
        if ast.get_docstring(node, clean=False) is not None:
            node.body[0] = ast.copy_location(ast.Pass(), node.body[0])
    elif isinstance(node, ast.ClassDef):
        node.body = [*map(_not_annotated, node.body)]


def _not_annotated(node: ast.stmt) -> ast.stmt:
    """Without the annotation that says that it is no field: value.py."""
    if isinstance(node, ast.AnnAssign) and node.value and ast.unparse(node.annotation).startswith("ClassVar"):
        return ast.copy_location(ast.Assign([node.target], node.value), node)
    return node


def _without_path(node: ast.ImportFrom) -> list[ast.stmt]:
    """`from a.b import c, d` asks the module for a __path__, and an error is worded that nobody reads: thousands of
    instructions. `import a.b as d; c = d.c; d = d.d` does not."""
    names = [(alias.name, alias.asname or alias.name) for alias in node.names]
    last = names[-1][1]
    lines = [f"import {node.module} as {last}", *(f"{own} = {last}.{name}" for name, own in names)]
    return [ast.fix_missing_locations(ast.copy_location(line, node)) for line in ast.parse("\n".join(lines)).body]


def _at_run_time(node: ast.stmt) -> list[ast.stmt]:
    """Without what is for type checkers."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return node.orelse
    return [node]


def _bindings(tree: ast.Module) -> dict[str, int]:
    """How often the module binds each of its names; one that a function may bind, too, counts as more than once."""
    found = [(name, 2) for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names]
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _BINDERS):
            found.append((node.name, 1))
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found += [(alias.asname or alias.name.partition(".")[0], 1) for alias in node.names]
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.append((node.id, 1))
        waiting += ast.iter_child_nodes(node)
    counts: dict[str, int] = {}
    for name, times in found:
        counts[name] = counts.get(name, 0) + times
    return counts
