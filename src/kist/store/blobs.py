"""Blobs by digest, in an OCI image layout: manifests, configs and layers as a registry has them.

Sources: OCI image-layout.md, "Blobs"; descriptor.md.
"""

from __future__ import annotations

import os
from functools import partial

from kist.errors import CorruptStore, InvalidInput, NotFound
from kist.spec.image import Descriptor, check_digest
from kist.store import locks
from kist.store.ahead import Beside
from kist.store.data import Behind, StoreErrors, create, default_data_dir, sync_directory
from kist.store.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash
    from typing import Self

_READ_BYTES = 1 << 20
_LARGE_BYTES = 8 << 20  # hashed in a thread


class BlobStore:
    """The blobs under one data directory; a context manager. Safe for concurrent threads and processes.

    From its first use until it is closed (or forgotten), nothing is deleted that it has found or put: what is fetched
    for an image stays while the image is being made. Methods raise KistError (disk-full, store-io) when the file system
    fails, Refused when the directory is another user's, InvalidInput (bad-digest) for a malformed digest.
    """

    def __init__(self, data_dir: str = "") -> None:
        self.data_dir = os.path.abspath(data_dir or default_data_dir(os.environ))
        self._use: Lock | None = None

    def path(self, digest: str) -> str:
        """Where the blob is or would be. The digest is checked first: it is safe as a path (CVE-2024-3727)."""
        algorithm, _, value = check_digest(digest).partition(":")
        return f"{self.data_dir}/blobs/{algorithm}/{value}"

    def has(self, descriptor: Descriptor) -> bool:
        """Whether a blob of that digest and size is there; it was verified when it came."""
        path = self.path(descriptor.digest)
        self.begin()
        try:
            return os.stat(path).st_size == descriptor.size
        except FileNotFoundError:
            return False

    def open(self, digest: str) -> int:
        """A file descriptor for reading. Raises NotFound."""
        path = self.path(digest)
        self.begin()
        with StoreErrors(f"cannot read the blob {digest}"):
            try:
                return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError as e:
                raise NotFound(f"the blob {digest} is not in the store", code="no-blob") from e

    def read(self, descriptor: Descriptor, limit_bytes: int) -> bytes:
        """A small blob as a whole, its size and digest verified again.

        Raises NotFound; InvalidInput (too-large) past the limit; CorruptStore when it is not what its name says.
        """
        if descriptor.size > limit_bytes:
            raise InvalidInput(
                f"{descriptor.digest} has {descriptor.size} bytes, more than the {limit_bytes} that are read of such",
                code="too-large",
            )
        fd = self.open(descriptor.digest)
        with StoreErrors(f"cannot read the blob {descriptor.digest}"), os.fdopen(fd, "rb") as file:
            data = file.read(descriptor.size + 1)
        if len(data) != descriptor.size or not matches(descriptor.digest, data):
            raise CorruptStore(
                f"the blob {descriptor.digest} is damaged", next="kist store check --repair, then pull or load it again"
            )
        return data

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Keep a small document that is made here."""
        from hashlib import sha256

        descriptor = Descriptor(media_type, f"sha256:{sha256(data).hexdigest()}", len(data))
        with self.ingest(descriptor) as writer:
            if not writer.done:
                writer.restart()
                writer.write(data)
                writer.commit()
        return descriptor

    def adopt(self, path: str, fd: int, media_type: str, digest: str) -> Descriptor:
        """Keep the file at `path`, open as `fd`, of which the caller knows the digest: it moves to its place."""
        descriptor = Descriptor(media_type, digest, os.fstat(fd).st_size)
        with self.ingest(descriptor) as writer:
            if not writer.done:
                writer.adopt(path, fd)
        return descriptor

    def ingest(self, descriptor: Descriptor) -> Ingest:
        """Take in the content of a blob; see Ingest."""
        path = self.path(descriptor.digest)
        self.begin()
        return Ingest(self.data_dir, path, descriptor)

    def begin(self) -> None:
        """From now on nothing is deleted."""
        if self._use is None:
            create(self.data_dir)
            with StoreErrors(f"cannot lock {self.data_dir}"):
                self._use = Lock(self.data_dir, locks.USE, shared=True)

    def close(self) -> None:
        if self._use is not None:
            self._use.close()
            self._use = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Ingest:
    """One blob on its way in; a context manager that one process at a time can enter for one digest.

    Whoever waited finds `done` True when the other one was successful. Else `offset` bytes are there from an earlier
    try: continue with `write`, or `restart`. Leaving without `commit` keeps them, also when the process is killed.
    """

    def __init__(self, data_dir: str, path: str, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.done = False
        self.offset = 0  # bytes that are there
        self._data_dir = data_dir
        self._path = path
        self._partial = f"{data_dir}/ingest/{descriptor.digest.replace(':', '-')}"
        self._fd = -1
        self._lock: Lock | None = None
        self._file: Behind
        self._hash: _Hash
        self._beside: Beside | None = None  # hashes

    def __enter__(self) -> Self:
        with StoreErrors(self._what):
            self._lock = Lock(self._data_dir, locks.of_digest(locks.BLOB, self.descriptor.digest))
            try:
                self._open()
            except BaseException:
                self.__exit__()
                raise
        return self

    def _open(self) -> None:
        try:
            self.done = os.stat(self._path).st_size == self.descriptor.size
        except FileNotFoundError:
            self.done = False
        if self.done:
            return
        self._fd = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._hash = new_hash(self.descriptor.digest)
        while piece := os.read(self._fd, _READ_BYTES):
            self._hash.update(piece)
            self.offset += len(piece)
        self._file = Behind(self._fd, self.offset)
        if self.offset > self.descriptor.size:
            self.restart()

    def __exit__(self, *exc: object) -> None:
        self._settle()
        if self._fd >= 0:
            if not self.offset and os.path.lexists(self._partial):
                os.unlink(self._partial)
            os.close(self._fd)
            self._fd = -1
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def _what(self) -> str:
        return f"cannot store the blob {self.descriptor.digest}"

    def restart(self) -> None:
        """Begin anew: the source cannot continue where the last try ended."""
        self._settle()
        with StoreErrors(self._what):
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = new_hash(self.descriptor.digest)
        self.offset = 0
        self._file = Behind(self._fd)

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes. Raises InvalidInput (blob-size), having thrown all away, when they are too many."""
        if self.offset + len(data) > self.descriptor.size:
            self._refuse("blob-size", f"there are more than the {self.descriptor.size} bytes that its descriptor says")
        with StoreErrors(self._what):
            self._file.write(data)
        if self._beside is None and self.descriptor.size >= _LARGE_BYTES:
            self._beside = Beside()
        self._beside.give(partial(self._hash.update, bytes(data))) if self._beside else self._hash.update(data)
        self.offset += len(data)

    def _settle(self) -> None:
        """Let the hash be of all that was written."""
        if self._beside is not None:
            self._beside.finish()
            self._beside = None

    def commit(self) -> None:
        """Verify all of it and let it appear, durably.

        Raises InvalidInput: blob-size when bytes are missing, which may still be written; digest-mismatch, having
        thrown all away.
        """
        size, digest = self.descriptor.size, self.descriptor.digest
        self._settle()
        if self.offset < size:
            raise InvalidInput(f"{self._what}: {self.offset} of its {size} bytes came", code="blob-size")
        if f"{self._hash.name}:{self._hash.hexdigest()}" != digest:
            self._refuse("digest-mismatch", f"its content is {self._hash.name}:{self._hash.hexdigest()}")
        self.adopt(self._partial, self._fd)

    def adopt(self, path: str, fd: int) -> None:
        """Let a file appear as this blob, durably; the caller vouches for its content."""
        with StoreErrors(self._what):
            os.fsync(fd)
            try:
                os.rename(path, self._path)
            except FileNotFoundError:  # of an algorithm other than sha256: the first of its kind
                os.mkdir(os.path.dirname(self._path), 0o700)
                os.rename(path, self._path)
            sync_directory(os.path.dirname(self._path))
        self.done = True

    def discard(self) -> None:
        """Throw away what came; `write` begins anew."""
        self.restart()

    def _refuse(self, code: str, why: str) -> None:
        self.discard()
        raise InvalidInput(self._what, why=why, code=code)


def new_hash(digest: str) -> _Hash:
    """The hash of the digest's algorithm, fed with nothing yet."""
    import hashlib

    return hashlib.new(digest.partition(":")[0])


def matches(digest: str, data: bytes) -> bool:
    found = new_hash(digest)
    found.update(data)
    return found.hexdigest() == digest.partition(":")[2]
