"""Work on an ordinary user's layers that needs all the ids of the user's containers: done by a process that has them.

    python -m kist.store.rootless        as root of a user namespace; a request as JSON on its input

It prints lines of JSON: {"progress": [digest, done, all]}, and last {"ready": ...} or {"error": ...}.
"""

from __future__ import annotations

import os
import sys

from kist import errors
from kist.codec import decode, dumps, loads, plain
from kist.errors import KistError
from kist.store.prepared import LayerBlob, Prepared, Ready
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


def prepare_roots(data_dir: str, blobs: Sequence[LayerBlob], limits: Limits | None, progress: Progress) -> Ready:
    """Prepared.prepare_roots with owners. Raises what that raises, and KistError when it cannot be started."""
    ready = None
    for line in _lines(_Request(data_dir, tuple(blobs), limits or Limits())):
        if "progress" in line:
            digest, done, size = line["progress"]  # type: ignore[misc]
            progress(str(digest), int(done), int(size))
        else:
            ready = decode(Ready, line["ready"])
    if ready is not None:
        return ready
    raise KistError("the process that unpacks in a user namespace ended without a word", code="unpack-failed")


def remove(path: str) -> None:
    """Delete a tree with files of all ids."""
    for _ in _lines(_Request("", remove=path)):
        pass


def _lines(request: _Request) -> Iterator[dict[str, object]]:
    from kist.kernel.userns import Unshared

    isolated = ["-I"] if sys.flags.isolated else ["-P"]  # never a module of the working directory
    with Unshared([sys.executable, *isolated, "-m", __name__], dumps(request).encode()) as process:
        for text in process:
            line = loads(text, "what the process in the user namespace says")
            assert isinstance(line, dict)
            if "error" in line:
                raise _error(line["error"])
            yield line


def _error(line: dict[str, str]) -> KistError:
    cls: type[KistError] = vars(errors)[line["class"]]
    return cls(line["what"], why=line["why"], next=line["next"], code=line["code"])


def main() -> int:
    request = decode(_Request, loads(sys.stdin.buffer.read()))
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
                _say({"progress": [digest, done, size]})

        _say({"ready": plain(prepared.prepare_roots(request.blobs, True, progress))})
    except OSError as e:
        from kist.store.data import disk_error

        _tell(disk_error("cannot unpack in a user namespace", e))
    except KistError as e:
        _tell(e)
    return 0


_PROGRESS_BYTES = 1 << 20


def _tell(e: KistError) -> None:
    error = {"class": type(e).__name__, "what": e.what, "why": e.why, "next": e.next, "code": e.code}
    _say({"error": error})


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
