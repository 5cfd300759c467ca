"""Applying a tar archive to a directory: by directory descriptors and O_NOFOLLOW, never by joined paths.

Order for each file: content, owner, extended attributes, mode, times; directories get theirs at the end, since their
content changes them, and a default ACL must not reach what the archive holds (chown(2) clears set-id bits and
capabilities, writing clears capabilities).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Literal

from kist.errors import InvalidInput, KistError
from kist.store import tar
from kist.store.summary import Reason, Skipped, Summary
from kist.store.tree import OPEN_DIRECTORY, Directory, Walker, clean, disk_error, readable, remove_tree, show
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.store.source import Source
    from kist.store.tar import Entry, Limits, TarReader

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PENDING_BYTES_MAX = 256 << 20
_EXAMPLES_MAX = 8


class Policy(Value):
    """What of the archive is applied.

    owner: "archive" sets user and group ids as stored, makes device nodes, sets file capabilities: needs root.
           "user": everything belongs to the caller, devices are skipped, directories get at least u+rwx.
    """

    owner: Literal["archive", "user"] = "archive"

    @classmethod
    def for_caller(cls) -> Policy:
        return cls("archive" if os.geteuid() == 0 else "user")


def unpack(stream: Source, root: int | str, *, policy: Policy | None = None, limits: Limits | None = None) -> Summary:
    """Apply the archive in `stream` to the directory `root` (a descriptor or a path; it must exist).

    Names are taken from the root: an absolute one is relative to it, one that climbs out with `..` is refused, and
    symlinks on the way lead where they would in a chroot. What exists is replaced, except directories by directories.
    On any error the directory is left as far as it came: unpack into a temporary place.
    Raises what TarReader raises; InvalidInput (tar-escape, tar-path, tar-link), KistError (disk-full, unpack-failed).
    """
    reader = tar.read_entries(stream, limits)
    root_fd = os.open(root, OPEN_DIRECTORY & ~os.O_NOFOLLOW) if isinstance(root, str) else os.dup(root)
    try:
        with Unpacker(root_fd, policy or Policy.for_caller()) as unpacker:
            for entry in reader:
                unpacker.apply(entry, reader)
            unpacker.finish()
            return unpacker.summary(reader)
    finally:
        os.close(root_fd)


class Unpacker:
    """One directory being filled: `apply` each entry in order, then `finish`. A context manager."""

    def __init__(self, root_fd: int, policy: Policy) -> None:
        self._walker = Walker(root_fd)
        self._own = policy.owner == "archive"
        self._directories: dict[bytes, Entry] = {}  # by real path: those whose metadata finish() sets
        self._absent: set[bytes] = set()  # real paths of skipped nodes, for hard links to them
        self._pending_bytes = 0  # memory that those two may take
        self._entries = 0
        self._file_bytes = 0
        self._skipped: dict[Reason, Skipped] = {}

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._walker.__exit__()

    def apply(self, entry: Entry, content: TarReader) -> None:
        """Create one entry. `content` stands at its content. Raises as `unpack` does."""
        self._entries += 1
        try:
            kind = entry.kind
            if kind == tar.HARDLINK:
                return self._hard_link(entry)
            directory, leaf = self._place(entry.name)
            if kind == tar.REGULAR and leaf:
                self._file(entry, directory, leaf, content)
            elif kind == tar.DIRECTORY:
                self._directory(entry, directory, leaf)
            elif not leaf:
                raise InvalidInput(
                    f"the tar entry {show(entry.name)} would replace the root directory", code="tar-path"
                )
            elif kind == tar.SYMLINK:
                self._symlink(entry, directory, leaf)
            elif kind == tar.SOCKET:
                self._skip("socket", entry.name)
            else:
                self._node(entry, directory, leaf)
        except OSError as e:
            raise _failed(e, entry) from e

    def finish(self) -> None:
        """Set the metadata of the directories. Call it once, after the last entry."""
        self._walker.forget()
        for path, entry in self._directories.items():
            try:
                directory = self._walker.open_real(path)
            except OSError as e:
                if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # a later entry put something else in its place
                raise _failed(e, entry) from e
            try:
                self._metadata(directory.fd, entry, entry.mode if self._own else entry.mode | 0o700)
            except OSError as e:
                raise _failed(e, entry) from e

    def summary(self, reader: TarReader) -> Summary:
        skipped = tuple(self._skipped.values())
        return Summary(self._entries, self._file_bytes, reader.size_bytes, reader.digest, skipped)

    def _place(self, name: bytes) -> tuple[Directory, bytes]:
        """The directory that `name` lies in, made if missing, and its last part, b"" for the root itself."""
        head, _, leaf = name.rpartition(b"/")
        if leaf in (b"", b".", b".."):
            parts = clean(name)
            leaf = parts.pop() if parts else b""
            head = b"/".join(parts)
        return self._walker.open(head, create=True), leaf

    def _replace(self, directory: Directory, leaf: bytes) -> None:
        """Remove what is at that name. Never opened for writing: it may be a link to something that stays."""
        mode = os.stat(leaf, dir_fd=directory.fd, follow_symlinks=False).st_mode
        remove_tree(directory.fd, leaf)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._walker.forget(keep=directory)
            self._directories.pop(directory.join(leaf), None)

    def _file(self, entry: Entry, directory: Directory, leaf: bytes, content: TarReader) -> None:
        try:
            fd = os.open(leaf, _NEW_FILE, 0o600, dir_fd=directory.fd)
        except FileExistsError:
            self._replace(directory, leaf)
            fd = os.open(leaf, _NEW_FILE, 0o600, dir_fd=directory.fd)
        try:
            if entry.sparse is None:
                while piece := content.piece():
                    if (count := os.write(fd, piece)) < len(piece):
                        _write_rest(fd, piece[count:])
            else:
                os.ftruncate(fd, entry.size)
                for offset, piece in content.segments(entry):
                    os.lseek(fd, offset, os.SEEK_SET)
                    _write_rest(fd, piece)
            self._file_bytes += entry.size
            self._metadata(fd, entry, entry.mode)
        finally:
            os.close(fd)

    def _metadata(self, target: int | str, entry: Entry, mode: int) -> None:
        if self._own:
            os.chown(target, entry.uid, entry.gid)
        for name, value in entry.xattrs.items():
            self._xattr(target, entry, name, value)
        os.chmod(target, mode)
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))

    def _xattr(self, target: int | str, entry: Entry, name: bytes, value: bytes) -> None:
        if not is_portable(name) or (name.startswith(b"security.") and not self._own):
            return self._skip("xattr", entry.name + b" " + name)
        try:
            os.setxattr(target, name, value)
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.ENOTSUP):
                raise KistError(
                    f"cannot set the extended attribute {show(name)} of {show(entry.name)}: {e.strerror}",
                    why=f"it has {len(value)} bytes; many file systems allow 4 KiB for all of a file together",
                    code="unpack-failed",
                ) from e
            self._skip("xattr", entry.name + b" " + name)

    def _directory(self, entry: Entry, directory: Directory, leaf: bytes) -> None:
        path = directory.join(leaf)
        if leaf:
            try:
                os.mkdir(leaf, 0o700, dir_fd=directory.fd)
            except FileExistsError:
                if not stat.S_ISDIR(os.stat(leaf, dir_fd=directory.fd, follow_symlinks=False).st_mode):
                    self._replace(directory, leaf)
                    os.mkdir(leaf, 0o700, dir_fd=directory.fd)
        if path not in self._directories:
            self._charge(path, entry)
        self._directories[path] = entry

    def _charge(self, path: bytes, entry: Entry) -> None:
        self._pending_bytes += len(path) + 512 + sum(len(k) + len(v) for k, v in entry.xattrs.items())
        if self._pending_bytes > _PENDING_BYTES_MAX:
            raise InvalidInput(
                f"the tar archive asks for too much near byte {entry.offset}: too many directories", code="tar-limit"
            )

    def _symlink(self, entry: Entry, directory: Directory, leaf: bytes) -> None:
        if not entry.linkname:
            raise InvalidInput(f"the symlink {show(entry.name)} has no target", code="tar-link")
        try:
            os.symlink(entry.linkname, leaf, dir_fd=directory.fd)
        except FileExistsError:
            self._replace(directory, leaf)
            os.symlink(entry.linkname, leaf, dir_fd=directory.fd)
        if self._own:
            os.chown(leaf, entry.uid, entry.gid, dir_fd=directory.fd, follow_symlinks=False)
        for name in entry.xattrs:  # Linux has user.* and ACLs on files and directories only, xattr(7)
            self._skip("xattr", entry.name + b" " + name)
        os.utime(leaf, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory.fd, follow_symlinks=False)

    def _hard_link(self, entry: Entry) -> None:
        parts = clean(entry.linkname)
        if not parts:
            raise InvalidInput(f"the hard link {show(entry.name)} has no target", code="tar-link")
        target = parts.pop()
        try:
            source = self._walker.open(b"/".join(parts), create=False)
        except FileNotFoundError as e:
            raise _no_target(entry) from e
        source_path = source.join(target)
        source_fd = os.dup(source.fd)  # opening the other directory may close the first
        try:
            directory, leaf = self._place(entry.name)
            if source_path in self._absent:
                self._absent.add(directory.join(leaf))
                return self._skip("device", entry.name)
            self._link(source_fd, target, directory, leaf)
        except FileNotFoundError as e:
            raise _no_target(entry) from e
        finally:
            os.close(source_fd)

    def _link(self, source_fd: int, target: bytes, directory: Directory, leaf: bytes) -> None:
        def link() -> None:  # linkat(2) without AT_SYMLINK_FOLLOW: a link to a symlink, not through it
            os.link(target, leaf, src_dir_fd=source_fd, dst_dir_fd=directory.fd, follow_symlinks=False)

        try:
            link()
        except FileExistsError:
            old = os.stat(leaf, dir_fd=directory.fd, follow_symlinks=False)
            if not os.path.samestat(old, os.stat(target, dir_fd=source_fd, follow_symlinks=False)):
                self._replace(directory, leaf)
                link()

    def _node(self, entry: Entry, directory: Directory, leaf: bytes) -> None:
        """A FIFO or device node. Opened as O_PATH, so that no driver hears of it, and reached through /proc."""
        device = 0
        if entry.kind != tar.FIFO:
            if not (0 <= entry.devmajor < 1 << 12 and 0 <= entry.devminor < 1 << 20):  # dev_t in the kernel
                raise InvalidInput(
                    f"the device {show(entry.name)} has the number {entry.devmajor}:{entry.devminor}",
                    code="tar-corrupt",
                )
            device = os.makedev(entry.devmajor, entry.devminor)
        mode = {tar.FIFO: stat.S_IFIFO, tar.CHAR_DEVICE: stat.S_IFCHR}.get(entry.kind, stat.S_IFBLK)
        try:
            if entry.kind != tar.FIFO and not self._own:
                raise PermissionError
            try:
                os.mknod(leaf, mode | 0o600, device, dir_fd=directory.fd)
            except FileExistsError:
                self._replace(directory, leaf)
                os.mknod(leaf, mode | 0o600, device, dir_fd=directory.fd)
        except PermissionError:  # also root without CAP_MKNOD, and every root of a user namespace
            path = directory.join(leaf)
            self._charge(path, entry)
            self._absent.add(path)
            return self._skip("device", entry.name)
        fd = os.open(leaf, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
        try:
            self._metadata(f"/proc/self/fd/{fd}", entry, entry.mode)
        finally:
            os.close(fd)

    def _skip(self, reason: Reason, name: bytes) -> None:
        before = self._skipped.get(reason, Skipped(reason, 0, ()))
        examples = before.examples
        if len(examples) < _EXAMPLES_MAX:
            examples = (*examples, readable(name))
        self._skipped[reason] = Skipped(reason, before.count + 1, examples)


def is_portable(xattr: bytes) -> bool:
    """Whether an extended attribute travels with an image.

    trusted.overlay.* and user.overlay.* would steer the overlay mounted on top (redirects, whiteouts);
    security.selinux and such are the host's to give.
    """
    if xattr.startswith(b"user."):
        return not xattr.startswith(b"user.overlay.")
    return xattr in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


def _write_rest(fd: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(fd, piece) :]


def _no_target(entry: Entry) -> InvalidInput:
    return InvalidInput(
        f"the hard link {show(entry.name)} points to {show(entry.linkname)}, which is not there",
        why="a hard link's target comes before it in the archive, under the same root",
        code="tar-link",
    )


def _failed(e: OSError, entry: Entry) -> KistError:
    what = f"cannot unpack {show(entry.name)}"
    if e.errno == errno.ENAMETOOLONG:
        return InvalidInput(
            f"{what}: name too long", why="the file system allows 255 bytes for one name", code="tar-path"
        )
    if e.errno in (errno.EPERM, errno.EINVAL):
        return KistError(
            f"{what}: {e.strerror}",
            why=f"it belongs to {entry.uid}:{entry.gid}, which the caller may lack the right or the id mapping to set",
            next="run as root, or without owners: Policy(owner='user')",
            code="unpack-failed",
        )
    return disk_error(what, e)
