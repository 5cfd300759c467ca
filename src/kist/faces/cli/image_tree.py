"""`kist image tree`."""

from __future__ import annotations

import sys

from kist.faces.cli.columns import size_words
from kist.faces.cli.command import Command
from kist.faces.cli.image_history import steps
from kist.faces.cli.parse import parse
from kist.faces.cli.terminal import columns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.store.images import Image, ImageStore

_BAR = 24

COMMAND = Command(
    name="image tree",
    usage=("[IMAGE...]",),
    summary="Show images' layers as a picture of their sizes, the lowest first, with who shares them",
    most=1 << 16,
)


def main(argv: list[str]) -> int:
    names = parse(COMMAND, argv).arguments
    from kist.store.images import ImageStore

    store = ImageStore()
    images = store.list()
    owners: dict[str, list[str]] = {}
    for image in images:
        for layer in dict.fromkeys(layer.diff_id for layer in image.layers):
            owners.setdefault(layer, []).append((image.names or (image.short_id,))[0])
    for image in [store.get(name) for name in names] if names else images:
        print("\n".join(picture(store, image, owners, columns(), plain=not _draws())))
    return 0


def _draws() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def picture(store: ImageStore, image: Image, owners: dict[str, list[str]], width: int, *, plain: bool) -> list[str]:
    """Lines of at most `width` characters."""
    title = f"{' '.join(image.names) or '<none>'}  {size_words(image.size_bytes)}  {image.short_id}"
    with store.lease(image.manifest) as lease:
        history = lease.config.history
    rows = [(entry.created_by, layer) for entry, layer in steps(history, image.layers) if layer]
    most = max((layer.file_bytes for _, layer in rows), default=0)
    lines = [title[:width]]
    for i, (made_by, layer) in enumerate(rows):
        last = i == len(rows) - 1
        branch = ("`- " if last else "|- ") if plain else ("└─ " if last else "├─ ")
        bar = _bar(layer.file_bytes, most, plain=plain)
        text = " ".join(made_by.split()) or layer.diff_id.partition(":")[2][:12]
        others = [name for name in owners.get(layer.diff_id, ()) if name not in (*image.names, image.short_id)]
        shared = f" (also in {', '.join(others)})" if others else ""
        line = f"{branch}{size_words(layer.file_bytes):>8} {bar} {layer.entries:>6} files  "
        lines.append(line + _cut(text, max(width - len(line) - len(shared), 12)) + shared)
    return [_cut(line, width) for line in lines]


def _bar(size: int, most: int, *, plain: bool) -> str:
    eighths = size * _BAR * 8 // most if most else 0
    if plain:
        return ("#" * (eighths // 8) + ("+" if 0 < eighths < 8 else "")).ljust(_BAR, ".")
    part = " ▏▎▍▌▋▊▉"[eighths % 8].strip()
    return ("█" * (eighths // 8) + (part or ("▏" if size and not eighths else ""))).ljust(_BAR)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 3, 0)] + "..."
