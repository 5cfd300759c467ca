"""Images that kept containers need, also when they do not run. Source of truth: DATA/containers/ID/config, which is the
engine's; only two of its fields are looked at here."""

from __future__ import annotations

import os

from kist.codec import loads
from kist.errors import Conflict, InvalidInput
from kist.store.layout import Named, unnamed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def holders(data_dir: str) -> dict[str, list[str]]:
    """Names of containers by the digest of the manifest of their image. One whose record is damaged holds nothing."""
    found: dict[str, list[str]] = {}
    try:
        ids = [id for id in os.listdir(f"{data_dir}/containers") if not id.startswith(".")]
    except FileNotFoundError:
        return found
    for id in ids:
        path = f"{data_dir}/containers/{id}/config"
        try:
            with open(path, "rb", buffering=0) as file:
                config = loads(file.read(), path)
        except (FileNotFoundError, NotADirectoryError, InvalidInput):
            continue
        if isinstance(config, dict) and isinstance(image := config.get("image"), str) and image:
            found.setdefault(image, []).append(str(config.get("name") or id[:12]))
    return found


def without(
    data_dir: str, entries: Sequence[Named], gone: Sequence[Named], name: str, *, force: bool
) -> list[Named]:  # fmt: skip
    """The entries but for those; an image that a kept container needs loses, with `force`, only its names.

    Raises Conflict without it, or when there is no name to lose.
    """
    left = unnamed(entries, gone)
    ending = {entry.manifest: entry for entry in gone}.keys() - {entry.manifest for entry in left}
    needed = holders(data_dir) if ending else {}
    for manifest in sorted(ending & needed.keys()):
        lost = [entry for entry in gone if entry.manifest == manifest]
        if not force or not any(entry.name for entry in lost):
            names = ", ".join(needed[manifest])
            raise Conflict(f"the image {name} is needed by the container {names}", next=f"kist rm {names}"
                           f"{'' if force else '; --force takes the name only'}", code="image-in-use")  # fmt: skip
        left.append(Named("", lost[0].root, manifest))
    return left
