"""A program's modules from one file, its image; and of a module only the classes that are used.

A command of an OCI runtime imports fifty modules; importlib looks for each in every form that a module may have, and
reads them one by one. An image (linking.py makes it) holds them compiled, in parts: one for each of the program's
entries, with what that imports and those before it do not. And half of the classes that modules define are of no use
to the command at hand, while CPython takes 120,000 instructions to make one: so classes are made when their names are
first looked up, see Builtins.

The modules of a part are made all at once, each after those that it imports: so importlib, which takes 700 steps of the
interpreter for a module, hears of one in five. Other threads would see modules that are not done yet; where there are
some, nothing comes from the image.

A part counts while all its files have the time and size that they had then; what is in none, or in one that does
not count, is left to importlib. Source: PEP 552; importlib/_bootstrap_external.py.
"""

import _thread
import gc
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER, ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import CodeType, ModuleType
    from typing import Any

    File = tuple[str, int, int]  # a module's source or library, its time and size
    Makers = Mapping[str, CodeType | str]  # of a class: its statement, or the module that it is imported from
    Names = tuple[str, ...]  # of what it takes from `builtins`
    Part = dict[str, tuple[File, CodeType | None, Makers, Names]]  # after what it imports; no code: a library

ENTRIES = {
    "kist-oci": (
        "kist.errors", "kist.faces.oci.__main__", "kist.spec.runtime", "kist.plan.steps", "kist.plan.compile",
        "kist.engine.runtime.create", "kist.faces.oci.create", "kist.plan._table", "_json",
        "kist.engine.runtime.execute", "kist.faces.oci.exec_", "kist.plan.seccomp_policy",
        "kist.engine.runtime.lifecycle",
    ),
    "kist": (
        "kist.errors", "kist.faces.cli.__main__", "kist.spec", "kist.codec", "fcntl", "kist.faces.cli.run",
        "kist.engine.run", "kist.faces.cli.with_image",
        "kist.plan._table", "_json", "kist.plan.seccomp_default", "kist.plan.seccomp", "kist.store.images",
        "kist.plan.image", "kist.engine.create", "kist.engine.start", "kist.faces.cli.exec_", "kist.engine.execute",
        "kist.store.loading", "kist.store.library", "kist.faces.cli.load",
    ),
}  # fmt: skip
INDEX_BYTES = 16384
VERSION = 5  # of what the image holds
_making = _thread.RLock()  # a class must not be made twice


class Builtins(dict):  # type: ignore[type-arg]
    """A module's `__builtins__`: where the interpreter looks for a name that the module lacks."""

    __slots__ = ("makers", "module_getattr", "names")

    def __init__(self, names: "dict[str, Any]", makers: "Makers") -> None:
        self["__import__"] = __import__  # which is not looked for in the way that asks __missing__
        self.names, self.makers = names, makers
        self.module_getattr: Callable[[str], object] | None = None  # its own

    def __missing__(self, name: str) -> "Any":
        names, maker = self.names, self.makers.get(name)
        if maker is None:
            names[name] = _BUILTINS[name]  # that the source does not name: eval
        elif isinstance(maker, str):
            __import__(maker)
            names[name] = getattr(sys.modules[maker], name)
        else:
            with _making:
                if name not in names:
                    exec(maker, names)  # noqa: S102
        return names[name]

    def attribute(self, name: str) -> "Any":
        """The module's __getattr__: PEP 562."""
        if name in self.makers:
            return self[name]
        if self.module_getattr:
            return self.module_getattr(name)
        raise AttributeError(f"module {self.names['__name__']!r} has no attribute {name!r}")

    def directory(self) -> "list[str]":
        """The module's __dir__."""
        return [*self.names, *self.makers]


_BUILTINS = sys.modules["builtins"].__dict__
_ModuleType = type(sys)


