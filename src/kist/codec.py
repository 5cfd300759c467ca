"""JSON, typed: text to values by their annotations and back, with the JSON path of what is wrong.

Not msgspec and not json's own front: `kist-oci run` as a whole may take as long as runc does, 34 ms, of which Python is
10; importing msgspec takes 12 to 24, json 8 (for `re`). What parses and quotes is the C part of the standard json.

A class says what its JSON looks like:
    case        "camel" (mediaType), "pascal" (WorkingDir) or "snake"
    json_names  the names that do not follow from the case: {"container_id": "containerID"}
    always      fields that are written also when they hold their default
A module that has CHOICES, {"NamespaceType": ("pid", ...)}, checks fields annotated so. Numbers are checked by the names
U8, U16, U32, U64, I32 and I64. null counts as absent and unknown names are passed over, as in Go.
"""

from __future__ import annotations

import sys

from kist.errors import InvalidInput
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias, TypeVar

    T = TypeVar("T")
    Decoder: TypeAlias = Callable[[object, str], Any]

# Annotations that mean int, within bounds.
U8 = int
U16 = int
U32 = int
U64 = int
I32 = int
I64 = int
_BOUNDS = {
    "U8": (0, 2**8 - 1), "U16": (0, 2**16 - 1), "U32": (0, 2**32 - 1), "U64": (0, 2**64 - 1),
    "I32": (-(2**31), 2**31 - 1), "I64": (-(2**63), 2**63 - 1),
}  # fmt: skip
_NAMES = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
}


# --- text


class _Scanner:
    """What json.decoder would hand to the scanner."""

    strict = True
    object_hook = None
    parse_float = float
    parse_int = int

    def __init__(self, pairs_hook: Callable[[list[tuple[str, object]]], object] | None) -> None:
        self.object_pairs_hook = pairs_hook

    @staticmethod
    def parse_constant(word: str) -> None:
        raise ValueError(f"{word} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def loads(text: str | bytes, what: str = "the JSON text", *, unique: bool = False) -> object:
    """Of a key that comes twice the last one counts, or with `unique` none does. Raises InvalidInput: not UTF-8, not
    JSON (with the line), nested too deeply."""
    scanner = _Scanner(_unique if unique else None)
    try:
        text = text.decode() if isinstance(text, bytes) else text
        text = text.strip(" \t\r\n\ufeff")
        try:
            from _json import make_scanner

            value, end = make_scanner(scanner)(text, 0)  # type: ignore[arg-type]
            if end == len(text):
                return value
        except (ImportError, SystemError, StopIteration, ValueError):
            pass  # another Python, or not JSON: json says where (its C part needs the rest of it for that)
        from json import loads as parse

        return parse(text, parse_constant=scanner.parse_constant, object_pairs_hook=scanner.object_pairs_hook)
    except RecursionError as e:
        raise InvalidInput(f"{what} is nested too deeply", code="json") from e
    except ValueError as e:  # JSONDecodeError and UnicodeDecodeError too
        raise InvalidInput(f"{what} is not JSON", why=str(e), code="json") from e


def dumps(value: object, indent: int | None = None) -> str:
    """A Value, or what JSON knows, as text. Fields that hold their default are left out; see `plain`."""
    value = plain(value)
    if indent is not None:  # for people: not on the path of a start
        import json

        return json.dumps(value, indent=indent, ensure_ascii=False)
    parts: list[str] = []
    _write(value, parts.append)
    return "".join(parts)


def _write(value: object, out: Callable[[str], object]) -> None:
    from _json import encode_basestring_ascii as quote

    if isinstance(value, str):
        out(quote(value))
    elif value is None or isinstance(value, bool):
        out({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, dict):
        separator = "{"
        for key, item in value.items():
            out(f"{separator}{quote(key)}:")
            _write(item, out)
            separator = ","
        out("}" if value else "{}")
    elif isinstance(value, (list, tuple)):
        separator = "["
        for item in value:
            out(separator)
            _write(item, out)
            separator = ","
        out("]" if value else "[]")
    else:
        out(repr(value))


# --- values to JSON


def plain(value: object) -> object:
    """Dictionaries, lists, strings and numbers for `value`. Fields that hold their default are left out."""
    if isinstance(value, Value):
        cls, found = type(value), {}
        for name, key in _keys(cls).items():
            item = getattr(value, name)
            if name in cls.__required__ or name in getattr(cls, "always", ()) or item != getattr(cls, name):
                found[key] = plain(item)
        return found
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, frozenset)):
        return [plain(item) for item in (sorted(value) if isinstance(value, frozenset) else value)]
    if isinstance(value, bytes):
        from binascii import b2a_base64  # not base64: it imports re

        return b2a_base64(value, newline=False).decode()
    return value


