"""`kist start`."""

from kist.errors import InvalidInput
from kist.faces.cli.attach import DETACH_KEYS
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import values, words

COMMAND = Command(
    name="start",
    usage=("CONTAINER [CONTAINER...]", "--attach [--interactive] CONTAINER"),
    summary="Start containers that were created, or have ended",
    groups=(
        (
            "Flags",
            (
                Flag("attach", "bool", "", "Stay with it: output, signals and exit status", words.boolean, "a"),
                Flag("interactive", "bool", "", "Give it this command's input, too", words.boolean, "i"),
                DETACH_KEYS,
            ),
        ),
    ),
    examples=(("kist start -a build", "again, in the foreground"),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    on = {name: words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("attach", "interactive")}
    if any(on.values()):
        keys = parsed.last("detach-keys")
        return _attached(
            parsed.arguments, on["interactive"], values.detach_keys("--detach-keys", keys) if keys else b""
        )
    from kist.engine.start import start
    from kist.faces.cli.each import each

    return each(parsed.arguments, start)


def _attached(names: tuple[str, ...], interactive: bool, detach_keys: bytes) -> int:
    if len(names) > 1:
        raise InvalidInput("only one container can be attached to", path="kist start", next="name one, or leave out -a")
    from kist.engine.containers import Containers
    from kist.engine.making import open_missing_stdio, own_stdio
    from kist.engine.start import run_in_foreground
    from kist.faces.cli.failed import explainer
    from kist.value import replace

    open_missing_stdio()
    containers = Containers()
    container = containers.find(names[0])
    own = container.config.request
    request = replace(own, interactive=interactive and own.interactive, detach_keys=detach_keys or own.detach_keys)
    if own.tty:
        from kist.engine.attach import start_and_attach
        from kist.faces.cli.attach import left, request_of

        own_stdio(request)
        return left(start_and_attach(containers, container, replace(request_of(request), stdin=request.interactive)))
    run_in_foreground(containers, container, own_stdio(request), explainer())
    return 0