class Finder:
    """Puts itself first into sys.meta_path."""

    def __init__(self, program: str, file: str = __file__) -> None:
        sys.meta_path.insert(0, self)
        caches = f"{file.rpartition('/')[0]}/__pycache__"
        self.image = f"{caches}/{program}.{sys.implementation.cache_tag}"
        self.unread: dict[str, tuple[int, int]] = {}  # a module's part: how many bytes, and where
        self.libraries: dict[str, str] = {}
        made_for = VERSION, MAGIC_NUMBER, caches, ENTRIES[program]
        index = self._load(INDEX_BYTES, 0)
        if index and index[0] == made_for:
            self.unread = index[1]
        elif not sys.dont_write_bytecode and posix.access(caches, posix.W_OK):
            from kist.linking import make

            make(self.image, made_for)

    def _load(self, size: int, at: int) -> "Any":
        try:
            fd = posix.open(self.image, posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                return marshal.loads(posix.pread(fd, size, at))  # noqa: S302  # as importlib does
            finally:
                posix.close(fd)
        except (OSError, EOFError, ValueError, TypeError):
            return None

    def _read(self, wanted: str) -> None:
        """The part that has this module."""
        part: Part = self._load(*self.unread[wanted]) or {}
        try:
            whole = part and all(file_of(file[0]) == file for file, _, _, _ in part.values())
        except OSError:
            whole = False
        if not whole:
            self.unread = {}
            try:
                posix.unlink(self.image)  # the next one makes another
            except OSError:
                pass
            return
        for name in part:
            self.unread.pop(name, None)
        for name, (file, code, makers, builtins) in part.items():
            if not code:
                self.libraries[name] = file[0]
            elif name not in sys.modules:
                self.make(name, file[0], code, makers, builtins)

    def make(self, name: str, origin: str, code: "CodeType", makers: "Makers", builtins: "Names") -> None:
        """The module, as importlib would."""
        parent, _, own = name.rpartition(".")
        if parent and parent not in sys.modules:
            __import__(parent)
            if name in sys.modules:
                return
        module = sys.modules[name] = _ModuleType(name)
        spec = ModuleSpec(name, self, origin=origin)  # type: ignore[arg-type]  # has what importlib calls
        spec.has_location, spec.loader_state = True, module
        spec.cached = self.image  # else importlib works out where it would have been
        names = module.__dict__
        names["__spec__"], names["__loader__"], names["__file__"] = spec, self, origin
        names["__package__"] = parent
        if origin.endswith("/__init__.py"):
            names["__package__"] = name
            names["__path__"] = spec.submodule_search_locations = [origin.removesuffix("/__init__.py")]
        for builtin in builtins:
            if builtin in _BUILTINS:  # `site` has more, and who made the image may have had it
                names[builtin] = _BUILTINS[builtin]
        if makers:
            lazy = names["__builtins__"] = Builtins(names, makers)
            names["__getattr__"] = attribute = lazy.attribute
            names["__dir__"] = lazy.directory
        try:
            exec(code, names)  # noqa: S102
        except BaseException:
            del sys.modules[name]
            raise
        if makers and names["__getattr__"] is not attribute:
            lazy.module_getattr, names["__getattr__"] = names["__getattr__"], attribute
        if parent:
            sys.modules[parent].__dict__[own] = module

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None",  # noqa: ARG002
        target: "ModuleType | None" = None,  # noqa: ARG002
    ) -> "ModuleSpec | None":
        if name in self.unread and not _thread._count():
            self._read(name)
            if name in sys.modules:
                return sys.modules[name].__spec__
        origin = self.libraries.get(name)
        if not origin:
            return None
        spec = ModuleSpec(name, ExtensionFileLoader(name, origin), origin=origin)
        spec.has_location = True
        return spec

    def create_module(self, spec: "ModuleSpec") -> "ModuleType | None":
        module: ModuleType = spec.loader_state
        return module

    def exec_module(self, module: "ModuleType") -> None:
        """It is done."""


def start(paths: "list[str]", program: str) -> None:
    """What bin/kist-python ends with. `paths`: kist's, which is now first in sys.path, and its packages'; or none."""
    gc.set_threshold(100_000)  # most become the launcher before there is anything to collect: 3 ms
    if paths:
        del sys.path[0]  # what lies beside kist takes no place of the standard library's
        sys.path += paths
        Finder(program)
    if program == "kist-oci":
        from kist.faces.oci.__main__ import main
    else:
        from kist.faces.cli.__main__ import main
    main()


def file_of(path: str) -> "File":
    found = posix.stat(path)
    return path, found.st_mtime_ns, found.st_size
