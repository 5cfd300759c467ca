"""`kist pull`."""

from __future__ import annotations

import sys

from kist.errors import InvalidInput, KistError
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.faces.cli.registry_flags import AUTHFILE, QUIET, TLS_VERIFY, open_client, transfers
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.registry.client import Client
    from kist.spec.image import Platform
    from kist.spec.reference import Reference

COMMAND = Command(
    name="pull",
    usage=("[FLAG...] NAME[:TAG|@DIGEST]", "--all-tags [FLAG...] NAME"),
    summary="Fetch an image from a registry. Short names are Docker Hub's, as with docker",
    groups=(
        (
            "Flags",
            (
                Flag("all-tags", "bool", "", "All images of the repository", words.boolean, "a"),
                QUIET,
                Flag("platform", "one", "OS/ARCH[/VARIANT]", "Of another machine than this one", words.plain),
                AUTHFILE,
                TLS_VERIFY,
            ),
        ),
    ),
    examples=(
        ("kist pull debian:12", "docker.io/library/debian:12"),
        ("kist pull localhost:5000/app", "from a registry of your own; on loopback plain HTTP will do"),
        ("kist pull --platform linux/arm64 debian", "for another machine"),
    ),
    least=1,
    most=1,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.spec.manifests import parse_platform
    from kist.spec.reference import parse_reference

    text = parsed.arguments[0]
    reference = parse_reference(text)
    platform = parse_platform(parsed.last("platform")) if parsed.last("platform") else None
    quiet = words.boolean("--quiet", parsed.last("quiet", "false"))
    with open_client(parsed, reference.domain) as client:
        if not words.boolean("--all-tags", parsed.last("all-tags", "false")):
            _pull(client, reference, platform, quiet=quiet)
            return 0
        if reference.digest or ":" in text.rpartition("/")[2]:
            raise InvalidInput(
                "it contradicts a tag or digest", path="--all-tags", next=f"write {reference.repository}"
            )
        return _pull_all(client, reference, platform, quiet=quiet)


def _pull_all(client: Client, repository: Reference, platform: Platform | None, *, quiet: bool) -> int:
    """What cannot be pulled, as a signature or an image for other machines, is told of, and the rest goes on."""
    from kist.value import replace

    status = 0
    for tag in client.tags(repository):
        try:
            _pull(client, replace(repository, tag=tag), platform, quiet=quiet)
        except KistError as e:
            print(f"kist: {e}", file=sys.stderr)
            status = e.exit_code
    return status


def _pull(client: Client, reference: Reference, platform: Platform | None, *, quiet: bool) -> None:
    from kist.engine.pull import pull_image
    from kist.store.images import ImageStore
    from kist.store.library import keep_memory

    keep_memory()
    with transfers(quiet=quiet) as progress:
        pulled = pull_image(ImageStore(), client, reference, platform, progress, progress.preparing)
    if not quiet:
        print(f"Digest: {pulled.digest}")
        state = "Downloaded newer image" if pulled.new else "Image is up to date"
        print(f"Status: {state} for {reference.familiar}")
    print(reference)
