"""Help text, in the order of sections that runc's users know."""

from __future__ import annotations

from kist.faces.cli.help import command_help
<<<<<<< HEAD
from kist.value import replace
=======
from kist.faces.oci.messages import program
>>>>>>> main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.command import Command


<<<<<<< HEAD
def help_text(command: Command, name: str, commands: dict[str, str]) -> str:
    """`name`: as it was called; `run` and `create` share a module."""
    text = command_help(replace(command, name=name)).replace("Usage: kist ", "Usage: kist-oci ", 1)
    text = text.replace("kist-oci  ", "kist-oci ", 1)
    if not name:
        text += "\nCommands:\n" + "".join(f"  {name:<12}{what}\n" for name, what in commands.items())
    return text
=======
def help_text(command: Command, commands: dict[str, str]) -> str:
    name = f"{program()} {command.name}".rstrip()
    about = command.summary if command.name else f"Open Container Initiative runtime\n\n{command.summary}"
    text = f"NAME:\n   {name} - {about}\n\nUSAGE:\n" + "".join(f"   {name} {words}\n" for words in command.usage)
    if not command.name:
        text += "\nCOMMANDS:\n" + "".join(f"  {verb:<12}{what}\n" for verb, what in commands.items())
    _, _, flags = command_help(command).partition(f"{command.summary}.\n")
    return text + flags
>>>>>>> main
