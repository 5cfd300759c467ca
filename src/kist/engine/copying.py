"""Where what is copied goes: docker's rules about what exists, trailing slashes and `/.`. Source: docker cp."""

from __future__ import annotations

import os
import stat

from kist.errors import InvalidInput, NotFound
from kist.kernel import resolve
from kist.store.tree import show
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Rename = Callable[[list[bytes]], list[bytes]]


class Target(Value):
    """What is about to come: an archive whose names all begin with one name, `is_directory` says of what; of a
    directory only what is in it, with `content_only`."""

    is_directory: bool
    content_only: bool = False


def settle_target(root: int, path: bytes, target: Target, where: str) -> tuple[int, Rename]:
    """The directory to unpack into, open, and what becomes of the archive's names. `path` is one of `root`'s.

    Raises NotFound, InvalidInput, OSError.
    """
    slash = path.endswith((b"/", b"/.", b"/.."))
    try:
        handle = resolve.open_inside(root, path, resolve.PATH)
    except FileNotFoundError:
        if slash and not target.is_directory:
            raise _missing(path, where) from None
    except NotADirectoryError as e:
        raise _missing(path, where) from e
    else:
        try:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                # By its own name and not by /proc/self/fd: what is opened is what was found, or the same path again.
                directory = os.open(b".", resolve.DIRECTORY, dir_fd=handle)
                return directory, (lambda parts: parts[1:]) if target.content_only else (lambda parts: parts)
        finally:
            os.close(handle)
        if target.is_directory or slash:
            why = "a directory is to be copied there" if target.is_directory else "the path ends with a slash"
            raise InvalidInput(f"{show(path)} {where} is no directory", why=why, code="not-a-directory")
    try:
        parent, name = resolve.open_parent(root, path, follow=True)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise _missing(os.path.dirname(path.rstrip(b"/")), where) from e
    try:
        return os.open(b".", resolve.DIRECTORY, dir_fd=parent), lambda parts: [name, *parts[1:]]
    finally:
        os.close(parent)


def _missing(path: bytes, where: str) -> NotFound:
    return NotFound(f"no directory {show(path)} {where}", next="make it first", code="no-file")
