"""Directory trees under random ids, the names that point to them, and the locks that make both safe to share.

    lock                  flock: held for moments, while names and trees are created or listed
    names/NAME -> ../trees/ID
    trees/ID/             flock: exclusive while it is made or deleted, shared while it is used

A tree is made under a new id and gets its name last, by rename(2) of a symlink. A tree without a name that nobody has
locked is what a killed import left, or was removed while in use: `sweep` deletes it. flock(2) locks belong to the open
directory, so they end with the last process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import os

from kist.errors import Conflict, KistError, Refused
from kist.store.names import Reference
from kist.store.tree import OPEN_DIRECTORY, remove_tree

_SWEEP_AT_ONCE = 64  # open files


def create(path: str) -> None:
    """Make the directories, mode 0700. Raises KistError (data-dir)."""
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        for directory in (path, f"{path}/names", f"{path}/trees"):
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                continue
    except OSError as e:
        raise KistError(
            f"cannot create {path}: {e.strerror}", next="set KIST_DATA_DIR to a directory of yours", code="data-dir"
        ) from e


class Trees:
    """The directories, open; a context manager. Raises OSError; FileNotFoundError when they were not created."""

    def __init__(self, path: str) -> None:
        self._fds: list[int] = []
        try:
            self._base = self._open(path, None)
            self.names = self._open("names", self._base)
            self.trees = self._open("trees", self._base)
            _make_private(self._base, path)
        except BaseException:
            self.close()
            raise

    def _open(self, name: str, parent: int | None) -> int:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
        self._fds.append(fd)
        return fd

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def __enter__(self) -> Trees:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def references(self) -> list[Reference]:
        """All names, in no order."""
        return [Reference.from_file_name(name) for name in os.listdir(self.names) if not name.startswith(".")]

    def target(self, reference: Reference) -> str | None:
        """The id that the name points to; None if there is no such name."""
        try:
            return os.readlink(reference.file_name, dir_fd=self.names).rpartition("/")[2]
        except FileNotFoundError:
            return None

    def refuse_taken(self, reference: Reference) -> None:
        if self.target(reference) is not None:
            raise Conflict(f"the image {reference} exists", next="remove or replace it, or choose another name")

    def new(self) -> tuple[str, int]:
        """The id of a new tree, and its descriptor, locked before any sweep can see it."""
        tree_id = os.urandom(8).hex()
        with _Lock(self._base):
            os.mkdir(tree_id, 0o700, dir_fd=self.trees)
            return tree_id, self.lock(tree_id, fcntl.LOCK_EX)

    def lock(self, tree_id: str, operation: int) -> int:
        """The tree's descriptor, locked. Raises FileNotFoundError, and BlockingIOError with LOCK_NB."""
        fd = os.open(tree_id, OPEN_DIRECTORY, dir_fd=self.trees)
        try:
            fcntl.flock(fd, operation)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def publish(self, reference: Reference, tree_id: str, tree: int, *, replace: bool) -> str | None:
        """Point the name to the tree, durably. Returns the id that it pointed to before, for `discard`."""
        with _Lock(self._base):
            if not replace:
                self.refuse_taken(reference)
            before = self.target(reference)
            os.symlink(f"../trees/{tree_id}", f".{tree_id}", dir_fd=self.names)
            os.rename(f".{tree_id}", reference.file_name, src_dir_fd=self.names, dst_dir_fd=self.names)
            fcntl.flock(tree, fcntl.LOCK_SH)  # from now on others may use it
        os.fsync(self.names)
        return before

    def unpublish(self, reference: Reference) -> str | None:
        """Take the name away, durably. Returns the id that it pointed to, for `discard`; None for no such name."""
        with _Lock(self._base):
            tree_id = self.target(reference)
            if tree_id is not None:
                os.unlink(reference.file_name, dir_fd=self.names)
        os.fsync(self.names)
        return tree_id

    def discard(self, tree_id: str) -> None:
        """Delete a tree that has no name any more, unless someone uses it: then a later sweep does."""
        try:
            tree = self.lock(tree_id, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            return
        try:
            remove_tree(self.trees, tree_id)
        finally:
            os.close(tree)

    def sweep(self) -> int:
        """Delete every tree that has neither a name nor a user; how many those were."""
        count = 0
        while dead := self._lock_dead():
            try:
                for tree_id in dead:
                    remove_tree(self.trees, tree_id)
            finally:
                for tree in dead.values():
                    os.close(tree)
            count += len(dead)
        return count

    def _lock_dead(self) -> dict[str, int]:
        """Some of those trees, locked: their ids and descriptors."""
        dead: dict[str, int] = {}
        with _Lock(self._base):
            named = {self.target(reference) for reference in self.references()}
            for name in os.listdir(self.names):
                if name.startswith("."):  # killed between symlink and rename
                    os.unlink(name, dir_fd=self.names)
            for tree_id in os.listdir(self.trees):
                if tree_id not in named and len(dead) < _SWEEP_AT_ONCE:
                    try:
                        dead[tree_id] = self.lock(tree_id, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except (BlockingIOError, FileNotFoundError):
                        continue
        return dead


class _Lock:
    """Held for moments only: never while an archive is read or a tree deleted."""

    def __init__(self, base: int) -> None:
        self._base = base

    def __enter__(self) -> None:
        self._fd = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._base)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def _make_private(fd: int, path: str) -> None:
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        raise Refused(
            f"{path} belongs to user {status.st_uid}",
            why="a store of another user could change under us",
            next="run kist as that user, or set KIST_DATA_DIR",
        )
    if status.st_mode & 0o077:  # CVE-2021-41091: set-uid files of images must be out of other users' reach
        os.fchmod(fd, 0o700)


def sync_filesystem(fd: int) -> None:
    """Write everything that the file system of `fd` still holds in memory to the disk: one call for thousands of files.

    Raises OSError, also for a delayed write that failed (syncfs(2), since Linux 5.8).
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
