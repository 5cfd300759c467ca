"""Layers prepared while they come, beside whoever fetches them and writes them to the store: not read a second time.

What comes of it counts only when somebody asks for a layer with that DiffID; what fails here is done again then, and
whoever asked is told why. So a blob may be cut off or be no layer at all.
"""

from __future__ import annotations

import os
from threading import Lock, Thread

from kist.errors import InvalidInput, KistError
from kist.store import view
from kist.store.add import needs_other_ids
from kist.store.ahead import Bounded, give_up_spare
from kist.store.data import StoreErrors
from kist.store.forms import EROFS, best_form

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from kist.spec.image import Descriptor
    from kist.store.blobs import BlobStore, Ingest
    from kist.store.prepared import Came, Prepared
    from kist.store.view import View

_WAITING_MAX = 4  # pieces of a layer
_AT_ONCE_MAX = 2


class Incoming:
    """The layers of one pull or load. A context manager: then what was not asked for goes away. Safe for threads."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        with StoreErrors("cannot prepare layers"):
            self._form = best_form(prepared.data_dir)
        self._able = self._form == EROFS or not needs_other_ids()  # those are another process's work
        self._feeds: list[Feed] = []
        self._lock = Lock()

    def begin(self, *, wait: bool = False) -> Feed | None:
        """Another layer is coming; None where it has to be whole first. `wait` until few are being prepared."""
        if not self._able:
            return None
        while wait and len(self._feeds) >= _AT_ONCE_MAX:
            self._end(self._feeds.pop(0))
        with self._lock:
            self._feeds.append(Feed(self._prepared, self._form, self._feeds[-1] if self._feeds else None))
            return self._feeds[-1]

    def finish(self) -> None:
        """Wait for all of them."""
        while self._feeds:
            self._end(self._feeds.pop(0))

    def _end(self, feed: Feed) -> None:
        feed.join()
        self._prepared.came = feed.came

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is not None:  # whoever fetches them may hang: Ctrl-C does not wait for that
            for feed in self._feeds:
                feed.abandon()
        self.finish()
        self._prepared.close()
        give_up_spare()


class Feed:
    """One layer, compressed. A context manager: leaving it abandons it.

    `came`: what it and the layers begun before it come to, for EROFS; those that are none are left out.
    """

    def __init__(self, prepared: Prepared, form: str, before: Feed | None) -> None:
        self._prepared = prepared
        self._form = form
        self._before = before
        self._coming = Bounded(_WAITING_MAX)  # of bytes; b"" is the end, None that there won't be one
        self._piece = memoryview(b"")
        self._given = self._taken = False  # the last one
        self.came: Came = ((), view.empty())
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, piece: bytes | memoryview) -> None:
        if piece and not self._given:
            self._coming.put(bytes(piece))

    def end(self) -> None:
        self._last(b"")

    def _last(self, piece: bytes | None) -> None:
        if not self._given:
            self._given = True
            self._coming.put(piece)

    def abandon(self) -> None:
        """Unless it has ended, the rest won't come."""
        self._last(None)

    def join(self) -> None:
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._piece and not self._taken:
            self._piece = memoryview(self._take())
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def _take(self) -> bytes:
        piece: bytes | None = self._coming.get()
        self._taken = not piece
        if piece is None:
            raise InvalidInput("the rest of a layer does not come")
        return piece

    def _run(self) -> None:
        before, self._before = self._before, None
        try:
            found = self._prepare(before)
            self.came = self._below(before)
            if found is not None:
                ids, below = self.came
                on_top = found[1] or self._prepared.on_top(below, found[0], len(ids), EROFS)
                self.came = (*ids, found[0]), on_top
        except (KistError, OSError) as e:
            import logging

            self.came = self._below(before)
            logging.getLogger(__name__).debug("not prepared while it came: %s", e)
        except BaseException as e:
            self._failure = e
        while not self._taken:
            self._taken = not self._coming.get()

    def _below(self, before: Feed | None) -> Came:
        if before is None:
            return (), view.empty()
        before._thread.join()
        return before.came

    def _prepare(self, before: Feed | None) -> tuple[str, View | None] | None:
        below = self._below(before)[1] if before is None or not before._thread.is_alive() else None
        if self._form == EROFS:
            return self._prepared.take_raw(self, below=below, ahead=True)
        self._prepared.stage(self, os.geteuid() == 0, None if before else below)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abandon()


class PreparingSink:
    """A blob store for Client.pull, where layers are prepared while they are written."""

    def __init__(self, blobs: BlobStore, incoming: Incoming) -> None:
        self._blobs = blobs
        self._incoming = incoming
        self.has, self.read = blobs.has, blobs.read

    def ingest(self, descriptor: Descriptor) -> Ingest | _Teed:
        inner = self._blobs.ingest(descriptor)
        compressed = descriptor.media_type.endswith(("gzip", "zstd"))
        return _Teed(inner, self._incoming) if compressed else inner


class _Teed:
    """A blob on its way in, from its first byte on."""

    def __init__(self, inner: Ingest, incoming: Incoming) -> None:
        self._inner = inner
        self._incoming = incoming
        self._feed: Feed | None = None

    @property
    def done(self) -> bool:
        return self._inner.done

    @property
    def offset(self) -> int:
        return self._inner.offset

    def restart(self) -> None:
        self._abandon()
        self._inner.restart()

    def write(self, data: bytes | memoryview) -> None:
        if not self._inner.offset and data:
            self._abandon()
            self._feed = self._incoming.begin()
        self._inner.write(data)
        if self._feed is not None:
            self._feed.write(data)

    def commit(self) -> None:
        self._inner.commit()
        if self._feed is not None:
            self._feed.end()

    def _abandon(self) -> None:
        if self._feed is not None:
            self._feed.abandon()
            self._feed = None

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._abandon()
        self._inner.__exit__()
