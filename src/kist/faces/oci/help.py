"""Help text, in the order of sections that runc's users know."""

from __future__ import annotations

from kist.faces.cli.help import command_help
from kist.faces.oci.messages import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.command import Command


def help_text(command: Command, commands: dict[str, str]) -> str:
    name = f"{program()} {command.name}".rstrip()
    about = command.summary if command.name else f"Open Container Initiative runtime\n\n{command.summary}"
    text = f"NAME:\n   {name} - {about}\n\nUSAGE:\n" + "".join(f"   {name} {words}\n" for words in command.usage)
    if not command.name:
        text += "\nCOMMANDS:\n" + "".join(f"  {verb:<12}{what}\n" for verb, what in commands.items())
    _, _, flags = command_help(command).partition(f"{command.summary}.\n")
    return text + flags
