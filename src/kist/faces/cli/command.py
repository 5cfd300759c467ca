"""What a verb accepts, as data: the parser, the help and docs/reference/cli.md read it."""

from __future__ import annotations

from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Parser = Callable[[str, str], object]  # (flag's name for errors, text) -> value
    Group = tuple[str, tuple["Flag", ...]]


class Flag(Value):
    """`kind` says how texts become a value: bool, one (the last wins), many (a tuple), words (a tuple, several per
    text), map (the last of a key wins)."""

    name: str
    kind: str
    metavar: str
    help: str
    parse: Parser | None = None  # None: needs the caller's files, environment or directory, see request.py
    short: str = ""
    field: str = ""  # of RunRequest, when it is not the name with underscores
    alias: str = ""  # another spelling, not shown

    @property
    def request_field(self) -> str:
        return self.field or self.keyword

    @property
    def keyword(self) -> str:
        """Its name as a keyword of `kist.run()`: `read_only`, and the plural where the request has it: `volumes`."""
        name = self.name.replace("-", "_")
        return f"{name}s" if self.field == f"{name}s" else name


class Command(Value):
    """What one verb accepts."""

    name: str
    usage: tuple[str, ...]  # after `kist NAME`
    summary: str
    groups: tuple[Group, ...] = ()
    notes: tuple[tuple[str, Mapping[str, str]], ...] = ()  # (heading, words and what they mean)
    examples: tuple[tuple[str, str], ...] = ()  # (command line, what it does)
    least: int = 0  # how many arguments besides flags
    most: int = 0
    command_follows: bool = False  # flags end at the first argument, as the rest is another program's command line
