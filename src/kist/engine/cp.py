"""`kist cp`: files between a container and the host. A worker sees the container's side, this process the host's.

On both sides below what was asked for no symlink is followed. From a container come no devices and, unless owners do
too, no set-id bits; what goes into one belongs to its root, unless owners go along.
"""

from __future__ import annotations

import os
import stat

from kist.engine.copying import Target, settle_target
from kist.engine.inside import LIMITS, Report, Task
from kist.engine.view import Steady, View
from kist.errors import InvalidInput, KistError, NotFound
from kist.kernel import resolve
from kist.store.pack import Packer, pack_one, pack_tree
from kist.store.tar import DIRECTORY, TarReader
from kist.store.tree import show
from kist.store.unpack import Unpacker
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container, Containers

_NAME = b"copied"  # what an archive's names begin with on its way


def to_archive(containers: Containers, container: Container, path: str, fd: int, *, follow: bool) -> Report:
    """Pack `path` of the container into `fd`. Raises NotFound, InvalidInput, KistError."""
    with View(containers, container) as view:
        with view.start(Task("pack", path=_whole(path), name=_base(path), follow=follow), stdout=fd) as worker:
            return worker.report()


def from_archive(containers: Containers, container: Container, path: str, fd: int, *, archive: bool) -> Report:
    """Unpack what `fd` gives, plain or compressed, into the directory `path` of the container."""
    from kist.store.compression import open_source

    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        with View(containers, container) as view, open(fd, "rb", buffering=0, closefd=False) as file:
            source = open_source(file)  # by this process: decompressing is not for one that is in a container
            task = Task("unpack", path=_whole(path), owner=() if archive else (0, 0))
            with view.start(task, stdin=read) as worker:
                os.close(read)
                read = -1
                sink, buffer = Steady(write), memoryview(bytearray(1 << 16))
                try:
                    while count := source.readinto(buffer):
                        sink.write(bytes(buffer[:count]))
                except BrokenPipeError:
                    pass  # the worker says why
                os.close(write)
                write = -1
                return worker.report()
    finally:
        _close(read, write)


def from_container(
    containers: Containers, container: Container, path: str, local: str, *, archive: bool, follow: bool
) -> Report:
    """Raises NotFound, InvalidInput (not-the-same-kind, not-a-directory), KistError (disk-full, stalled)."""
    content_only = path.endswith(("/.", "/..")) or path in (".", "..")
    name = _base(path) or os.fsdecode(_NAME)
    content_only = content_only or not _base(path)
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        with View(containers, container) as view:
            task = Task("pack", path=_whole(path), name=name, follow=follow)
            with view.start(task, stdout=write) as worker:
                os.close(write)
                write = -1
                try:
                    report = _unpack_here(Steady(read), local, content_only=content_only, archive=archive)
                except KistError:
                    os.close(read)
                    read = -1
                    worker.report()  # its error says more
                    raise
                return replace(report, bytes=worker.report().bytes)
    finally:
        _close(read, write)


def _unpack_here(source: Steady, local: str, *, content_only: bool, archive: bool) -> Report:
    reader = TarReader(source, LIMITS)
    root = os.open("/", resolve.DIRECTORY)
    try:
        first = next(reader)
        target = Target(first.kind == DIRECTORY, content_only)
        directory, rename = settle_target(root, os.fsencode(_absolute(local)), target, "on this host")
        try:
            owners = archive and os.geteuid() == 0
            unpacker = Unpacker(directory, owners=owners, devices=False, set_ids=owners)
            try:
                unpacker.unpack(reader, rename, first=first)
            finally:
                unpacker.close()
            return Report(skipped=unpacker.skipped)
        finally:
            os.close(directory)
    finally:
        os.close(root)


def to_container(
    containers: Containers, container: Container, local: str, path: str, *, archive: bool, follow: bool
) -> Report:
    """Raises as from_container."""
    whole = os.fsencode(_absolute(local))
    root = os.open("/", resolve.DIRECTORY)
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        slash = whole.endswith((b"/", b"/.", b"/.."))
        parent, leaf, is_directory = _source(root, whole, follow=follow or slash)
        if slash and not is_directory:
            raise InvalidInput(f"{show(whole)} on this host is no directory", code="not-a-directory")
        content_only = whole.endswith((b"/.", b"/.."))
        name = _NAME if content_only or not leaf else os.path.basename(whole.rstrip(b"/")) or _NAME
        target = Target(is_directory, content_only or not leaf)
        task = Task("unpack", path=_whole(path), target=target, owner=() if archive else (0, 0))
        try:
            with View(containers, container) as view, view.start(task, stdin=read) as worker:
                os.close(read)
                read = -1
                try:
                    _pack_here(parent, leaf, Steady(write), name, is_directory=is_directory)
                except BrokenPipeError:
                    pass  # the worker says why
                os.close(write)
                write = -1
                return worker.report()
        finally:
            os.close(parent)
    finally:
        os.close(root)
        _close(read, write)


def _source(root: int, path: bytes, *, follow: bool) -> tuple[int, bytes, bool]:
    """(its directory, open; its name there; whether it is one)."""
    try:
        parent, leaf = resolve.open_parent(root, path, follow=follow)
        try:
            mode = os.stat(leaf or b".", dir_fd=parent, follow_symlinks=False).st_mode
        except BaseException:
            os.close(parent)
            raise
        return parent, leaf, stat.S_ISDIR(mode)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFound(f"no file or directory {show(path)} on this host", code="no-file") from e


def _pack_here(parent: int, leaf: bytes, sink: Steady, name: bytes, *, is_directory: bool) -> None:
    try:
        if not is_directory:
            pack_one(parent, leaf, Packer(sink, renamed=name))
            return
        fd = os.open(leaf or b".", resolve.DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            pack_tree(fd, Packer(sink, prefix=name, every_mount=True))
        finally:
            os.close(fd)
    except KistError as e:
        if isinstance(e.__cause__, BrokenPipeError):
            raise e.__cause__ from e
        raise


def _whole(path: str) -> str:
    """Paths of the container begin at its root."""
    return path if path.startswith("/") else f"/{path}"


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"{os.getcwd()}/{path}"


def _base(path: str) -> str:
    """What docker calls it in an archive; "" for all that is in it."""
    if path.endswith(("/.", "/..")) or path in (".", ".."):
        return ""
    return os.path.basename(path.rstrip("/"))


def _close(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)
