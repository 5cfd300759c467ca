"""`os`, for programs that are started for each step of a container's life.

Python has its functions in `posix`; `os` itself adds thirty abstract classes, a fifteenth of all that `kist-oci run`
does. So unless it is there already (`site` imports it, and with it everybody who uses kist as a library), this `os` has
what `posix` has, of the rest what every command needs, and everything else from `os` when it is asked for.
"""

from __future__ import annotations

import sys

__all__ = ["os"]
TYPE_CHECKING = False
if TYPE_CHECKING or "os" in sys.modules:
    import os
else:
    import posix

    def _decoded(data: bytes) -> str:
        return data.decode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())

    def _fsencode(name: str | bytes) -> bytes:
        if isinstance(name, bytes):
            return name
        return name.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())

    def _mode(path: str, *, follow: bool = True) -> int:
        """0: there is nothing."""
        try:
            return posix.stat(path, follow_symlinks=follow).st_mode
        except (OSError, ValueError):
            return 0

    def _makedirs(name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        if not (exist_ok and path.isdir(name)):
            _os("makedirs")(name, mode, exist_ok)

    def _join(first: str, *others: str) -> str:
        for other in others:
            first = other if other.startswith("/") or not first else f"{first.removesuffix('/')}/{other}"
        return first

    def _dirname(path: str) -> str:
        head = path[: path.rfind("/") + 1]
        return head.rstrip("/") or head

    def _normpath(path: str) -> str:
        return posix._path_normpath(path) or "."

    def _os(name: str) -> object:
        import os

        return getattr(os, name)

    def _posixpath(name: str) -> object:
        import posixpath

        return getattr(posixpath, name)

    path = type(sys)("posixpath")
    path.__dict__.update(
        __getattr__=_posixpath,
        abspath=lambda path: _normpath(_join(posix.getcwd(), path)),
        basename=lambda path: path[path.rfind("/") + 1 :],
        dirname=_dirname,
        exists=lambda path: bool(_mode(path)),
        isdir=lambda path: _mode(path) & 0o170000 == 0o040000,
        islink=lambda path: _mode(path, follow=False) & 0o170000 == 0o120000,
        join=_join,
        lexists=lambda path: bool(_mode(path, follow=False)),
        normpath=_normpath,
    )
    os = type(sys)("os")
    os.__dict__.update(
        posix.__dict__,
        __getattr__=_os,
        devnull="/dev/null",
        environ={_decoded(name): _decoded(value) for name, value in posix.environ.items()},
        fsencode=_fsencode,
        makedirs=_makedirs,
        path=path,
    )
