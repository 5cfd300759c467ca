"""`kist explain`: what `kist run` would do, as steps."""

from __future__ import annotations

import sys

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.flags import RUN_GROUPS, RUN_NOTES
from kist.faces.cli.parse import Parsed, parse
from kist.faces.cli.request import run_request, this_process
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container

_FORMATS = ("text", "json", "script")

COMMAND = Command(
    name="explain",
    usage=(
        "[--format FORMAT] [--step NUMBER] CONTAINER",
        "[FLAG...] IMAGE [COMMAND [ARGUMENT...]]",
        "[FLAG...] --rootfs DIR [COMMAND [ARGUMENT...]]",
        "network connect|disconnect [FLAG...] NETWORK CONTAINER",
    ),
    summary="Show the kernel steps that 'kist run' with the same arguments, or a container's start, would take",
    groups=(
        (
            "Explaining",
            (
                Flag("format", "one", "FORMAT", "text (for people), json, or script (for sh)", words.choice(*_FORMATS)),
                Flag("script", "bool", "", "Short for --format script", words.boolean),
                Flag("step", "one", "NUMBER", "Only this step", words.number(0, 1 << 16)),
            ),
        ),
        *RUN_GROUPS,
    ),
    notes=RUN_NOTES,
    examples=(
        ("kist explain --rm --memory 64m host sh", "every step, why, and its man page"),
        ("kist explain --script host id > by-hand.sh", "the same as a shell script"),
        ("kist explain --without pidns host ps", "what would be missing"),
        ("kist explain network connect blue web", "the cable that a container gets while it runs"),
    ),
    command_follows=True,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    format = words.choice(*_FORMATS)("--format", parsed.last("format", "text"))
    if words.boolean("--script", parsed.last("script", "false")):
        if format == "json":
            raise InvalidInput("it contradicts --format json", path="--script", next="write one or the other")
        format = "script"
    step = words.number(0, 1 << 16)("--step", parsed.last("step")) if "step" in parsed.given else None
    if parsed.arguments[:2] in (("network", "connect"), ("network", "disconnect")):
        return _network(parsed.arguments[1], list(parsed.arguments[2:]), format, step)
    container = _container(parsed)
    request = container.config.request if container else run_request(parsed.given, parsed.arguments, this_process())
    from kist.engine.explain import explain
    from kist.faces.cli.terminal import colours, columns

    colour = colours() and format == "text"
    text = explain(request, format=format, step=step, colour=colour, width=columns(), container=container)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    return 0


def _network(verb: str, argv: list[str], format: str, step: int | None) -> int:
    from kist.engine.connect import explained
    from kist.engine.containers import Containers
    from kist.engine.explain import rendered
    from kist.faces.cli import network_connect, network_disconnect
    from kist.faces.cli.terminal import colours, columns

    leaves = verb == "disconnect"
    parsed = parse((network_disconnect if leaves else network_connect).COMMAND, argv)
    network, name = parsed.arguments
    ip, ip6, mac, aliases = (b"", b"", b"", ()) if leaves else network_connect.asked(parsed)
    containers = Containers()
    plan, besides = explained(containers, containers.find(name), network, leaves=leaves, ip=ip, ip6=ip6, mac=mac,
                              aliases=aliases)  # fmt: skip
    sys.stdout.write(rendered(plan, format, step, colour=colours() and format == "text", width=columns()))
    if format != "json" and step is None:
        sys.stdout.write("".join([f"# besides: {words}\n" for words in besides]))
    return 0


def _container(parsed: Parsed) -> Container | None:
    """One that is kept and has exactly this name, or this id from its beginning on; else the word is an image."""
    from kist.engine.containers import Containers
    from kist.errors import KistError

    if len(parsed.arguments) != 1 or not parsed.given.keys() <= {"format", "script", "step"}:
        return None
    name = parsed.arguments[0]
    try:
        found = Containers().find(name)
    except KistError:
        return None
    exact = found.name == name or (len(name) >= _ID_LETTERS and found.id.startswith(name))
    return found if found.kept and exact else None


_ID_LETTERS = 12
