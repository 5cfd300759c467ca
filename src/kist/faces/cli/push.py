"""`kist push`."""

from __future__ import annotations

import sys

from kist.errors import InvalidInput, NotFound
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.faces.cli.registry_flags import AUTHFILE, QUIET, TLS_VERIFY, open_client, transfers
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.registry.client import Client
    from kist.spec.reference import Reference

COMMAND = Command(
    name="push",
    usage=("[FLAG...] NAME[:TAG]", "--all-tags [FLAG...] NAME"),
    summary="Send an image to the registry that its name begins with",
    groups=(
        (
            "Flags",
            (
                Flag("all-tags", "bool", "", "All images that are called NAME:...", words.boolean, "a"),
                QUIET,
                AUTHFILE,
                TLS_VERIFY,
            ),
        ),
    ),
    examples=(("kist tag app localhost:5000/app && kist push localhost:5000/app", "to a registry of your own"),),
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.spec.reference import parse_reference

    text = parsed.arguments[0]
    reference, found = parse_reference(text), [text]
    quiet = words.boolean("--quiet", parsed.last("quiet", "false"))
    if words.boolean("--all-tags", parsed.last("all-tags", "false")):
        if reference.digest or ":" in text.rpartition("/")[2]:
            next_ = f"write {reference.repository}"
            raise InvalidInput("it contradicts a tag or digest", path="--all-tags", next=next_)
        found = _tagged(reference)
    if not quiet:
        print(f"The push refers to repository [{reference.repository}]", flush=True)
    with open_client(parsed, reference.domain) as client:
        for name in found:
            _push(client, parse_reference(name), quiet=quiet)
    return 0


def _tagged(repository: Reference) -> list[str]:
    from kist.spec.reference import parse_reference
    from kist.store.images import ImageStore

    names = [name for image in ImageStore().list() for name in image.names if "@" not in name]
    found = sorted(name for name in names if parse_reference(name).repository == repository.repository)
    if not found:
        raise NotFound(f"no such image: {repository.repository}", next="kist images lists them", code="no-image")
    return found


def _push(client: Client, reference: Reference, *, quiet: bool) -> None:
    from kist.engine.push import push_image
    from kist.store.images import ImageStore

    with transfers(quiet=quiet) as progress:
        pushed, whole = push_image(ImageStore(), client, reference, progress)
    if not whole:
        print("only this platform's image was pushed: the others of its index are not here", file=sys.stderr)
    print(reference if quiet else f"{reference.target}: digest: {pushed.digest} size: {pushed.size}")
