"""What pull puts content into and push takes it from; kist.store.blobs.BlobStore is both."""

from __future__ import annotations

from kist.spec.image import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    # (blob, state, bytes done). States: downloading pulled exists retrying uploading pushed mounted
    Progress = Callable[[Descriptor, str, int], object]
else:
    Protocol = object


class Writer(Protocol):
    """One blob on its way in. `done`: it is there already. Else `offset` bytes are there from an earlier try."""

    @property
    def done(self) -> bool: ...
    @property
    def offset(self) -> int: ...

    def restart(self) -> None:
        """Throw away what is there."""

    def write(self, data: bytes | memoryview) -> None:
        """Raises InvalidInput (blob-size), having thrown all away, for more bytes than there should be."""

    def commit(self) -> None:
        """Verify and keep. Raises InvalidInput: blob-size when bytes are missing; digest-mismatch, having thrown all
        away."""

    def __enter__(self) -> Writer: ...

    def __exit__(self, *exc: object) -> None: ...


class Sink(Protocol):
    """Where blobs and manifests go; used by several threads at once."""

    def has(self, descriptor: Descriptor) -> bool: ...

    def read(self, descriptor: Descriptor, limit_bytes: int) -> bytes: ...

    def ingest(self, descriptor: Descriptor) -> Writer:
        """Whoever else takes in the same blob waits meanwhile, and then finds it `done`."""


class Source(Protocol):
    """Where blobs and manifests come from; used by several threads at once."""

    def has(self, descriptor: Descriptor) -> bool: ...

    def read(self, descriptor: Descriptor, limit_bytes: int) -> bytes: ...

    def open(self, digest: str) -> int:
        """A file descriptor that the caller closes."""


def no_progress(descriptor: Descriptor, state: str, done: int) -> None:
    """Tells nobody."""


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    import hashlib

    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def keep(sink: Sink, descriptor: Descriptor, data: bytes) -> None:
    """Put in a document as a whole."""
    with sink.ingest(descriptor) as writer:
        if not writer.done:
            writer.restart()
            writer.write(data)
            writer.commit()
