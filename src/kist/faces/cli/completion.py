"""`kist completion`: scripts for shells, which ask `kist completion --words` what may come next.

Verbs and flags come from the same tables as the parser and the help; names of containers, images and networks are
looked up when Tab is pressed.
"""

from __future__ import annotations

from kist.faces.cli.command import Command
from kist.faces.cli.parse import flags_of, parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SCRIPTS = {
    "bash": """\
_kist() {
    local IFS=$'\\n'
    COMPREPLY=($(kist completion --words "${COMP_CWORD}" -- "${COMP_WORDS[@]:1}" 2>/dev/null))
}
complete -o default -F _kist kist
""",
    "zsh": """\
#compdef kist
_kist() {
    local -a found
    found=("${(@f)$(kist completion --words "$((CURRENT - 1))" -- "${words[@]:1}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then compadd -a found; else _files; fi
}
compdef _kist kist
""",
    "fish": """\
function __kist_words
    set -l before (commandline -opc)
    set -l now (commandline -ct)
    kist completion --words (count $before) -- $before[2..-1] $now 2>/dev/null
end
complete -c kist -a '(__kist_words)'
""",
}

COMMAND = Command(
    name="completion",
    usage=("bash | zsh | fish",),
    summary="Print a script that lets a shell complete verbs, flags and names",
    examples=(
        ("source <(kist completion bash)", "for this shell"),
        ("kist completion fish > ~/.config/fish/completions/kist.fish", "for every one"),
    ),
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    if argv[:1] == ["--words"] and argv[1:2] and argv[1].isdigit():
        at = int(argv[1])
        line = argv[3:] if argv[2:3] == ["--"] else argv[2:]
        before, now = line[: max(at - 1, 0)], (line[at - 1 : at] or [""])[0]
        print("\n".join(complete(before, now)))
        return 0
    shell = words.choice(*SCRIPTS)("SHELL", parse(COMMAND, argv).arguments[0])
    print(SCRIPTS[str(shell)], end="")
    return 0


def complete(before: list[str], now: str) -> list[str]:
    """What may stand in place of `now` after the words `before` (without `kist`), in order."""
    from kist.errors import KistError
    from kist.faces.cli.verbs import GROUPS, VERBS, split_verb, verb_command

    def fitting(candidates: Iterable[str]) -> list[str]:
        return sorted({word for word in candidates if word.startswith(now)})

    if not before:
        return fitting([*(verb for verb in VERBS if " " not in verb), *GROUPS])
    verb, rest = split_verb(before)
    try:
        command = verb_command(verb)
    except KistError:
        return []
    if verb in GROUPS:
        return fitting(command.notes[0][1])
    if verb == "help":
        return fitting([*VERBS, *GROUPS])
    flags = list(flags_of(command))
    if now.startswith("-"):
        return fitting(f"--{flag.name}" for flag in flags)
    if rest and any(rest[-1] in (f"--{f.name}", f"-{f.short}") and f.kind != "bool" for f in flags):
        return []  # a flag's value: the shell knows files
    return fitting(_names(command, [word for word in rest if not word.startswith("-")]))


def _names(command: Command, given: list[str]) -> Iterable[str]:
    """By the first word that the usage has for its arguments."""
    usage = command.usage[-1 if len(command.usage) > 1 and not command.usage[0] else 0]
    if command.command_follows and given:
        return ()
    kinds = {"CONTAINER": _containers, "IMAGE": _images, "NETWORK": _networks, "NAME": _everything}
    for word in usage.replace("[", " ").replace("]", " ").replace(".", " ").split():
        if word in kinds:
            return kinds[word]()
    return SCRIPTS if command.name == "completion" else ()


def _containers() -> list[str]:
    from kist.engine.containers import Containers

    return [container.name for container in Containers().all()]


def _images() -> list[str]:
    from kist.store.images import ImageStore

    return ["host", *(name.removesuffix(":latest") for image in ImageStore().list() for name in image.names)]


def _networks() -> list[str]:
    from kist.faces.cli.networks import states
    from kist.network.manage import everything

    return ["none", "host", *(network.name for network, _ in everything(states()))]


def _everything() -> list[str]:
    return [*_containers(), *_images(), *_networks()]
