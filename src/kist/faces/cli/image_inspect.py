"""`kist image inspect`."""

from __future__ import annotations

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.store.images import Image, ImageStore

COMMAND = Command(
    name="image inspect",
    usage=("[--format TEMPLATE] IMAGE [IMAGE...]",),
    summary="Tell all about images, as JSON in docker's form",
    groups=(
        ("Flags", (Flag("format", "one", "FORMAT", "json, or a Go template: '{{.Config.User}}'", words.plain, "f"),)),
    ),
    examples=(("kist image inspect --format '{{json .Config.Env}}' debian", "one thing only"),),
    least=1,
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.faces.cli.columns import print_documents
    from kist.store.images import ImageStore

    store, format = ImageStore(), parsed.last("format")
    documents = [described(store, store.get(name)) for name in parsed.arguments]
    print_documents(documents, format)
    return 0


def described(store: ImageStore, image: Image) -> dict[str, object]:
    """As `docker image inspect` has it."""
    from kist.codec import plain
    from kist.store.names import split_name

    config = plain(image.config)
    assert isinstance(config, dict)
    defaults: dict[str, object] = {
        "User": "", "ExposedPorts": None, "Env": [], "Entrypoint": None, "Cmd": None, "Volumes": None,
        "WorkingDir": "", "Labels": None, "StopSignal": "",
    }  # fmt: skip
    repositories = dict.fromkeys(split_name(name)[0] for name in image.names)
    with store.lease(image.manifest) as lease:
        whole, form = lease.config, "erofs" if lease.mountable.erofs else "directories"
    return {
        "Id": image.id,
        "RepoTags": [name for name in image.names if split_name(name)[1]],
        "RepoDigests": [f"{repository}@{image.digest}" for repository in repositories],
        "Parent": "",
        "Comment": whole.history[-1].comment if whole.history else "",
        "Created": image.created,
        "Author": whole.author,
        "Config": {**defaults, **config},
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "Size": image.size_bytes,
        "GraphDriver": {"Name": form, "Data": None},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in image.layers]},
        "Descriptor": plain(store.root(image.manifest)),
    }
