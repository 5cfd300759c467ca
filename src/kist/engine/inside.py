"""Work on the files of a container, done by a process that sees them and does nothing else.

    python -m kist.engine.inside TASK    TASK as JSON; archives on standard input and output, a Report on standard error

It sees them through one descriptor of the container's root and resolves every path there by openat2(2), or opens
directory after directory. It never enters a mount namespace of the container's: no program of that is run, no library
loaded (CVE-2019-14271). What is compressed was decompressed before it comes here.
"""

from __future__ import annotations

import os
import stat
import sys

from kist.codec import decode_text, dumps
from kist.engine.copying import Target, settle_target
from kist.errors import Conflict, InvalidInput, KistError, NotFound
from kist.kernel import resolve
from kist.store import upper
from kist.store.data import disk_error
from kist.store.pack import Packer, pack, pack_one, pack_tree
from kist.store.summary import Skipped
from kist.store.tar import Limits, TarReader
from kist.store.tree import show
from kist.store.unpack import Unpacker
from kist.value import Value

# A copy may be as large as the disk.
LIMITS = Limits(entries=1 << 31, total_bytes=1 << 60)
_KERNELS = frozenset((b"proc", b"sys", b"dev"))  # of the container's root: made by the kernel and by kist


class Task(Value):
    """`root`: a directory of this mount namespace; or `pid`: that process's root, in whose user namespace the work is
    done. Paths are as the container's programs write them; texts hold bytes as surrogates."""

    action: str  # "pack", "export", "unpack", "changes", "layer"
    root: str = ""
    pid: int = 0
    path: str = ""
    name: str = ""  # pack, unpack: what the archive's names begin with
    follow: bool = False  # pack: a symlink at the end of the path
    target: Target | None = None  # unpack: what is copied; None: the archive's names as they are
    owner: tuple[int, ...] = ()  # unpack: whom all belongs to
    root_too: bool = False  # unpack: the directory itself becomes as the archive says
    uppers: tuple[tuple[str, str], ...] = ()  # changes, layer: (upper directory of an overlay, where that is mounted)
    left_out: tuple[str, ...] = ()  # layer


class Report(Value):
    """What came of it: an error of ours by its class's name, or how much."""

    error: str = ""
    what: str = ""
    why: str = ""
    next: str = ""
    code: str = ""
    bytes: int = 0
    digest: str = ""  # of the archive
    skipped: tuple[Skipped, ...] = ()


def main(argv: list[str]) -> int:
    task = decode_text(Task, argv[0].encode("utf-8", "surrogateescape"), "the task")
    try:
        report = _act(task)
    except OSError as e:
        report = _failed(disk_error(f"cannot {task.action} what is there", e))
    except KistError as e:
        report = _failed(e)
    os.write(2, dumps(report).encode("utf-8", "surrogateescape"))
    return 0


def _failed(e: KistError) -> Report:
    return Report(type(e).__name__, e.what, e.why, e.next, e.code)


def _act(task: Task) -> Report:
    if task.action in ("changes", "layer"):
        return _upper(task)
    root = _enter(task.pid) if task.pid else os.open(task.root, resolve.DIRECTORY)
    try:
        if task.action == "pack":
            return _pack(task, root)
        if task.action == "export":
            with open(1, "wb", buffering=1 << 16, closefd=False) as sink:
                return Report(bytes=pack(root, sink).file_bytes)
        return _unpack(task, root)
    finally:
        os.close(root)


def _enter(pid: int) -> int:
    """The root of a container's first process, looked at from outside; with the container's ids."""
    import select

    handle = os.pidfd_open(pid)
    try:
        root = os.open(f"/proc/{pid}/root", resolve.DIRECTORY)
        user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        ours, own_user = os.stat("/proc/self/ns/mnt").st_ino, os.stat("/proc/self/ns/user").st_ino
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        # Only if it lives after all that was it the same process all the time.
        if os.stat(f"/proc/{pid}/ns/mnt").st_ino == ours or poll.poll(0):
            raise Conflict("the container has just ended", next="try again", code="not-running")
    except (FileNotFoundError, ProcessLookupError) as e:
        raise Conflict("the container has just ended", next="try again", code="not-running") from e
    finally:
        os.close(handle)
    if os.fstat(user).st_ino != own_user:
        from kist.kernel.userns import become_root_of

        become_root_of(user)
    os.close(user)
    os.umask(0)
    return root


def _pack(task: Task, root: int) -> Report:
    path, name = os.fsencode(task.path), os.fsencode(task.name)
    directory_only = path.endswith((b"/", b"/.", b"/.."))
    try:
        parent, leaf = resolve.open_parent(root, path, follow=task.follow or directory_only)
        try:
            mode = os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode if leaf else stat.S_IFDIR
            if directory_only and not stat.S_ISDIR(mode):
                raise InvalidInput(f"{show(path)} in the container is no directory")
            with open(1, "wb", buffering=1 << 16, closefd=False) as sink:
                if not stat.S_ISDIR(mode):
                    return Report(bytes=pack_one(parent, leaf, Packer(sink, renamed=name)).file_bytes)
                fd = os.open(leaf or b".", resolve.DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                try:
                    whole = os.path.samestat(os.fstat(fd), os.fstat(root))
                    packer = Packer(sink, prefix=name, every_mount=True, hollow=_KERNELS if whole else frozenset())
                    return Report(bytes=pack_tree(fd, packer).file_bytes)
                finally:
                    os.close(fd)
        finally:
            os.close(parent)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFound(f"no file or directory {show(path)} in the container", code="no-file") from e


def _only_owner() -> tuple[int, int] | None:
    """Whose all files are where there is nobody else to give them to: an ordinary user's without other ids."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        one_id = [line.split()[2] for line in file] == ["1"]
    return (os.geteuid(), os.getegid()) if one_id or os.geteuid() else None


def _unpack(task: Task, root: int) -> Report:
    path = os.fsencode(task.path)
    into = None
    if task.target:
        directory, rename = settle_target(root, path, task.target, "in the container")
    else:
        directory, rename = _existing(root, path), lambda parts: parts
        if not task.root_too:

            def into(below: bytes) -> int:
                return resolve.open_inside(root, path + b"/" + below, resolve.DIRECTORY)

    try:
        owner = (task.owner[0], task.owner[1]) if task.owner else _only_owner()
        unpacker = Unpacker(directory, owner=owner, into=into, root_too=task.root_too)
        try:
            with open(0, "rb", buffering=0, closefd=False) as source:
                unpacker.unpack(TarReader(source, LIMITS), rename)
        finally:
            unpacker.close()
        return Report(bytes=unpacker.bytes, skipped=unpacker.skipped)
    finally:
        os.close(directory)


def _existing(root: int, path: bytes) -> int:
    try:
        return resolve.open_inside(root, path, resolve.DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFound(f"no directory {show(path)} in the container", why="an archive is unpacked into one that exists",
                       code="no-file") from e  # fmt: skip


def _upper(task: Task) -> Report:
    with open(1, "wb", buffering=1 << 16, closefd=False) as sink:
        found = [(path, os.fsencode(where)) for path, where in task.uppers]
        if task.action == "changes":
            upper.write_changes(found, sink)
            return Report()
        left_out = frozenset(map(os.fsencode, task.left_out))
        summary = upper.pack_layer(found[0][0], sink, left_out)
        return Report(bytes=summary.file_bytes, digest=summary.digest, skipped=summary.skipped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
