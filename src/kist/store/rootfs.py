"""Imported root file systems: `kist import` makes them, `kist run NAME` uses them.

    DATA/rootfs/                 see trees.py; mode 0700
    DATA/rootfs/trees/ID/root/   the root file system
    DATA/rootfs/trees/ID/metadata.json

What only an import needs (hashlib, struct, zlib, ctypes) is imported there: `kist run` reads these records.
"""

from __future__ import annotations

import fcntl
import os

from kist.codec import decode_text, dumps
from kist.errors import CorruptStore, InvalidInput, NotFound
from kist.store.names import Reference, parse_reference
from kist.store.summary import Skipped
from kist.store.tree import OPEN_DIRECTORY, disk_error
from kist.store.trees import Trees, create, sync_filesystem
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kist.store.source import Source
    from kist.store.tar import Limits
    from kist.store.unpack import Policy

_METADATA_BYTES_MAX = 1 << 20


class ImportedRootfs(Value):
    """A named root file system in the store."""

    name: str  # REPOSITORY:TAG
    created: str  # UTC, RFC 3339, to the second
    size_bytes: int  # of all files, holes included
    entries: int  # of the archive
    digest: str  # sha256:HEX of the uncompressed archive: the diff id of an OCI layer
    skipped: tuple[Skipped, ...] = ()
    path: str = ""  # of the root directory; not written down, since a store may be moved


def default_data_dir(environ: Mapping[str, str]) -> str:
    """KIST_DATA_DIR, else /var/lib/kist for root, else kist in XDG_DATA_HOME or ~/.local/share."""
    if chosen := environ.get("KIST_DATA_DIR"):
        return chosen
    if os.geteuid() == 0:
        return "/var/lib/kist"
    base = environ.get("XDG_DATA_HOME", "")
    if not base.startswith("/"):  # XDG base directory specification: a relative one counts as unset
        base = (environ.get("HOME") or os.path.expanduser("~")) + "/.local/share"
    return f"{base}/kist"


class RootfsStore:
    """The imported root file systems under one data directory. Safe for concurrent threads and processes.

    Nothing is created before the first import. Every method raises KistError (disk-full, store-io) when the file system
    fails, Refused when the store belongs to another user, InvalidInput for a malformed name.
    """

    def __init__(self, data_dir: str = "") -> None:
        self.data_dir = os.path.abspath(data_dir or default_data_dir(os.environ))

    def import_tar(
        self,
        stream: Source,
        name: str,
        *,
        replace: bool = False,
        policy: Policy | None = None,
        limits: Limits | None = None,
    ) -> ImportedRootfs:
        """Unpack the archive in `stream` (see unpack.unpack) and give it `name`: last, at once, and durably.

        Whatever fails before that, also by SIGKILL, changes no name. Of two imports of one name the later end wins;
        without `replace` the earlier. Raises Conflict if the name is taken, and what `unpack` raises.
        """
        reference = parse_reference(name)
        create(self._path)
        with _StoreErrors(f"cannot import {reference}"), Trees(self._path) as trees:
            if not replace:
                trees.refuse_taken(reference)
            trees.sweep()
            tree_id, tree = trees.new()
            replaced = None
            try:
                rootfs = _fill(tree, reference, stream, policy, limits)
                replaced = trees.publish(reference, tree_id, tree, replace=replace)
            finally:
                os.close(tree)
                if trees.target(reference) != tree_id:  # it failed; or another import has replaced it already
                    trees.discard(tree_id)
            if replaced:
                trees.discard(replaced)
        return self._at(rootfs, tree_id)

    def get(self, name: str) -> ImportedRootfs:
        """The root file system of that name, as it is now; `lease` it to use it.

        Raises NotFound with the nearest name, and CorruptStore.
        """
        with self.lease(name) as lease:
            return lease.rootfs

    def lease(self, name: str) -> Lease:
        """The same; and until the lease is closed its tree stays, also when the name is removed or replaced."""
        reference = parse_reference(name)
        with _StoreErrors(f"cannot open {reference}"):
            trees = self._open()
            if trees is None:
                raise _not_found(reference, ())
            with trees:
                while (tree_id := trees.target(reference)) is not None:
                    try:
                        tree = trees.lock(tree_id, fcntl.LOCK_SH)
                    except FileNotFoundError as e:
                        if trees.target(reference) == tree_id:
                            raise _corrupt(reference, f"its directory trees/{tree_id} is gone") from e
                        continue  # removed or replaced meanwhile
                    if trees.target(reference) == tree_id:
                        return self._lease(reference, tree_id, tree)
                    os.close(tree)
                raise _not_found(reference, trees.references())

    def list(self) -> list[ImportedRootfs]:
        """All of them, by name. One whose record is damaged is left out, with a warning in the log."""
        with _StoreErrors(f"cannot list {self._path}"):
            trees = self._open()
            if trees is None:
                return []
            with trees:
                names = sorted(map(str, trees.references()))
        found = []
        for name in names:
            try:
                found.append(self.get(name))
            except NotFound:
                continue  # removed meanwhile
            except CorruptStore as e:
                import logging

                logging.getLogger(__name__).warning("%s", e)
        return found

    def remove(self, name: str) -> None:
        """Take away the name, and delete the tree unless it is leased: then a later `sweep` does.

        Needs no intact record. Raises NotFound.
        """
        reference = parse_reference(name)
        with _StoreErrors(f"cannot remove {reference}"):
            trees = self._open()
            if trees is None:
                raise _not_found(reference, ())
            with trees:
                tree_id = trees.unpublish(reference)
                if tree_id is None:
                    raise _not_found(reference, trees.references())
                trees.discard(tree_id)

    def sweep(self) -> int:
        """Delete what killed imports and removals of leased trees left behind; how many trees that were."""
        with _StoreErrors(f"cannot clean {self._path}"):
            trees = self._open()
            if trees is None:
                return 0
            with trees:
                return trees.sweep()

    @property
    def _path(self) -> str:
        return f"{self.data_dir}/rootfs"

    def _open(self) -> Trees | None:
        try:
            return Trees(self._path)
        except FileNotFoundError:
            return None  # nothing was imported yet

    def _lease(self, reference: Reference, tree_id: str, tree: int) -> Lease:
        try:
            data = _read(tree, "metadata.json")
            return Lease(tree, self._at(decode_text(ImportedRootfs, data, "metadata.json"), tree_id))
        except (OSError, InvalidInput) as e:
            os.close(tree)
            raise _corrupt(reference, f"trees/{tree_id}/metadata.json: {e}") from e

    def _at(self, rootfs: ImportedRootfs, tree_id: str) -> ImportedRootfs:
        return replace(rootfs, path=f"{self._path}/trees/{tree_id}/root")


