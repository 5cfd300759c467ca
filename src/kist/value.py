"""Frozen records: the base class of every value that kist passes around. Imports nothing at run time.

dataclasses, typing, enum and msgspec cost 4 to 30 ms to import, more than a container takes to start; this costs 0.1.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ClassVar, TypeVar, dataclass_transform

    T = TypeVar("T")
    V = TypeVar("V", bound="Value")
else:

    def dataclass_transform(**_: object) -> Callable[[T], T]:
        """typing.dataclass_transform, PEP 681: tells type checkers what a subclass's __init__ takes."""
        return lambda cls: cls


_MADE_OFTEN = 16


@dataclass_transform(frozen_default=True)
class Value:
    """Fields are the annotated names, in order; a class attribute is a default. Equal, hashed and printed by fields.

    Annotations of subclasses must be strings (`from __future__ import annotations`); ClassVar ones are no fields.
    Give mutable defaults only if nobody changes them: they are shared.
    """

    __fields__: ClassVar[tuple[str, ...]] = ()
    __required__: ClassVar[frozenset[str]] = frozenset()
    __made__: ClassVar[int] = 0  # instances so far

    def __init_subclass__(cls) -> None:
        own = cls.__annotations__
        names = [name for name, kind in own.items() if not kind.startswith("ClassVar")]
        cls.__fields__ = (*[f for f in cls.__fields__ if f not in own], *names)
        required = [name for name in names if name not in cls.__dict__]
        cls.__made__ = 0
        if "__init__" not in cls.__dict__:
            cls.__init__ = Value.__init__  # type: ignore[method-assign]
        cls.__required__ = (cls.__required__ - cls.__dict__.keys()) | frozenset(required)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        cls.__made__ += 1
        if cls.__made__ == _MADE_OFTEN and cls.__init__ is Value.__init__:
            cls.__init__ = _own_init(cls)  # type: ignore[method-assign]
        given = self.__dict__
        if args:
            given.update(zip(self.__fields__, args, strict=False))
            if len(args) > len(self.__fields__) or not given.keys().isdisjoint(kwargs):
                raise TypeError(f"{type(self).__name__}: too many positional arguments")
        given.update(kwargs)
        if not self.__required__ <= given.keys():
            raise TypeError(f"{type(self).__name__} lacks {', '.join(sorted(self.__required__ - given.keys()))}")
        if kwargs and not given.keys() <= set(self.__fields__):
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(given.keys() - set(self.__fields__)))}")

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


def _own_init(cls: type[Value]) -> Callable[..., None]:
    """An __init__ of the class's own: it takes 60 us to make and saves 1 us at each call."""
    words = [name if name in cls.__required__ else f"{name}=cls.{name}" for name in cls.__fields__]
    if any("=" in word for word in words[: len(cls.__required__)]):
        return Value.__init__  # Python has no parameter without a default after one with
    body = "".join([f"; _given[{name!r}] = {name}" for name in cls.__fields__])
    scope: dict[str, Any] = {"cls": cls}
    exec(f"def __init__(self, {', '.join(words)}):\n    _given = self.__dict__{body}\n", scope)  # noqa: S102
    made: Callable[..., None] = scope["__init__"]
    return made


def astuple(value: object) -> tuple[Any, ...]:
    """The values of all fields, in order."""
    assert isinstance(value, Value)
    return tuple([getattr(value, name) for name in value.__fields__])


def build(cls: type[V], fields: Mapping[str, object]) -> V:
    """An instance from fields by name. Raises TypeError for one that is missing or unknown."""
    return cls(**fields)


def replace(value: V, **changes: object) -> V:
    """A copy with other values in some fields. Raises TypeError for a name that is no field."""
    return type(value)(**{**value.__dict__, **changes})
