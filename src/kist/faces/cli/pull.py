"""`kist pull`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.faces.cli.registry_flags import AUTHFILE, QUIET, TLS_VERIFY, open_client, transfers
from kist.plan import words

COMMAND = Command(
    name="pull",
    usage=("[FLAG...] NAME[:TAG|@DIGEST]",),
    summary="Fetch an image from a registry. Short names are Docker Hub's, as with docker",
    groups=(
        (
            "Flags",
            (
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
    from kist.engine.pull import pull_image
    from kist.spec.manifests import parse_platform
    from kist.spec.reference import parse_reference
    from kist.store.images import ImageStore

    reference = parse_reference(parsed.arguments[0])
    platform = parse_platform(parsed.last("platform")) if parsed.last("platform") else None
    quiet = words.boolean("--quiet", parsed.last("quiet", "false"))
    with open_client(parsed, reference.domain) as client, transfers(quiet=quiet) as progress:
        pulled = pull_image(ImageStore(), client, reference, platform, progress, progress.preparing)
    if not quiet:
        print(f"Digest: {pulled.digest}")
        state = "Downloaded newer image" if pulled.new else "Image is up to date"
        print(f"Status: {state} for {reference.familiar}")
    print(reference)
    return 0
