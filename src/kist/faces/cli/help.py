"""Help text from the tables: at most 80 columns."""

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import HelpAsked, parse
from kist.faces.cli.verbs import GROUPS, VERBS, split_verb, verb_command

WIDTH = 80
_COLUMN = 30


def wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def flag_words(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    several = "" if flag.kind in ("one", "bool") else "..."
    return f"  {short}--{flag.name}{' ' + flag.metavar if flag.metavar else ''}{several}"


def _entry(left: str, text: str) -> list[str]:
    """Two columns; the right one begins on its own line when the left one is too long."""
    lines = wrap(text, WIDTH - _COLUMN)
    first = [f"{left:<{_COLUMN}}{lines[0]}"] if len(left) < _COLUMN - 1 else [left, " " * _COLUMN + lines[0]]
    return first + [" " * _COLUMN + line for line in lines[1:]]


def usage(command: Command) -> list[str]:
    return [
        f"{'Usage:' if not i else '':<7}kist {command.name} {words}".rstrip() for i, words in enumerate(command.usage)
    ]


def command_help(command: Command) -> str:
    lines = [*usage(command), "", *wrap(command.summary + ".", WIDTH)]
    for heading, flags in command.groups:
        lines += ["", f"{heading}:"]
        for flag in flags:
            lines += _entry(flag_words(flag), flag.help)
    if any(flag.kind not in ("one", "bool") for _, flags in command.groups for flag in flags):
        lines += ["", "A flag with ... may be given several times."]
    for heading, terms in command.notes:
        lines += ["", f"{heading}:"]
        for term, text in terms.items():
            lines += _entry(f"  {term}", text)
    if command.examples:
        lines += ["", "Examples:"]
        for line, what in command.examples:
            lines += [f"  $ {line}", f"      {what}"]
    return "\n".join(lines) + "\n"


def overview(verbs: dict[str, str]) -> str:
    """`kist --help`: the verbs and what each does."""
    lines = ["Usage: kist VERB [ARGUMENT...]", "", "Run Linux containers, and see how they work.", "", "Verbs:"]
    for verb, summary in {**{v: text for v, text in verbs.items() if " " not in v}, **GROUPS}.items():
        lines += _entry(f"  {verb}", summary)
    lines += ["", "'kist VERB --help' says more about one.", ""]
    return "\n".join(lines)


COMMAND = Command(name="help", usage=("[VERB]",), summary="Explain a verb", most=2)


def main(argv: list[str]) -> int:
    arguments = parse(COMMAND, argv).arguments
    if arguments:
        raise HelpAsked(verb_command(split_verb(list(arguments))[0]))
    print(overview(VERBS), end="")
    return 0
