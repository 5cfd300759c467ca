"""`--format`: the part of Go's text/template that people use with docker, on plain JSON data.

    {{.Repository}}  {{.Config.Env}}  {{json .}}  {{join .RepoTags ", "}}  {{index .Config.Labels "key"}}  {{len .X}}
    {{range .RepoTags}}{{.}} {{else}}none{{end}}  {{if .X}}...{{else if .Y}}...{{end}}  {{with .X}}...{{end}}
    pipes, and eq ne lt gt and or not upper lower title split slice printf print truncate pad

Source: pkg.go.dev/text/template; docker's formatting functions, docs.docker.com/engine/cli/formatting.
"""

from __future__ import annotations

from kist.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Out = Callable[[str], object]
    Node = Callable[[object, object, Out], None]  # (dot, $, where text goes)
    Term = Callable[[object, object], object]  # (dot, $) -> value

_DEPTH_MAX = 50


def compile_template(text: str) -> Callable[[object], str]:
    """Raises InvalidInput for what is no template, and when it is used for a field that is not there."""
    parser = _Parser(_tokens(text.replace("\\t", "\t").replace("\\n", "\n")))
    nodes, end = parser.block(0)
    if end:
        raise _wrong(f"{{{{{end}}}}} without a beginning")

    def render(data: object) -> str:
        parts: list[str] = []
        for node in nodes:
            node(data, data, parts.append)
        return "".join(parts)

    return render


def _wrong(why: str) -> InvalidInput:
    return InvalidInput("it is not a template", path="--format", why=why, next="for example '{{.ID}} {{json .}}'")


def _tokens(text: str) -> list[tuple[bool, str]]:
    """(whether it is an action, its text) in order; {{- and -}} take the white space beside them away."""
    found: list[tuple[bool, str]] = []
    trim = False
    while text:
        before, opened, text = text.partition("{{")
        before = before.lstrip() if trim else before
        if not opened:
            found.append((False, before))
            break
        action, closed, text = text.partition("}}")
        if not closed:
            raise _wrong("{{ without }}")
        found.append((False, before.rstrip() if action.startswith("- ") else before))
        trim = action.endswith(" -")
        action = action.removeprefix("- ").removesuffix(" -").strip()
        if not action.startswith("/*"):
            found.append((True, action))
    return found


