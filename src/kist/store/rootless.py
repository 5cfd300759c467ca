"""Work on an ordinary user's layers that needs all the ids of the user's containers: done by a process that has them.

    python -m kist.store.rootless        as root of a user namespace; a request as JSON on its input

It prints lines of JSON, see _Line: how far it came, and last what came of it.
"""

from __future__ import annotations

import os
import sys

from kist import errors
from kist.codec import decode_text, dumps
from kist.errors import KistError
from kist.store.prepared import LayerBlob, Prepared, Ready
from kist.store.summary import Skipped, Summary
from kist.store.tar import Limits
from kist.store.tree import OPEN_DIRECTORY, remove_tree
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Progress = Callable[[str, int, int], object]


class _Request(Value):
    """Either `blobs` to prepare, or a path to `remove`."""

    data_dir: str
    blobs: tuple[LayerBlob, ...] = ()
    limits: Limits = Limits()
    remove: str = ""


class _Progress(Value):
    digest: str
    done: int
    size: int


class _Failure(Value):
    """A KistError."""

    name: str  # of its class
    what: str
    why: str
    next: str
    code: str


class _Done(Value):
    """A Ready, with bytes as ISO 8859-1."""

    summaries: tuple[Summary, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    small: dict[str, str] = {}


class _Line(Value):
    """One of the three."""

    progress: _Progress | None = None
    done: _Done | None = None
    error: _Failure | None = None


def prepare_roots(data_dir: str, blobs: Sequence[LayerBlob], limits: Limits | None, progress: Progress) -> Ready:
    """Prepared.prepare_roots with owners. Raises what that raises, and KistError when it cannot be started."""
    done = None
    for line in _lines(_Request(data_dir, tuple(blobs), limits or Limits())):
        if line.progress:
            progress(line.progress.digest, line.progress.done, line.progress.size)
        done = line.done
    if done is not None:
        small = {name: text.encode("latin-1") for name, text in done.small.items()}
        return Ready(done.summaries, done.skipped, small)
    raise KistError("the process that unpacks in a user namespace ended without a word", code="unpack-failed")


def remove(path: str) -> None:
    """Delete a tree with files of all ids."""
    for _ in _lines(_Request("", remove=path)):
        pass


def _lines(request: _Request) -> Iterator[_Line]:
    from kist.kernel.userns import Unshared

    isolated = ["-I"] if sys.flags.isolated else ["-P"]  # never a module of the working directory
    with Unshared([sys.executable, *isolated, "-m", __name__], dumps(request).encode()) as process:
        for text in process:
            line = decode_text(_Line, text, "what the process in the user namespace says")
            if line.error:
                cls: type[KistError] = vars(errors)[line.error.name]
                raise cls(line.error.what, why=line.error.why, next=line.error.next, code=line.error.code)
            yield line


def main() -> int:
    request = decode_text(_Request, sys.stdin.buffer.read(), "the request")
    try:
        if request.remove:
            parent = os.open(os.path.dirname(request.remove), OPEN_DIRECTORY)
            remove_tree(parent, os.path.basename(request.remove))
            return 0
        prepared = Prepared(request.data_dir, request.limits)
        last = -1

        def progress(digest: str, done: int, size: int) -> None:
            nonlocal last
            if done // _PROGRESS_BYTES != last:
                last = done // _PROGRESS_BYTES
                _say(_Line(_Progress(digest, done, size)))

        ready = prepared.prepare_roots(request.blobs, True, progress)
        small = {name: data.decode("latin-1") for name, data in ready.small.items()}
        _say(_Line(done=_Done(ready.summaries, ready.skipped, small)))
    except OSError as e:
        from kist.store.data import disk_error

        _tell(disk_error("cannot unpack in a user namespace", e))
    except KistError as e:
        _tell(e)
    return 0


_PROGRESS_BYTES = 1 << 20


def _tell(e: KistError) -> None:
    _say(_Line(error=_Failure(type(e).__name__, e.what, e.why, e.next, e.code)))


def _say(line: _Line) -> None:
    sys.stdout.write(dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
