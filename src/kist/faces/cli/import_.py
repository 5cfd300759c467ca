"""`kist import`."""

import sys

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="import",
    usage=("[FLAG...] FILE|- NAME",),
    summary="Make an image from a tar of a root file system, plain or compressed; '-' is standard input",
    groups=(
        (
            "Flags",
            (
                Flag("change", "many", "INSTRUCTION", "Set its config as in a Dockerfile: 'CMD [\"sh\"]', 'ENV A=b'",
                     words.plain, "c"),
                Flag("message", "one", "TEXT", "A comment for its history", words.plain, "m"),
                Flag("replace", "bool", "", "Take the name even from another image", words.boolean),
            ),
        ),
    ),
    examples=(
        ("kist import rootfs.tar.gz alpine:3.20", "then: kist run alpine:3.20 sh"),
        ("docker export web | kist import - web", "from a container of Docker's"),
    ),
    least=2,
    most=2,
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    path, name = parsed.arguments
    replace = words.boolean("--replace", parsed.last("replace", "false"))
    from kist.faces.cli.columns import size_words
    from kist.plan.instructions import apply_change
    from kist.spec.image import ContainerConfig
    from kist.store.images import ImageStore
    from kist.store.importing import import_tar
    from kist.store.names import chosen_name
    from kist.store.source import ArchiveFile

    config = None
    for text in parsed.given.get("change", ()):
        config = apply_change(config or ContainerConfig(), "--change", text)
    with ArchiveFile(path) as archive:
        image = import_tar(ImageStore(), archive, name, replace=replace, config=config, comment=parsed.last("message"))
    (layer,) = image.layers
    print(f"{chosen_name(name)}: {layer.entries} files, {size_words(image.size_bytes)}")
    for skipped in image.skipped:
        examples = ", ".join(map(words.show, skipped.examples))
        print(f"left out ({skipped.reason}): {skipped.count}, for example {examples}", file=sys.stderr)
    return 0