# --- JSON to values


def decode(cls: type[T], value: object, path: str = "$") -> T:
    """`value`, as loads() gives it, as an instance of `cls`. Raises InvalidInput with the JSON path."""
    found: T = _decoder(cls.__name__, cls)(value, path)
    return found


def decode_text(cls: type[T], text: str | bytes, what: str = "the JSON text") -> T:
    return decode(cls, loads(text, what))


def _keys(cls: type[Value]) -> dict[str, str]:
    """JSON name by field."""
    found: dict[str, str] | None = cls.__dict__.get("_json_keys")
    if found is None:
        names, case = getattr(cls, "json_names", {}), getattr(cls, "case", "snake")
        found = {}
        for field in cls.__fields__:
            spelled = field
            if case == "pascal" or (case == "camel" and "_" in field):
                first, *rest = field.rstrip("_").split("_")
                spelled = (first if case == "camel" else first.capitalize()) + "".join([w.capitalize() for w in rest])
            found[field] = names.get(field, spelled)
        cls._json_keys = found  # type: ignore[attr-defined]
    return found


def _annotations(cls: type[Value]) -> dict[str, tuple[str, type]]:
    """Field -> (annotation, the class in whose module it is to be understood)."""
    found: dict[str, tuple[str, type]] | None = cls.__dict__.get("_json_annotations")
    if found is None:
        bases = [base for base in reversed(cls.__mro__) if "__annotations__" in base.__dict__]
        found = {name: (kind, base) for base in bases for name, kind in base.__annotations__.items()}
        cls._json_annotations = found  # type: ignore[attr-defined]
    return found


def _object(cls: type[Value]) -> Decoder:
    decoders: dict[str, tuple[str, Decoder]] = {}  # by JSON name, as they are met

    def learn(key: str) -> tuple[str, Decoder] | None:
        for name, spelled in _keys(cls).items():
            if spelled == key:
                decoders[key] = name, _decoder(*_annotations(cls)[name])
                return decoders[key]
        return None

    def decode_object(value: object, path: str) -> object:
        if not isinstance(value, dict):
            raise _wrong(value, "an object", path)
        found = {}
        for key, item in value.items():  # of those that are there: a class may have a hundred fields
            if item is None:
                continue
            known = decoders.get(key) or learn(key)
            if known:
                found[known[0]] = known[1](item, f"{path}.{key}")
        for name in cls.__required__:
            if name not in found:
                raise InvalidInput(f"{_keys(cls)[name]} is missing", path=path)
        return cls(**found)

    return decode_object


def _decoder(annotation: str, owner: type) -> Decoder:
    """The function that checks and converts what `annotation`, written in `owner`, describes."""
    cache = _CACHE.setdefault(owner.__module__, {})
    if annotation not in cache:
        cache[annotation] = _make_decoder(annotation, owner)
    return cache[annotation]


_CACHE: dict[str, dict[str, Decoder]] = {}  # filled on first use; only ever holds what follows from the annotations


