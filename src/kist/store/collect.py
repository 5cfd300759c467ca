"""Removing names, and deleting what nothing refers to any more.

In this order, so that whoever is killed on the way leaves a whole store: the name, then the record and whatever no
record refers to. It is all moved to tmp/ first, then deleted there: that takes as long as the disk wants. What was not
deleted is deleted the next time.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

from kist.errors import Conflict, CorruptStore, InvalidInput, NotFound
from kist.kernel.mounts import sync_filesystem
from kist.spec.image import is_digest
from kist.store import locks
from kist.store.data import is_whole, new_temporary
from kist.store.holders import holders, without
from kist.store.images import Removed
from kist.store.layout import change_layout, read_layout
from kist.store.locks import Lock
from kist.store.mounting import is_mounted
from kist.store.records import read_record
from kist.store.tree import OPEN_DIRECTORY, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kist.store.images import Image, ImageStore
    from kist.store.layout import Named
    from kist.store.records import Record

    Entries = Sequence[Named]

_PARTIAL_KEPT_S = 24 * 3600  # a blob that is not whole, for whoever tries again


def remove(
    data_dir: str, find: Callable[[Entries], Entries], name: str, *, force: bool, background: bool = False
) -> Removed:
    """Remove the entries that `find` finds; see ImageStore.remove."""
    ended: list[tuple[str, str]] = []  # (manifest, id)
    held: list[Lock] = []
    gone: list[str] = []

    def change(entries: Entries) -> Entries:
        found = find(entries)
        names = [entry.name for entry in found if entry.name]
        if len(names) > 1 and not force:
            raise Conflict(f"the image {name} has {len(names)} names: {', '.join(names)}",
                           next=f"kist rmi {' '.join(names)}, or kist rmi --force {name}")  # fmt: skip
        left = without(data_dir, entries, found, name, force=force)
        for manifest in {entry.manifest for entry in found} - {entry.manifest for entry in left}:
            ended.append((manifest, _id(data_dir, manifest)))
            if (lock := unused(data_dir, manifest)) is not None:
                held.append(lock)
            elif not force:
                mounted = is_mounted(data_dir, manifest)
                what = f"the image {name} is mounted" if mounted else f"a container runs from the image {name}"
                first = f"kist image unmount {name}" if mounted else "stop it first"
                raise Conflict(what, next=f"{first}; --force takes the name, and the rest when it ends")  # fmt: skip
        gone.extend(names)
        return left

    try:
        change_layout(data_dir, change, frees=True)
    finally:
        for lock in held:
            lock.close()
    reclaimed = collect(data_dir, background=background) if ended else 0
    return Removed(tuple(gone), tuple(id for _, id in ended), reclaimed)


def prune(store: ImageStore, filters: Mapping[str, Sequence[str]]) -> Removed:
    """See ImageStore.prune."""
    unknown = filters.keys() - {"dangling", "until", "label", "label!"}
    if unknown:
        raise InvalidInput(f"unknown filter {min(unknown)!r}", next="one of: dangling, label, label!, until")
    everything = (filters.get("dangling") or ["true"])[-1].lower() in ("false", "0")
    total, needed = Removed(), holders(store.data_dir)
    for image in store.list():
        if (image.names and not everything) or image.manifest in needed or not _passes(image, filters):
            continue
        try:
            one = store.remove(image.manifest, force=len(image.names) > 1)
        except (Conflict, NotFound):
            continue  # in use, or gone meanwhile
        total = Removed(
            total.untagged + one.untagged, total.deleted + one.deleted, total.reclaimed_bytes + one.reclaimed_bytes
        )
    return Removed(total.untagged, total.deleted, total.reclaimed_bytes + collect(store.data_dir, settle=True))


def _passes(image: Image, filters: Mapping[str, Sequence[str]]) -> bool:
    from kist.store.filters import created_before, has_label

    labels = image.config.labels
    return (
        all(created_before(image.created, text) for text in filters.get("until", ()))
        and all(has_label(labels, text) for text in filters.get("label", ()))
        and not any(has_label(labels, text) for text in filters.get("label!", ()))
    )


def collect(data_dir: str, *, settle: bool = False, background: bool = False) -> int:
    """Delete what no image needs; how many bytes of the disk that were. Waits for nobody: what is in use stays.

    `settle`: first bring to the disk what is not there yet, which may take as long as writing it took. `background`: it
    is out of the way when this returns, and deleted by a process that goes on for a moment; 0 bytes then.
    Raises OSError, KistError.
    """
    if not os.path.isdir(f"{data_dir}/tmp"):  # the last one that is made
        return 0
    try:
        use = Lock(data_dir, locks.USE, wait=False)
    except BlockingIOError:
        return 0  # something is being made of what no record refers to yet
    with use:
        if settle:
            _settle(data_dir)
        try:
            needed = _needed(data_dir)
        except CorruptStore as e:
            import logging  # 11 ms

            logging.getLogger(__name__).warning("nothing is deleted: %s", e)
            return 0
        garbage = _Garbage(data_dir, _Freed() if not background else None)
        for directory in ("images", "chains", "layers", *_algorithms(data_dir)):
            garbage.sweep(directory, needed.__contains__)
        garbage.sweep("ingest", lambda path: _is_young(f"{data_dir}/{path}"))
        garbage.sweep("tmp", lambda path: path == garbage.path)
    return garbage.delete()


class _Garbage:
    """A directory in tmp/ to which all goes that is to be deleted; without `freed` by a process of its own."""

    def __init__(self, data_dir: str, freed: _Freed | None) -> None:
        self._data_dir = data_dir
        self._freed = freed
        self._count = 0
        self.path = ""

    def sweep(self, directory: str, keep: Callable[[str], bool]) -> None:
        for name in os.listdir(f"{self._data_dir}/{directory}"):
            if not keep(f"{directory}/{name}"):
                self._take(f"{self._data_dir}/{directory}/{name}")

    def _take(self, path: str) -> None:
        if self._freed is not None:
            self._freed.count(path)
        try:
            if not self.path:
                whole = new_temporary(self._data_dir)
                os.mkdir(whole, 0o700)
                self.path = whole[len(self._data_dir) + 1 :]
            self._count += 1
            os.rename(path, f"{self._data_dir}/{self.path}/{self._count}")
        except FileNotFoundError:
            return  # deleted by a process that an earlier collector left behind
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            discard(self._data_dir, path[len(self._data_dir) + 1 :])  # a full disk has no place for a directory

    def delete(self) -> int:
        """How many bytes are free again."""
        if self.path and (self._freed is not None or not _delete_in_background(self._data_dir, self.path)):
            discard(self._data_dir, self.path)
        return self._freed.bytes if self._freed is not None else 0


def _delete_in_background(data_dir: str, path: str) -> bool:
    from kist.kernel.programs import start_apart

    isolated = ["-I"] if sys.flags.isolated else ["-P"]  # never a module of the working directory
    return start_apart([sys.executable, *isolated, "-m", __name__, data_dir, path])


class _Freed:
    """How much of the disk is free again: a file's blocks when its last name goes."""

    def __init__(self) -> None:
        self.bytes = 0
        self._names: dict[tuple[int, int], int] = {}

    def count(self, path: str) -> None:
        """What is about to be deleted."""
        todo = [path]
        while todo:
            path = todo.pop()
            try:
                status = os.lstat(path)
                is_directory = stat.S_ISDIR(status.st_mode)
                if is_directory:
                    todo += [f"{path}/{name}" for name in os.listdir(path)]
            except OSError:  # a directory of another id of this user's
                continue
            inode = (status.st_dev, status.st_ino)
            self._names[inode] = names = self._names.get(inode, 0) + 1
            if is_directory or names == status.st_nlink:
                self.bytes += status.st_blocks * 512


