"""Help text."""

from __future__ import annotations

from kist.faces.cli.help import command_help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.command import Command


def help_text(command: Command, commands: dict[str, str]) -> str:
    text = command_help(command).replace("Usage: kist ", "Usage: kist-oci ", 1).replace("kist-oci  ", "kist-oci ", 1)
    if not command.name:
        text += "\nCommands:\n" + "".join(f"  {name:<12}{what}\n" for name, what in commands.items())
    return text