class Lease:
    """A root file system that stays while this is open. A process that inherits `fd` keeps the lease with it."""

    def __init__(self, fd: int, rootfs: ImportedRootfs) -> None:
        self.fd = fd
        self.rootfs = rootfs

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _StoreErrors:
    """Turns the OSErrors of a block into KistErrors that say what could not be done."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise disk_error(self._what, error) from error


def _fill(
    tree: int, reference: Reference, stream: Source, policy: Policy | None, limits: Limits | None
) -> ImportedRootfs:
    """Make root/ and metadata.json, and bring them to the disk."""
    import time

    from kist.store.unpack import unpack

    os.mkdir("root", 0o755, dir_fd=tree)
    root = os.open("root", OPEN_DIRECTORY, dir_fd=tree)
    try:
        os.fchmod(root, 0o755)  # whatever the umask is; an entry for the root itself sets its own
        summary = unpack(stream, root, policy=policy, limits=limits)
    finally:
        os.close(root)
    rootfs = ImportedRootfs(
        name=str(reference),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        size_bytes=summary.file_bytes,
        entries=summary.entries,
        digest=summary.digest,
        skipped=summary.skipped,
    )
    fd = os.open("metadata.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=tree)
    with os.fdopen(fd, "wb") as file:
        file.write(dumps(rootfs, indent=2).encode() + b"\n")
    sync_filesystem(tree)
    return rootfs


def _read(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, _METADATA_BYTES_MAX)
    finally:
        os.close(fd)


def _corrupt(reference: Reference, why: str) -> CorruptStore:
    return CorruptStore(f"the image {reference} is damaged", why=why, next=f"remove {reference} and import it again")


def _not_found(reference: Reference, known: Iterable[Reference]) -> NotFound:
    import difflib

    near = difflib.get_close_matches(str(reference), map(str, known), n=1)
    return NotFound(
        f"no such image: {reference}",
        next=f"did you mean {near[0]}?" if near else f"kist import FILE {reference}",
    )
