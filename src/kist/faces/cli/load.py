"""`kist load`."""

from __future__ import annotations

import os

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="load",
    usage=("[FLAG...]",),
    summary="Load images that kist, docker, podman or skopeo saved, from an archive or a directory",
    groups=(
        (
            "Flags",
            (
                Flag("input", "one", "FILE", "The archive, plain or compressed, or a directory: an OCI layout or "
                     "skopeo's dir; standard input without this flag", words.plain, "i"),
                Flag("quiet", "bool", "", "Only the ids of the images", words.boolean, "q"),
            ),
        ),
    ),
    examples=(
        ("docker save web | kist load", "from docker"),
        ("kist load -i web.tar.gz", "from a file"),
        ("skopeo copy docker://alpine oci:/tmp/alpine:3 && kist load -i /tmp/alpine", "from an OCI layout"),
    ),
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    path, quiet = parsed.last("input", "-"), words.boolean("--quiet", parsed.last("quiet", "false"))
    from kist.store.directory import load_directory
    from kist.store.images import ImageStore
    from kist.store.library import keep_memory
    from kist.store.loading import load
    from kist.store.source import ArchiveFile

    keep_memory()
    store = ImageStore()
    if os.path.isdir(path):
        images = load_directory(store, path)
    else:
        with ArchiveFile(path) as archive:
            images = load(store, archive)
    for name, image in images:
        print(image.id if quiet else f"Loaded image: {name}" if name else f"Loaded image ID: {image.id}")
    return 0
