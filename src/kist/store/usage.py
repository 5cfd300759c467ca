"""What takes how much of the disk: `kist system df`. Counted in blocks, as du(1) does, each file once."""

from __future__ import annotations

import os
import stat

from kist.errors import CorruptStore, NotFound
from kist.store.collect import paths_of, unused
from kist.store.holders import holders
from kist.store.images import Image
from kist.store.records import read_record
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.store.images import ImageStore


class ImageUsage(Value):
    """`unique_bytes`: what goes when the image does. `in_use`: a container runs from it, or it is mounted."""

    image: Image
    size_bytes: int
    unique_bytes: int
    in_use: bool


class Usage(Value):
    """`other_bytes`: blobs on their way in, and what no image needs: `kist store gc` deletes most of it."""

    images: tuple[ImageUsage, ...]
    total_bytes: int
    reclaimable_bytes: int
    other_bytes: int


def usage(store: ImageStore) -> Usage:
    """Raises KistError, OSError."""
    data_dir = store.data_dir
    sizes = dict(_sizes(data_dir))
    needed: dict[str, set[str]] = {}
    images = store.list()
    for image in images:
        try:
            needed[image.manifest] = paths_of(read_record(data_dir, image.manifest))
        except (CorruptStore, NotFound):
            needed[image.manifest] = set()
    owners: dict[str, int] = {}
    for paths in needed.values():
        for path in paths:
            owners[path] = owners.get(path, 0) + 1
    found, kept, held = [], set[str](), holders(data_dir)
    for image in images:
        paths = needed[image.manifest]
        in_use = image.manifest in held or _in_use(data_dir, image.manifest)
        kept |= paths if in_use else set()
        unique = sum(sizes.get(path, 0) for path in paths if owners[path] == 1)
        found.append(ImageUsage(image, sum(sizes.get(path, 0) for path in paths), unique, in_use))
    total = sum(sizes.values())
    return Usage(
        images=tuple(found),
        total_bytes=total,
        reclaimable_bytes=total - sum(sizes.get(path, 0) for path in kept),
        other_bytes=sum(size for path, size in sizes.items() if path not in owners),
    )


def _sizes(data_dir: str) -> Iterator[tuple[str, int]]:
    """(path below the data directory, bytes) of everything that is deleted as one."""
    seen: set[tuple[int, int]] = set()
    algorithms = [f"blobs/{name}" for name in _names(f"{data_dir}/blobs")]
    # The blobs last: an archive that is one too counts for its layer.
    for parent in ("images", "layers", "chains", "ingest", "tmp", *algorithms):
        for name in _names(f"{data_dir}/{parent}"):
            yield f"{parent}/{name}", tree_bytes(f"{data_dir}/{parent}/{name}", seen)


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:  # not there, or a directory of another id
        return []


def tree_bytes(path: str, seen: set[tuple[int, int]]) -> int:
    """What is below a path, each file once: `seen` holds those that count elsewhere."""
    total, todo = 0, [path]
    while todo:
        path = todo.pop()
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
        if stat.S_ISDIR(status.st_mode):
            todo += [f"{path}/{name}" for name in _names(path)]
    return total


def _in_use(data_dir: str, manifest: str) -> bool:
    if (lock := unused(data_dir, manifest)) is None:
        return True
    lock.close()
    return False
