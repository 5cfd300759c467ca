"""Help text."""

from __future__ import annotations

from kist.faces.cli.help import command_help
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.command import Command


def help_text(command: Command, name: str, commands: dict[str, str]) -> str:
    """`name`: as it was called; `run` and `create` share a module."""
    text = command_help(replace(command, name=name)).replace("Usage: kist ", "Usage: kist-oci ", 1)
    text = text.replace("kist-oci  ", "kist-oci ", 1)
    if not name:
        text += "\nCommands:\n" + "".join(f"  {name:<12}{what}\n" for name, what in commands.items())
    return text
