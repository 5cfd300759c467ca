"""From a command line to texts by flag, in the grammar of Docker's command line (Go's pflag).

`--flag value`, `--flag=value`, `-f value`, `-fvalue`, `-f=value`, `-it` for several without values, `--rm=false`;
`--` ends the flags; `--json` is short for `--format json` where there is that. Texts are not looked into
here. No argparse: its import alone takes longer than starting a process.
"""

from __future__ import annotations

from kist.errors import InvalidInput, Unsupported
from kist.faces.cli.command import Command, Flag
from kist.plan.words import nearest, plain, show
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class HelpAsked(Exception):
    """`--help` was among the flags."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name)
        self.command = command


class Parsed(Value):
    """Texts by the flag's name, in the order given, and what is left."""

    given: dict[str, list[str]]
    arguments: tuple[str, ...]

    def last(self, name: str, default: str = "") -> str:
        return self.given.get(name, [default])[-1]


def flags_of(command: Command) -> Iterator[Flag]:
    for _, flags in command.groups:
        yield from flags


def parse(command: Command, argv: Sequence[str]) -> Parsed:
    """Raises InvalidInput for what the command does not know, HelpAsked for --help."""
    long = {name: flag for flag in flags_of(command) for name in (flag.name, flag.alias) if name}
    short = {flag.short: flag for flag in long.values() if flag.short}
    given: dict[str, list[str]] = {}
    arguments: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            arguments.extend(words)
        elif word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            if name == "help":
                raise HelpAsked(command)
            if name == "json" and not equals and name not in long and "format" in long:
                name, text, equals = "format", "json", "="
            flag = long.get(name) or _unknown(command, name, long)
            given.setdefault(flag.name, []).append(_text(flag, f"--{name}", text if equals else None, words))
        elif word.startswith("-") and word != "-":
            _cluster(command, word, words, short, given)
        else:
            arguments.append(word)
            if command.command_follows:
                arguments.extend(words)
    for text in (*arguments, *(text for texts in given.values() for text in texts)):
        plain("an argument", text)
    _count(command, arguments)
    return Parsed(given, tuple(arguments))


def _cluster(
    command: Command, word: str, words: Iterator[str], short: dict[str, Flag], given: dict[str, list[str]]
) -> None:
    """`-it`, `-itv /a:/b`, `-v/a:/b`: all but the last take no value."""
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = short.get(letter)
        if flag is None and letter == "h":
            raise HelpAsked(command)
        if flag is None:
            if command.command_follows:
                _later(letter)
            where = "" if word == f"-{letter}" else f" in {show(word)}"
            raise InvalidInput(f"unknown flag{where}", path=f"-{letter}", code="unknown-flag")
        if letters.startswith("="):
            value, letters = letters[1:], ""
        elif flag.kind == "bool":
            value = "true"
        elif letters:
            value, letters = letters, ""
        else:
            value = _text(flag, f"-{letter}", None, words)
        given.setdefault(flag.name, []).append(value)


def _text(flag: Flag, spelling: str, text: str | None, words: Iterator[str]) -> str:
    if text is not None:
        return text
    if flag.kind == "bool":
        return "true"
    text = next(words, None)
    if text is None:
        hint = "; for help write --help" if spelling == "-h" else ""
        raise InvalidInput(
            "the value is missing",
            path=spelling,
            why=f"--{flag.name} takes {flag.metavar}",
            next=f"write {spelling} {flag.metavar}{hint}",
            code="missing-value",
        )
    return text


def _unknown(command: Command, name: str, known: dict[str, Flag]) -> Flag:
    if command.command_follows:
        _later(name)
    close = nearest(name, known)
    next_ = f"did you mean --{close}?" if close else ""
    shown = f"--{name[:60]}" if name.isprintable() else show(f"--{name}")
    raise InvalidInput("unknown flag", path=shown, next=next_, code="unknown-flag")


def _later(name: str) -> None:
    """Raises Unsupported for a flag of docker run that kist does not have, by either name."""
    from kist.faces.cli.flags import LATER, LATER_SHORT  # only on the way to an error

    name = LATER_SHORT.get(name, name)
    if name in LATER:
        raise Unsupported(f"--{name}: Docker has this flag, kist does not have it yet", why=LATER[name])


def _count(command: Command, arguments: Sequence[str]) -> None:
    least, most = command.least, command.most
    if len(arguments) < least:
        what = f"{len(arguments)} of {least} arguments are there" if least > 1 else "an argument is missing"
    elif len(arguments) > most and not command.command_follows:
        what = f"{show(arguments[most])} is one argument too many"
    else:
        return
    next_ = f"write kist {command.name} {command.usage[0]}"
    raise InvalidInput(what, path=f"kist {command.name}", next=next_, code="usage")
