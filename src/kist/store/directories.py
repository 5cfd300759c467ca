"""A layer as a directory, for overlayfs: what it adds to the layers below, and whiteouts for what it hides.

No extended attribute says "opaque": whatever a directory hides gets a whiteout of its own. So it does not matter
whether the overlay is mounted with trusted.* or user.* attributes. Names are only ever used in directories opened one
by one with O_NOFOLLOW. Source: Linux Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import os
import stat

from kist.store import library
from kist.store.data import write_all
from kist.store.layers import Notes, directory_of, failed, set_metadata
from kist.store.tree import OPEN_DIRECTORY, Walker
from kist.store.view import Directory, Inode, View, copy_up, difference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kist.store.layers import Staged
    from kist.store.summary import Skipped
    from kist.store.view import Node

_READ_BYTES = 1 << 20
_WHITEOUT = stat.S_IFCHR  # 0:0; any user may make those since Linux 5.8


def build(
    old: View, new: View, *, stage: int, staged: Mapping[int, Staged], root: int, lowers: Sequence[str], owners: bool
) -> tuple[View, tuple[Skipped, ...]]:
    """Put into the empty directory `root` what `new` has beyond `old`.

    `stage` holds the contents of files as StagedContents put them, in a directory for each layer, where `staged` says;
    what is used is taken from there. `lowers` are the directories of the layers below, the lowest first. Without
    `owners` everything belongs to the caller, and directories get at least u+rwx. Returns the view as the directories
    now have it (see view.copy_up).
    Raises OSError, KistError (unpack-failed).
    """
    new, copies = copy_up(old, new)
    with Walker(root) as walker:
        builder = _Builder(walker, new, stage, staged, lowers, copies, owners)
        made: list[tuple[bytes, Directory]] = []
        for path, before, after in difference(old.root, new.root, builder.whole):
            try:
                if isinstance(after, Directory):
                    if path:
                        builder.directory(path, before, after)
                    made.append((path, after))
                    continue
                there = after is not None and builder.put(path, after)
                if not there and before is not None:
                    builder.hide(path)
            except OSError as e:
                raise failed(e, path) from e
        builder.move()
        for path, directory in reversed(made):  # what is put into a directory changes its times
            inode = directory.inode
            mode = inode.mode if owners else inode.mode | 0o700
            builder.finish(path, inode, mode)
    return new, builder.notes.all()


class _Builder:
    def __init__(
        self, walker: Walker, new: View, stage: int, staged: Mapping[int, Staged], lowers: Sequence[str],
        copies: dict[int, bytes], owners: bool,
    ) -> None:  # fmt: skip
        self._walker = walker
        self._linked = new.linked
        self._stage = stage
        self._staged = staged
        self._filled: dict[bytes, tuple[int, range]] = {}  # by path: the layer and the numbers of files that are there
        self.whole: set[int] = set()  # directories with nothing else in them, by id()
        self._lowers = lowers
        self._copies = copies
        self._owners = owners
        self._head = b""  # of the last path
        self._directory = walker.open_real(b"")  # stays open: nobody else asks the walker
        self._moves: list[bytes] = []  # names in `stage` and what they are to be there, in turn
        self.notes = Notes()

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        head, _, leaf = path.rpartition(b"/")
        if head != self._head:
            self.move()
            self._directory, self._head = self._walker.open_real(head), head
        return self._directory.fd, leaf

    def move(self) -> None:
        """Put files where they belong that wait for it."""
        names, self._moves = self._moves, []
        done = 2 * library.move(self._stage, self._directory.fd, names)
        if done < len(names):
            try:
                os.rename(names[done], names[done + 1], src_dir_fd=self._stage, dst_dir_fd=self._directory.fd)
            except OSError as e:
                raise failed(e, names[done + 1]) from e
            self._moves = names[done + 2 :]
            self.move()

    def directory(self, path: bytes, before: Node | None, directory: Directory) -> None:
        """Make it, or take it with files in it from where they wait, if it is to have all of them."""
        parent, leaf = self._parent(path)
        if (found := self._beside(directory)) is None:
            os.mkdir(leaf, 0o700, dir_fd=parent)
            return
        layer, beside = self._filled[path] = found
        if len(beside) == len(directory.children) and not isinstance(before, Directory):
            self.whole.add(id(directory))
        os.rename(b"%d/%b" % (layer, directory_of(beside.start)), leaf, src_dir_fd=self._stage, dst_dir_fd=parent)

    def _beside(self, directory: Directory) -> tuple[int, range] | None:
        children = directory.children.values()
        first = next((child for child in children if isinstance(child, Inode) and self._waits(child)), None)
        if first is None:
            return None
        layer = first.layer
        beside = self._staged[layer].beside(first.place)
        if beside is None or len(beside) > len(children):
            return None
        there = sum(
            isinstance(child, Inode) and child.place in beside and child.layer == layer and self._waits(child)
            for child in children
        )
        return (layer, beside) if there == len(beside) else None

    def _waits(self, inode: Inode) -> bool:
        """A file that has but one name, and comes from one of these layers."""
        return inode[1] & 0xF0 == 0x80 and id(inode) not in self._linked and inode.layer in self._staged

    def finish(self, path: bytes, inode: Inode, mode: int) -> None:
        """When nothing is put anywhere any more."""
        try:
            fd = self._walker.open_real(path).fd
            set_metadata(fd, _Shown(inode, mode), _allowed(inode, self._owners), self._owners)
        except OSError as e:
            raise failed(e, path) from e

    def hide(self, path: bytes) -> None:
        parent, leaf = self._parent(path)
        os.mknod(leaf, _WHITEOUT, 0, dir_fd=parent)

    def put(self, path: bytes, inode: Inode) -> bool:
        """Make anything but a directory; False when this caller cannot."""
        kind = inode.mode & 0o170000
        head, _, leaf = path.rpartition(b"/")
        if (linked := self._linked.get(id(inode))) is not None:
            parent, _ = self._parent(path)
            name = b"l%d" % id(inode)
            if kind == stat.S_IFREG and id(inode) not in self._copies:
                name = self._name(inode, linked[1])
            if not self._exists(name) and not self._make(path, inode, kind, self._stage, name):
                return False
            os.link(name, leaf, src_dir_fd=self._stage, dst_dir_fd=parent, follow_symlinks=False)
            return True
        if kind == stat.S_IFREG:
            layer, beside = self._filled.get(head, (-1, range(0)))
            if inode.layer != layer or inode.place not in beside:
                self._parent(path)
                self._moves += self._name(inode, leaf), leaf
            return True
        return self._make(path, inode, kind, self._parent(path)[0], leaf)

    def _name(self, inode: Inode, leaf: bytes) -> bytes:
        return b"%d/%b" % (inode.layer, self._staged[inode.layer].name(inode.place, leaf))

    def _exists(self, name: bytes) -> bool:
        try:
            os.stat(name, dir_fd=self._stage, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _make(self, path: bytes, inode: Inode, kind: int, directory: int, name: bytes) -> bool:
        if kind == stat.S_IFREG:
            self._copy(inode, directory, name)
        elif kind == stat.S_IFLNK:
            os.symlink(inode.target, name, dir_fd=directory)
            if self._owners:
                os.chown(name, inode.uid, inode.gid, dir_fd=directory, follow_symlinks=False)
            os.utime(name, ns=(inode.mtime_ns, inode.mtime_ns), dir_fd=directory, follow_symlinks=False)
        else:
            return self._node(path, inode, kind, directory, name)
        return True

    def _node(self, path: bytes, inode: Inode, kind: int, directory: int, name: bytes) -> bool:
        """A FIFO or device node. Opened as O_PATH, so that no driver hears of it, and reached through /proc."""
        try:
            if kind != stat.S_IFIFO and inode.place and not self._owners:
                raise PermissionError
            os.mknod(name, kind | 0o600, inode.place, dir_fd=directory)
        except PermissionError:  # also root without CAP_MKNOD, and every root of a user namespace
            self.notes.skip("device", path)
            return False
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            set_metadata(f"/proc/self/fd/{fd}", inode, _allowed(inode, self._owners), self._owners)
        finally:
            os.close(fd)
        return True

    def _copy(self, inode: Inode, directory: int, name: bytes) -> None:
        source = open_layered(self._lowers, self._copies[id(inode)])
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)
            try:
                while data := os.read(source, _READ_BYTES):
                    write_all(fd, data)
                set_metadata(fd, inode, _allowed(inode, self._owners), self._owners)
            finally:
                os.close(fd)
        finally:
            os.close(source)


class _Shown:
    """An inode with another mode."""

    def __init__(self, inode: Inode, mode: int) -> None:
        self.mode, self.uid, self.gid, self.mtime_ns = mode, inode.uid, inode.gid, inode.mtime_ns


def _allowed(inode: Inode, owners: bool) -> dict[bytes, bytes]:
    return {k: v for k, v in inode.xattrs.items() if owners or not k.startswith(b"security.")}


def open_layered(lowers: Sequence[str], path: bytes) -> int:
    """The regular file that the overlay of these directories, the lowest first, would show at a path without symlinks.

    For a path that is known to be there. Raises OSError.
    """
    head, _, leaf = path.rpartition(b"/")
    for lower in reversed(lowers):
        root = os.open(lower, OPEN_DIRECTORY)
        try:
            with Walker(root) as walker:
                fd = os.open(
                    leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=walker.open_real(head).fd
                )
        except (FileNotFoundError, NotADirectoryError):
            continue
        finally:
            os.close(root)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))
