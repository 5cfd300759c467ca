"""A program's modules from one file, its image, in half the time that importlib takes.

A command of an OCI runtime imports fifty modules; importlib looks for each in every form that a module may have, and
reads them one by one. An image holds them compiled, in parts: one for each of the program's entries, with what that
imports and those before it do not. The first command that finds none, and may write where Python writes its own, makes
it. A part counts while all its files have the time and size that they had then; what is in none, or in one that does
not count, is left to importlib. Source: PEP 552; importlib/_bootstrap_external.py.
"""

import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

    File = tuple[str, int, int]  # a module's source or library, its time and size
    Part = dict[str, tuple[File, CodeType | None]]  # no code: a library

ENTRIES = {
    "kist-oci": (
        "kist.faces.oci.__main__", "kist.spec.runtime", "kist.plan.steps", "kist.plan.compile",
        "kist.engine.runtime.create", "kist.faces.oci.create", "kist.plan._table", "_json",
        "kist.engine.runtime.execute", "kist.faces.oci.exec_", "kist.plan.seccomp_policy",
        "kist.engine.runtime.lifecycle",
    ),
    "kist": (
        "kist.faces.cli.__main__", "kist.faces.cli.run", "kist.engine.run", "kist.faces.cli.with_image",
        "kist.plan._table", "_json", "kist.plan.seccomp_default", "kist.plan.seccomp", "kist.store.images",
        "kist.plan.image", "kist.engine.create", "kist.engine.start", "kist.faces.cli.exec_", "kist.engine.execute",
    ),
}  # fmt: skip
_INDEX_BYTES = 16384


class Finder:
    """Puts itself first into sys.meta_path."""

    def __init__(self, program: str, file: str = __file__) -> None:
        sys.meta_path.insert(0, self)
        caches = f"{file.rpartition('/')[0]}/__pycache__"
        self.image = f"{caches}/{program}.{sys.implementation.cache_tag}"
        self.unread: dict[str, tuple[int, int]] = {}  # a module's part: how many bytes, and where
        self.read: Part = {}
        made_for = MAGIC_NUMBER, caches, ENTRIES[program]
        index = self._load(_INDEX_BYTES, 0)
        if index and index[0] == made_for:
            self.unread = index[1]
        elif not sys.dont_write_bytecode and posix.access(caches, posix.W_OK):
            self._make(made_for)

    def _load(self, size: int, at: int) -> "Any":
        try:
            fd = posix.open(self.image, posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                return marshal.loads(posix.pread(fd, size, at))  # noqa: S302  # as importlib does
            finally:
                posix.close(fd)
        except (OSError, EOFError, ValueError, TypeError):
            return None

    def _make(self, made_for: "tuple[bytes, str, tuple[str, ...]]") -> None:
        there, index, parts, at = set(sys.modules), {}, b"", _INDEX_BYTES
        for entry in made_for[2]:
            __import__(entry)
            part: Part = {}
            for name in sys.modules.keys() - there:
                spec = sys.modules[name].__spec__
                if spec and spec.origin and spec.has_location:
                    file = _file(spec.origin)  # before it is read: what changes now is seen the next time
                    part[name] = file, _lean_code(spec.origin)
            there.update(sys.modules)
            data = marshal.dumps(part)
            index.update(dict.fromkeys(part, (len(data), at + len(parts))))
            parts += data
        own = f"{self.image}.{posix.getpid()}"
        try:
            with open(own, "xb", buffering=0) as image:
                image.write(marshal.dumps((made_for, index)).ljust(_INDEX_BYTES, b"\0") + parts)
            posix.rename(own, self.image)
        except OSError:
            pass  # the next one tries again

    def _read(self, name: str) -> None:
        part: Part = self._load(*self.unread[name]) or {}
        try:
            if part and all(_file(file[0]) == file for file, _ in part.values()):
                self.read.update(part)
                return
        except OSError:
            pass
        self.unread = {}
        try:
            posix.unlink(self.image)  # the next one makes another
        except OSError:
            pass

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None",  # noqa: ARG002
        target: "ModuleType | None" = None,  # noqa: ARG002
    ) -> "ModuleSpec | None":
        if name in self.unread and name not in self.read:
            self._read(name)
        if name not in self.read:
            return None
        (origin, _, _), code = self.read[name]
        loader = self if code else ExtensionFileLoader(name, origin)
        spec = ModuleSpec(name, loader, origin=origin)  # type: ignore[arg-type]  # has what importlib calls
        if origin.endswith("/__init__.py"):
            spec.submodule_search_locations = [origin.removesuffix("/__init__.py")]
        spec.has_location = True
        spec.cached = self.image  # else importlib works out where it would have been
        return spec

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":  # noqa: ARG002
        return None

    def exec_module(self, module: "ModuleType") -> None:
        exec(self.read[module.__name__][1], module.__dict__)  # type: ignore[arg-type]  # noqa: S102


def _lean_code(path: str) -> "CodeType | None":
    """A module's code, without what functions say to readers only: a tenth of the time that reading it takes."""
    if not path.endswith(".py"):
        return None
    import ast

    with open(path, "rb") as file:
        tree = ast.parse(file.read(), path)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
            if ast.get_docstring(node, clean=False) is not None:
                node.body[0] = ast.copy_location(ast.Pass(), node.body[0])
    code: CodeType = compile(tree, path, "exec", dont_inherit=True)
    return code


def _file(path: str) -> "File":
    found = posix.stat(path)
    return path, found.st_mtime_ns, found.st_size
