"""Frozen records: the base class of every value that kist passes around. Imports nothing at run time.

dataclasses, typing, enum and msgspec cost 4 to 30 ms to import, more than a container takes to start; this costs 0.1.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, ClassVar, TypeVar, dataclass_transform

    T = TypeVar("T")
    V = TypeVar("V", bound="Value")
else:

    def dataclass_transform(**_: object) -> Callable[[T], T]:
        """typing.dataclass_transform, PEP 681: tells type checkers what a subclass's __init__ takes."""
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Value:
    """Fields are the annotated names, in order; a class attribute is a default. Equal, hashed and printed by fields.

    Annotations of subclasses must be strings (`from __future__ import annotations`); ClassVar ones are no fields.
    Give mutable defaults only if nobody changes them: they are shared.
    """

    __fields__: ClassVar[tuple[str, ...]] = ()
    __required__: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        own, inherited = cls.__annotations__, cls.__fields__
        names: Iterable[str] = own
        if "ClassVar" in "".join(own.values()):
            names = [name for name, kind in own.items() if kind[:8] != "ClassVar"]
        cls.__fields__ = (*[f for f in inherited if f not in own], *names) if inherited else tuple(names)
        cls.__required__ = cls.__required__.union(names).difference(cls.__dict__)
        if cls.__init__ is not Value.__init__ and "__init__" not in cls.__dict__:  # its parent's own
            cls.__init__ = Value.__init__  # type: ignore[method-assign]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """A class's first instance that is not given all fields in order makes the class an __init__ of its own."""
        cls = type(self)
        if len(args) == len(cls.__fields__) and not kwargs:  # for one or two of them that would not be worth it
            self.__dict__.update(zip(cls.__fields__, args))  # noqa: B905  # strict is slower
            return
        own = _own_init(cls)
        if not cls.__subclasses__():
            cls.__init__ = own  # type: ignore[method-assign]
        own(self, *args, **kwargs)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: a value is never changed; see kist.value.replace")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name}: a value is never changed")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and astuple(self) == astuple(other)

    def __hash__(self) -> int:
        return hash((type(self), astuple(self)))

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in self.__fields__)
        return f"{type(self).__name__}({', '.join(fields)})"


def _init(self: Value) -> None:
    self.__dict__.update(locals())
    del self.__dict__["self"]


def _own_init(cls: type[Value]) -> Callable[..., None]:
    """`_init` with the fields for parameters. Made from source it would take a hundred times as long."""
    fields, required, code = cls.__fields__, cls.__required__, _init.__code__
    defaults = tuple([getattr(cls, name) for name in fields[len(required) :]])
    assert required.issuperset(fields[: len(required)]), f"{cls}: a required field after others"
    count = len(fields) + 1
    code = code.replace(co_argcount=count, co_nlocals=count, co_varnames=("self", *fields), co_name="__init__")
    function: Any = type(_init)
    made: Callable[..., None] = function(code, globals(), "__init__", defaults)
    return made


def astuple(value: object) -> tuple[Any, ...]:
    """The values of all fields, in order."""
    assert isinstance(value, Value)
    return tuple(value.__dict__.values())


def build(cls: type[V], fields: Mapping[str, object]) -> V:
    """An instance from fields by name. Raises TypeError for one that is missing or unknown."""
    return cls(**fields)


def replace(value: V, **changes: object) -> V:
    """A copy with other values in some fields. Raises TypeError for a name that is no field."""
    return type(value)(**{**value.__dict__, **changes})