class _Parser:
    def __init__(self, tokens: list[tuple[bool, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def block(self, depth: int) -> tuple[list[Node], str]:
        """Nodes up to `end` or `else`, and which of the two that was ("else if ..." too), "" at the end of all."""
        if depth > _DEPTH_MAX:
            raise _wrong("it is nested too deeply")
        nodes: list[Node] = []
        while self._at < len(self._tokens):
            is_action, text = self._tokens[self._at]
            self._at += 1
            word, _, rest = text.partition(" ")
            if not is_action:
                nodes.append(_text(text))
            elif word in ("end", "else"):
                return nodes, text
            elif word in ("range", "if", "with"):
                nodes.append(self._branch(word, rest, depth))
            else:
                nodes.append(_print(_pipeline(text)))
        return nodes, ""

    def _branch(self, word: str, condition: str, depth: int) -> Node:
        term = _pipeline(condition)
        then, end = self.block(depth + 1)
        otherwise: list[Node] = []
        if end == "else":
            otherwise, end = self.block(depth + 1)
        elif end.startswith("else "):
            kind, _, rest = end.removeprefix("else ").partition(" ")
            otherwise, end = [self._branch(kind, rest, depth + 1)], "end"
        if end != "end":
            raise _wrong(f"{word} without end")
        return {"range": _range, "if": _if, "with": _with}[word](term, then, otherwise)


def _text(text: str) -> Node:
    def node(_dot: object, _top: object, out: Out) -> None:
        out(text)

    return node


def _print(term: Term) -> Node:
    def node(dot: object, top: object, out: Out) -> None:
        out(_shown(term(dot, top)))

    return node


def _run(nodes: Sequence[Node], dot: object, top: object, out: Out) -> None:
    for node in nodes:
        node(dot, top, out)


def _if(term: Term, then: list[Node], otherwise: list[Node]) -> Node:
    return lambda dot, top, out: _run(then if term(dot, top) else otherwise, dot, top, out)


def _with(term: Term, then: list[Node], otherwise: list[Node]) -> Node:
    def node(dot: object, top: object, out: Out) -> None:
        value = term(dot, top)
        _run(then, value, top, out) if value else _run(otherwise, dot, top, out)

    return node


def _range(term: Term, then: list[Node], otherwise: list[Node]) -> Node:
    def node(dot: object, top: object, out: Out) -> None:
        value = term(dot, top)
        items = [value[key] for key in sorted(value)] if isinstance(value, dict) else value
        if not items:
            return _run(otherwise, dot, top, out)
        if not isinstance(items, (list, tuple)):
            raise _wrong(f"range over {_shown(items)!r}, which is no list")
        for item in items:
            _run(then, item, top, out)
        return None

    return node


# --- what stands in the braces


def _words(text: str) -> list[str]:
    """Separated by blanks; strings in quotes, pipes and parentheses are words of their own."""
    found: list[str] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char.isspace():
            at += 1
        elif char in "|()":
            found.append(char)
            at += 1
        elif char in "\"'`":
            end = at + 1
            while end < len(text) and text[end] != char:
                end += 2 if text[end] == "\\" and char != "`" else 1
            if end >= len(text):
                raise _wrong(f"a string without its end: {text[at:]}")
            found.append(text[at : end + 1])
            at = end + 1
        else:
            end = at
            while end < len(text) and not (text[end].isspace() or text[end] in "|()"):
                end += 1
            found.append(text[at:end])
            at = end
    return found


def _pipeline(text: str) -> Term:
    words = _words(text)
    if not words:
        raise _wrong("{{}} is empty")
    term = _commands(words, 0)
    if words:
        raise _wrong(f"{words[0]!r} is one too many")
    return term


def _commands(words: list[str], depth: int) -> Term:
    """`command | command`: each gets what the one before it gave, as its last argument. Takes its words."""
    if depth > _DEPTH_MAX:
        raise _wrong("it is nested too deeply")
    term = _command(words, None, depth)
    while words and words[0] == "|":
        words.pop(0)
        term = _command(words, term, depth)
    return term


def _command(words: list[str], last: Term | None, depth: int) -> Term:
    terms: list[Term] = []
    function: Callable[..., object] | None = None
    while words and words[0] not in ("|", ")"):
        word = words.pop(0)
        if word == "(":
            terms.append(_commands(words, depth + 1))
            if not words or words.pop(0) != ")":
                raise _wrong("( without )")
        elif function is None and not terms and word in _FUNCTIONS:
            function = _FUNCTIONS[word]
        else:
            terms.append(_operand(word))
    if last is not None:
        terms.append(last)
    if function is None:
        if last is not None:
            raise _wrong("something is missing beside |")
        return terms[0] if len(terms) == 1 else _method(terms)
    chosen = function

    def call(dot: object, top: object) -> object:
        values = [term(dot, top) for term in terms]
        try:
            return chosen(*values)
        except (TypeError, ValueError, LookupError) as e:
            raise _wrong(str(e)) from e

    return call


def _method(terms: list[Term]) -> Term:
    """`.Label "key"`: a field that is a function, and what it is given."""
    if not terms:
        raise _wrong("() is empty")

    def call(dot: object, top: object) -> object:
        method, *values = [term(dot, top) for term in terms]
        if not callable(method):
            raise _wrong("there is no such function")
        return method(*values)

    return call


def _operand(word: str) -> Term:
    if word[0] in "\"'`":
        body = word[1:-1]
        text = body if word[0] == "`" else _unescaped(body)
        return lambda _dot, _top: text
    if word.lstrip("-").isdigit():
        number = int(word)
        return lambda _dot, _top: number
    if word in ("true", "false", "nil"):
        return lambda _dot, _top: {"true": True, "false": False, "nil": None}[word]
    if word[0] not in ".$":
        raise _wrong(f"unknown function {word!r}")
    top_first = word[0] == "$"
    names = [name for name in word.lstrip("$").split(".") if name]

    def field(dot: object, top: object) -> object:
        value = top if top_first else dot
        for name in names:
            if not isinstance(value, dict):
                raise _wrong(f"{word} does not lead anywhere: there is nothing below {_shown(value)!r}")
            if name not in value:
                raise _wrong(f"there is no {name}; there are {', '.join(map(str, value))}")
            value = value[name]
        return value

    return field


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'"}


def _unescaped(text: str) -> str:
    """Go's escapes, but for the numeric ones."""
    parts = text.split("\\")
    found, rest = parts[0], parts[1:]
    while rest:
        part = rest.pop(0)
        if not part and rest:  # two in a row
            found += "\\" + rest.pop(0)
        elif part[:1] in _ESCAPES:
            found += _ESCAPES[part[0]] + part[1:]
        else:
            raise _wrong(f"the string {text!r} has an unknown escape")
    return found


def _shown(value: object) -> str:
    """As Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_shown(value[key])}' for key in sorted(value))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_shown, value))}]"
    return str(value)


def _json(value: object) -> str:
    from kist.codec import dumps

    return dumps(value)


def _index(value: object, *keys: object) -> object:
    for key in keys:
        value = value.get(key, "") if isinstance(value, dict) else value[key]  # type: ignore[index]
    return value


def _printf(format: object, *values: object) -> str:
    text = str(format).replace("%v", "%s").replace("%q", "%r")
    return text % tuple([_shown(v) if not isinstance(v, (int, float)) else v for v in values])


def _slice(value: str, start: int, end: int | None = None) -> str:
    return value[start:end]


_FUNCTIONS: dict[str, Callable[..., object]] = {
    "json": _json,
    "index": _index,
    "len": len,
    "join": lambda items, separator: separator.join(map(_shown, items)),
    "split": lambda text, separator: text.split(separator),
    "upper": lambda text: _shown(text).upper(),
    "lower": lambda text: _shown(text).lower(),
    "title": lambda text: _shown(text).title(),
    "print": lambda *values: "".join(map(_shown, values)),
    "println": lambda *values: " ".join(map(_shown, values)) + "\n",
    "printf": _printf,
    "slice": _slice,
    "truncate": lambda text, length: text[:length],
    "pad": lambda text, before, after: " " * before + text + " " * after,
    "eq": lambda first, *others: first in others,
    "ne": lambda first, other: first != other,
    "lt": lambda first, other: first < other,
    "le": lambda first, other: first <= other,
    "gt": lambda first, other: first > other,
    "ge": lambda first, other: first >= other,
    "and": lambda *values: next((v for v in values if not v), values[-1]),
    "or": lambda *values: next((v for v in values if v), values[-1]),
    "not": lambda value: not value,
}