def _needed(data_dir: str) -> set[str]:
    """Paths below the data directory: of records that have an entry or are in use, and of what those refer to."""
    entries = read_layout(data_dir)
    named = {entry.manifest for entry in entries}
    found = {f"blobs/{entry.root.digest.replace(':', '/')}" for entry in entries}
    for name in os.listdir(f"{data_dir}/images"):
        manifest = name.replace("-", ":", 1)
        if not is_digest(manifest):
            continue
        if manifest not in named and (lock := unused(data_dir, manifest)) is not None:
            lock.close()  # nobody can take it again: that needs an entry
            continue
        record = read_record(data_dir, manifest)
        found |= paths_of(record)
    return found


def paths_of(record: Record) -> set[str]:
    """What an image needs, below the data directory; but for an index that it may have come with."""
    digests = [record.manifest.digest, record.config_blob.digest, *(layer.digest for layer in record.layers)]
    found = {f"images/{record.manifest.digest.replace(':', '-')}"}
    found |= {f"blobs/{digest.replace(':', '/')}" for digest in digests}
    found |= {f"layers/{layer.diff_id.replace(':', '-')}" for layer in record.layers}
    paths = (*((record.erofs.index,) if record.erofs else ()), *(record.roots or ()))
    return found | {path.rpartition("/")[0] for path in paths}


def _algorithms(data_dir: str) -> list[str]:
    return [f"blobs/{name}" for name in os.listdir(f"{data_dir}/blobs")]


def discard(data_dir: str, path: str) -> None:
    """Delete a file or tree, so that it is there as a whole or not at all. What is not there is fine."""
    whole = f"{data_dir}/{path}"
    if not os.path.lexists(whole):
        return
    if not path.startswith("tmp/") and stat.S_ISDIR(os.lstat(whole).st_mode):
        moved = new_temporary(data_dir)
        os.rename(whole, moved)
        whole = moved
    parent = os.open(os.path.dirname(whole), OPEN_DIRECTORY)
    try:
        remove_tree(parent, os.path.basename(whole))
    except PermissionError:
        from kist.store.rootless import remove  # files of the user's subordinate ids

        remove(whole)
    finally:
        os.close(parent)


def _settle(data_dir: str) -> None:
    """Bring to the disk what was made without waiting for it, and remember that; see prepared.py."""
    marks = [
        path for parent in ("layers", "chains") for name in os.listdir(f"{data_dir}/{parent}")
        if os.path.exists(path := f"{data_dir}/{parent}/{name}/boot") and is_whole(path)
    ]  # fmt: skip
    if not marks:
        return
    fd = os.open(data_dir, OPEN_DIRECTORY)
    try:
        sync_filesystem(fd)
    finally:
        os.close(fd)
    for path in marks:
        os.unlink(path)


def unused(data_dir: str, manifest: str) -> Lock | None:
    """Nobody begins to use the image while this lock is held. None when a container runs from it or it is mounted."""
    try:
        lock = Lock(data_dir, locks.of_digest(locks.IMAGE, manifest), wait=False)
    except BlockingIOError:
        return None
    if is_mounted(data_dir, manifest):
        lock.close()
        return None
    return lock


def _id(data_dir: str, manifest: str) -> str:
    try:
        return read_record(data_dir, manifest).id
    except (CorruptStore, NotFound):
        return manifest


def _is_young(path: str) -> bool:
    return time.time() - os.lstat(path).st_mtime < _PARTIAL_KEPT_S


if __name__ == "__main__":  # see _delete_in_background
    discard(sys.argv[1], sys.argv[2])
