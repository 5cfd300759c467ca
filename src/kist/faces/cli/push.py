"""`kist push`."""

from __future__ import annotations

import sys

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse
from kist.faces.cli.registry_flags import AUTHFILE, QUIET, TLS_VERIFY, open_client, transfers
from kist.plan import words

COMMAND = Command(
    name="push",
    usage=("[FLAG...] NAME[:TAG]",),
    summary="Send an image to the registry that its name begins with",
    groups=(("Flags", (QUIET, AUTHFILE, TLS_VERIFY)),),
    examples=(("kist tag app localhost:5000/app && kist push localhost:5000/app", "to a registry of your own"),),
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.push import push_image
    from kist.spec.reference import parse_reference
    from kist.store.images import ImageStore

    reference = parse_reference(parsed.arguments[0])
    quiet = words.boolean("--quiet", parsed.last("quiet", "false"))
    if not quiet:
        print(f"The push refers to repository [{reference.repository}]", flush=True)
    with open_client(parsed, reference.domain) as client, transfers(quiet=quiet) as progress:
        pushed, whole = push_image(ImageStore(), client, reference, progress)
    if not whole:
        print("only this platform's image was pushed: the others of its index are not here", file=sys.stderr)
    print(reference if quiet else f"{reference.target}: digest: {pushed.digest} size: {pushed.size}")
    return 0
