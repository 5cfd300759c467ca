"""`kist attach`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import values as v
from kist.plan import words as w

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.attach import AttachRequest
    from kist.plan.request import RunRequest

DETACH_KEYS = Flag("detach-keys", "one", "KEYS", "Keys that leave it running (ctrl-p,ctrl-q)", v.detach_keys)

COMMAND = Command(
    name="attach",
    usage=("[FLAG...] CONTAINER",),
    summary="Connect to a container that runs: what it prints from now on, its input, signals and exit status",
    groups=(
        (
            "Flags",
            (
                Flag("no-stdin", "bool", "", "Pass no input on", w.boolean),
                Flag("sig-proxy", "bool", "", "Pass signals on (default true)", w.boolean),
                DETACH_KEYS,
            ),
        ),
    ),
    examples=(("kist attach web", "ctrl-p, ctrl-q leaves it running, if it has a terminal"),),
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.attach import AttachRequest, attach
    from kist.engine.containers import Containers
    from kist.engine.making import open_missing_stdio

    open_missing_stdio()
    keys = v.detach_keys("--detach-keys", parsed.last("detach-keys", "ctrl-p,ctrl-q"))
    request = AttachRequest(
        stdin=not w.boolean("--no-stdin", parsed.last("no-stdin", "false")),
        sig_proxy=w.boolean("--sig-proxy", parsed.last("sig-proxy", "true")),
        detach_keys=keys,
    )
    return left(attach(Containers().find(parsed.arguments[0]), request))


def request_of(request: RunRequest) -> AttachRequest:
    """As `run` was asked for."""
    from kist.engine.attach import AttachRequest

    return AttachRequest(sig_proxy=request.sig_proxy, detach_keys=request.detach_keys)


def left(status: int | None) -> int:
    """What is said, and the exit status, when the detach keys were typed."""
    if status is None:
        import sys

        print("\r\nkist: detached; it runs on", file=sys.stderr)
        return 0
    return status
