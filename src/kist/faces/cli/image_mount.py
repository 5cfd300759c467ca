"""`kist image mount`."""

from __future__ import annotations

from kist.faces.cli.command import Command
from kist.faces.cli.parse import parse

COMMAND = Command(
    name="image mount",
    usage=("[IMAGE...]",),
    summary="Show images' files in a directory, read-only, and print where; without an image, list what is mounted",
    examples=(("ls $(kist image mount debian)/etc", "look into an image; as root"),),
    most=1 << 10,
)


def main(argv: list[str]) -> int:
    names = parse(COMMAND, argv).arguments
    from kist.store.images import ImageStore
    from kist.store.mounting import mount_image, mounted_images

    store = ImageStore()
    if names:
        for name in names:
            path = mount_image(store, name)
            print(path if len(names) == 1 else f"{name} {path}", flush=True)
        return 0
    called = {image.manifest: image.names or (image.short_id,) for image in store.list()}
    for manifest, path in mounted_images(store):
        print(f"{called.get(manifest, ('<none>',))[0]} {path}")
    return 0