def _make_decoder(annotation: str, owner: type) -> Decoder:
    kind = annotation.removesuffix(" | None")
    base, _, rest = kind.partition("[")
    if base == "tuple" and rest.endswith(", ...]"):
        return _array(_decoder(rest[:-6], owner), tuple)
    if base == "tuple":
        return _fixed(tuple([_decoder(part, owner) for part in _split(rest[:-1])]))
    if base == "frozenset":
        return _array(_decoder(rest[:-1], owner), frozenset)
    if base in ("dict", "Mapping"):
        return _mapping(_decoder(_split(rest[:-1])[1], owner))
    if kind in _BOUNDS:
        return _integer(*_BOUNDS[kind])
    if kind in _PLAIN:
        return _PLAIN[kind]
    module = sys.modules[owner.__module__]
    choices = getattr(module, "CHOICES", {})
    if kind in choices:
        return _choice(choices[kind])
    cls = owner if owner.__name__ == kind else getattr(module, kind)
    if isinstance(cls, type) and issubclass(cls, Value):
        return _object(cls)
    raise TypeError(f"no way to read {annotation} of {owner.__qualname__} from JSON")


def _array(item: Decoder, kind: type) -> Decoder:
    def decode_array(value: object, path: str) -> object:
        if not isinstance(value, list):
            raise _wrong(value, "an array", path)
        if item is _text and _is_plain(value):
            return kind(value)
        return kind([item(v, f"{path}[{i}]") for i, v in enumerate(value)])

    return decode_array


def _is_plain(texts: list[object]) -> bool:
    """Strings that need no closer look."""
    try:
        joined = "".join(texts)  # type: ignore[arg-type]
    except TypeError:
        return False
    return joined.isascii() and "\0" not in joined


def _split(arguments: str) -> list[str]:
    """At the commas that are in no bracket."""
    parts, depth = [""], 0
    for char in arguments:
        depth += (char == "[") - (char == "]")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _fixed(items: tuple[Decoder, ...]) -> Decoder:
    def decode_fixed(value: object, path: str) -> object:
        if not isinstance(value, list) or len(value) != len(items):
            raise _wrong(value, f"an array of {len(items)}", path)
        return tuple([item(v, f"{path}[{i}]") for i, (item, v) in enumerate(zip(items, value, strict=True))])

    return decode_fixed


def _mapping(item: Decoder) -> Decoder:
    def decode_mapping(value: object, path: str) -> object:
        if not isinstance(value, dict):
            raise _wrong(value, "an object", path)
        return {_text(key, path): item(v, f"{path}.{key}") for key, v in value.items()}

    return decode_mapping


def _choice(words: tuple[str, ...]) -> Decoder:
    def decode_choice(value: object, path: str) -> str:
        if not isinstance(value, str):
            raise _wrong(value, "a string", path)
        if value not in words:
            known = ", ".join(word or '""' for word in words)
            raise InvalidInput(f"unknown value {value[:80]!r}", path=path, next=f"one of {known}")
        return value

    return decode_choice


def _integer(low: int, high: int) -> Decoder:
    def decode_integer(value: object, path: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(value, "a whole number", path)
        if not low <= value <= high:
            raise InvalidInput(f"{value} is not within {low}..{high}", path=path)
        return value

    return decode_integer


def _wrong(value: object, wanted: str, path: str) -> InvalidInput:
    return InvalidInput(f"it must be {wanted}, not {_NAMES.get(type(value), 'null')}", path=path)


def _exactly(kind: type, wanted: str) -> Decoder:
    def decode_exactly(value: object, path: str) -> object:
        if type(value) is not kind:
            raise _wrong(value, wanted, path)
        return value

    return decode_exactly


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise _wrong(value, "a string", path)
    if "\0" in value:
        raise InvalidInput("a NUL character cannot be passed to the kernel", path=path)
    if not value.isascii() and any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in value):
        raise InvalidInput("half of a surrogate pair is no character", path=path)  # os.fsdecode's halves are bytes
    return value


def _float(value: object, path: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _wrong(value, "a number", path)
    return float(value)


def _bytes(value: object, path: str) -> bytes:
    from binascii import Error, a2b_base64

    try:
        return a2b_base64(_text(value, path), strict_mode=True)
    except (Error, ValueError) as e:
        raise InvalidInput("it is not base64", path=path) from e


_PLAIN: dict[str, Decoder] = {
    "str": _text, "bool": _exactly(bool, "true or false"), "int": _integer(-(2**63), 2**64 - 1), "float": _float,
    "bytes": _bytes, "object": lambda value, _: value,
}  # fmt: skip
