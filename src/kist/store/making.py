"""Something of a layer or chain being made, and the blob that it is made of."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager

from kist.codec import dumps
from kist.errors import CorruptStore
from kist.store.blobs import new_hash
from kist.store.data import boot_id, new_temporary
from kist.store.summary import Noted
from kist.store.tree import OPEN_DIRECTORY, remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kist.store.prepared import LayerBlob, Progress
    from kist.store.summary import Skipped


class Making:
    """A directory in tmp/ in which something is being made; a context manager that removes what is left of it."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir

    def __enter__(self) -> Making:
        self.path = new_temporary(self._data_dir)
        os.mkdir(self.path, 0o700)
        self.fd = os.open(self.path, OPEN_DIRECTORY)
        return self

    def directory(self, name: str) -> str:
        path = f"{self.path}/{name}"
        os.mkdir(path, 0o700)
        return path

    @contextmanager
    def unpacking(self) -> Iterator[tuple[int, int]]:
        """(where contents wait, the root of the directory `chain` that is being made), open."""
        for name in ("chain", "chain/root", "stage"):
            self.directory(name)
        with ExitStack() as opened:
            found = []
            for name in ("stage", "chain/root"):
                found.append(os.open(f"{self.path}/{name}", OPEN_DIRECTORY))
                opened.callback(os.close, found[-1])
            yield found[0], found[1]

    @contextmanager
    def staging(self, name: str) -> Iterator[int]:
        """A new directory for a layer's contents, open."""
        fd = os.open(self.directory(name), OPEN_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def note(self, skipped: Sequence[Skipped]) -> None:
        """Keep with the chain what it lacks."""
        if skipped:
            with open(f"{self.path}/chain/skipped.json", "xb") as file:
                file.write(dumps(Noted(tuple(skipped))).encode())

    def publish(self, made: str, path: str) -> None:
        """Let the directory `made` appear as `path`, in place of what is there: that is not whole."""
        with open(f"{made}/boot", "xb") as file:
            file.write(boot_id())
        try:
            os.rename(path, f"{self.path}/{os.urandom(4).hex()}")
        except FileNotFoundError:
            pass
        os.rename(made, path)

    def __exit__(self, *exc: object) -> None:
        try:
            tmp = os.open(f"{self._data_dir}/tmp", OPEN_DIRECTORY)
            try:
                remove_tree(tmp, os.path.basename(self.path))
            finally:
                os.close(tmp)
        finally:
            os.close(self.fd)


class Blob:
    """A layer's blob as a source that says how far it came, and verifies its digest at the end."""

    def __init__(self, blob: LayerBlob, progress: Progress) -> None:
        self._blob = blob
        self._progress = progress
        self._fd = os.open(blob.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        # What is not compressed is hashed by the reader.
        self._hash = new_hash(blob.digest) if blob.digest != blob.diff_id else None
        self._done = 0

    def readinto(self, buffer: memoryview, /) -> int:
        count = os.readv(self._fd, [buffer])
        if self._hash is not None:
            self._hash.update(buffer[:count])
        self._done += count
        self._progress(self._blob.digest, self._done, self._blob.size)
        return count

    def verify(self) -> None:
        if self._hash is not None and self._hash.hexdigest() != self._blob.digest.partition(":")[2]:
            raise CorruptStore(
                f"the blob {self._blob.digest} is damaged", next="kist store check --repair, then pull or load it again"
            )

    def __enter__(self) -> Blob:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)
