"""A root file system as a value: what the layers of an image come to, one applied on the other. No I/O.

A view never changes: applying a layer gives a new one, which shares with the old one every directory that the layer
leaves alone. So two views are compared by identity, fast, and what a layer did is the difference.

Names are bytes. Symlinks lead where they would in a chroot; a name that climbs out of the root is refused.
Sources: OCI layer.md, "Applying Changesets" and "Whiteouts"; as containerd and umoci do where it is silent.
"""

from __future__ import annotations

import stat
from struct import Struct, pack, unpack_from

from kist.errors import InvalidInput
from kist.store.tree import clean, components, show
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from kist.store.changes import Change

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_PATH_BYTES_MAX = 4096  # PATH_MAX: past it no program could name the file
_NAME_BYTES_MAX = 255  # NAME_MAX
_LINKS_MAX = 40  # MAXSYMLINKS, path_resolution(7)
# Of memory, for the names and inodes of an image: of the 200 MB that taking it in may need. What each needs, with what
# becomes of it when it is written, was found by measuring: see tests/attack/test_image_memory.py.
_SIZE_BYTES_MAX = 110_000_000
_FILE_BYTES = 160  # and what its name and tail are longer than nothing
_DIRECTORY_BYTES = 600
_MANY = 50_000  # names in one directory, which is written at once: from there on each needs more
_MANY_BYTES = 150
_STEPS_FREE = 1_000_000
_STEPS_PER_NAME = 64

# mode, layer, uid, gid, nanoseconds, seconds, size, place
INODE = Struct("<HHIIIqQQ")


class Inode(bytes):
    """Anything but a directory, in 40 bytes and its tail, since there may be a great many. Two names of one inode
    hold the same object: compare with `is`.

    `layer`: which one it came with. `place`: where its content is there; of a device, its number (dev_t).
    The tail is a symlink's target, else extended attributes as `pack_xattrs` packs them.
    """

    __slots__ = ()

    @classmethod
    def make(
        cls, mode: int, *, uid: int = 0, gid: int = 0, mtime_ns: int = 0, size: int = 0, place: int = 0,
        layer: int = 0, tail: bytes = b"",
    ) -> Inode:  # fmt: skip
        seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
        return cls(INODE.pack(mode, layer, uid, gid, nanoseconds, seconds, size, place) + tail)

    @property
    def mode(self) -> int:
        """With the type, as in struct stat."""
        return self[0] | self[1] << 8

    @property
    def layer(self) -> int:
        return self[2] | self[3] << 8

    @property
    def uid(self) -> int:
        return int(unpack_from("<I", self, 4)[0])

    @property
    def gid(self) -> int:
        return int(unpack_from("<I", self, 8)[0])

    @property
    def mtime_ns(self) -> int:
        nanoseconds, seconds = unpack_from("<Iq", self, 12)
        return int(seconds * 1_000_000_000 + nanoseconds)

    @property
    def size(self) -> int:
        return int(unpack_from("<Q", self, 24)[0])

    @property
    def place(self) -> int:
        return int(unpack_from("<Q", self, 32)[0])

    @property
    def tail(self) -> bytes:
        return self[INODE.size :]

    @property
    def target(self) -> bytes:
        """Of a symlink."""
        return self.tail

    @property
    def xattrs(self) -> dict[bytes, bytes]:
        return {} if len(self) == INODE.size or stat.S_ISLNK(self.mode) else unpack_xattrs(self.tail)


class Run(Value):
    """Entries of a layer, one after the other: files in the directory `head`, by names that stand below it."""

    head: bytes
    names: list[bytes]
    inodes: list[Inode]


class Directory:
    """`inode` has its metadata, `children` what is in it. Only the layer that is being applied may change it, and only
    if it is the `owner`: made or copied by it."""

    __slots__ = ("children", "inode", "owner")

    def __init__(self, inode: Inode, children: dict[bytes, Inode | Directory], owner: int) -> None:
        self.inode = inode
        self.children = children
        self.owner = owner


Node = Inode | Directory


class View(Value):
    """`linked`: inodes that once got a second name, by id(), and the last part of the first; each may be gone."""

    root: Directory
    linked: dict[int, tuple[Inode, bytes]] = {}
    layers: int = 0
    size_bytes: int = 0  # of memory, at most

    def find(self, path: bytes) -> Node | None:
        """What a program in the container would get by that path, symlinks followed; None if there is nothing.

        Raises InvalidInput (tar-path) for a loop.
        """
        return _Walk(self.root, self.layers).follow(components(path))

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """(path, node) of all of it, directories before what they hold, names in byte order. The root is b""."""
        todo: list[tuple[bytes, Node]] = [(b"", self.root)]
        while todo:
            path, node = todo.pop()
            yield path, node
            if isinstance(node, Directory):
                head = path + b"/" if path else b""
                todo += [(head + name, node.children[name]) for name in sorted(node.children, reverse=True)]


def empty() -> View:
    """Nothing but a root directory."""
    return View(Directory(Inode.make(stat.S_IFDIR | 0o755), {}, -1))


def apply(view: View, changes: Iterable[Change | Run], whiteouts: Iterable[bytes] = ()) -> View:
    """What the view is with another layer on top; `whiteouts` are that layer's, which hide what is below it and nothing
    of its own, wherever in the archive they stand.

    Raises InvalidInput: tar-escape, tar-path, tar-link, tar-limit.
    """
    layer = Layer(view)
    for name in whiteouts:
        layer.hide(name)
    layer.add_all(changes)
    return layer.view


class _Walk:
    """Ways through a view, from its root."""

    def __init__(self, root: Directory, layer: int) -> None:
        self.root = root
        self.layer = layer
        self.size_bytes = 0
        self._steps = _STEPS_FREE

    def follow(self, parts: list[bytes], implied: Inode | None = None) -> Node | None:
        """What is at that path, symlinks followed, a last one too; None if there is nothing.

        With `implied` the directories on the way become this layer's own, and missing ones are made like that.
        """
        self._steps += _STEPS_PER_NAME
        trail, todo, links = [self.root], parts[::-1], 0
        while todo:
            part = todo.pop()
            self._steps -= 1
            if self._steps < 0:
                # Names full of long symlinks cost thousands of steps each: the average is bounded.
                raise InvalidInput("the tar archive's names take too many steps to resolve", code="tar-limit")
            if part == b"..":
                del trail[max(len(trail) - 1, 1) :]  # at the root it stays there, as in chroot
                continue
            child = trail[-1].children.get(part)
            if isinstance(child, Inode):
                if not stat.S_ISLNK(child.mode):
                    return None if todo else child
                links += 1
                if links > _LINKS_MAX:
                    raise InvalidInput(f"too many symlinks on the way to {show(b'/'.join(parts))}", code="tar-path")
                if child.target.startswith(b"/"):
                    del trail[1:]
                todo += components(child.target)[::-1]
                continue
            if implied is not None:
                child = self._own(trail[-1], part, child, implied)
                if len(trail) > _PATH_BYTES_MAX // 2:
                    raise InvalidInput(f"a directory path of more than {_PATH_BYTES_MAX} bytes", code="tar-path")
            elif child is None:
                return None
            trail.append(child)
        return trail[-1]

    def _own(self, parent: Directory, name: bytes, found: Directory | None, implied: Inode) -> Directory:
        if found is None:
            self._count(parent, name, _DIRECTORY_BYTES)
            found = Directory(implied, {}, self.layer)
        elif found.owner == self.layer:
            return found
        else:
            found = Directory(found.inode, dict(found.children), self.layer)
        parent.children[name] = found
        return found

    def _count(self, parent: Directory, name: bytes, size_bytes: int) -> None:
        """Another name comes into being."""
        self._need(_of_names(parent, 1) + len(name) + size_bytes)
        if len(name) > _NAME_BYTES_MAX:
            raise InvalidInput(
                f"the name {show(name)} is too long", why=f"file systems allow {_NAME_BYTES_MAX} bytes", code="tar-path"
            )

    def _need(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        if self.size_bytes > _SIZE_BYTES_MAX:
            raise InvalidInput(
                "the image has too many files",
                why=f"their names and metadata need more than {_SIZE_BYTES_MAX // 1_000_000} MB of memory",
                code="tar-limit",
            )


def _of_names(directory: Directory, count: int) -> int:
    """Bytes that so many names more in this directory need by themselves."""
    return count * _MANY_BYTES if len(directory.children) >= _MANY else 0


class Layer(_Walk):
    """A layer being applied: first its whiteouts, then its entries. `owner`: see Directory."""

    def __init__(self, view: View, owner: int | None = None) -> None:
        owner = view.layers if owner is None else owner
        super().__init__(Directory(view.root.inode, dict(view.root.children), owner), owner)
        self.linked = dict(view.linked)
        self.size_bytes = view.size_bytes
        self._known: dict[bytes, Directory] = {}  # by the path as the archive has it
        self._made: tuple[bytes, Directory] = (b"", self.root)  # the last one: what follows mostly lies in it

    @property
    def view(self) -> View:
        """When all is applied."""
        return View(self.root, self.linked, self.layer + 1, self.size_bytes)

    def hide(self, name: bytes) -> None:
        """Apply a whiteout file."""
        *head, leaf = clean(name)
        if not isinstance(found := self.follow(head), Directory):
            return
        hidden = leaf.removeprefix(WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise InvalidInput(f"the whiteout {show(name)} hides no name", code="tar-path")
        if leaf != OPAQUE and (hidden.startswith(WHITEOUT) or hidden not in found.children):
            return  # .wh..wh.*: books that aufs keeps; or there is nothing to hide
        found = self.follow(head, found.inode)
        assert isinstance(found, Directory)
        if leaf == OPAQUE:
            found.children.clear()
        else:
            del found.children[hidden]

    def add(self, change: Change) -> None:
        """Apply an entry."""
        name, inode, link = change.name, change.inode, change.link
        if inode is None:
            inode = self._target(name, link)
        parent, leaf = self._place(name, inode)
        if stat.S_ISDIR(inode.mode):
            self._made = name.rstrip(b"/"), self._directory(parent, leaf, inode)
            return
        if not leaf:
            raise InvalidInput(f"the tar entry {show(name)} would replace the root directory", code="tar-path")
        old = parent.children.get(leaf)
        self._need(len(inode) - INODE.size)  # also when it replaces another one
        if old is None:
            self._count(parent, leaf, _FILE_BYTES)
        elif isinstance(old, Directory) or stat.S_ISLNK(old.mode):
            self._forget()
        parent.children[leaf] = inode

    def add_all(self, changes: Iterable[Change | Run]) -> None:
        for change in changes:
            if isinstance(change, Run):
                self._add_run(change)
            else:
                self.add(change)

    def _add_run(self, run: Run) -> None:
        new = dict(zip(run.names, run.inodes, strict=True))
        parent = self._parent(run.head, run.inodes[0])
        if len(new) == len(run.names) and parent.children.keys().isdisjoint(new):
            self._need(_of_names(parent, len(new)) + sum(map(len, new)) + _FILE_BYTES * len(new))
            parent.children.update(new)
            return
        from kist.store.changes import Change

        for name, inode in zip(run.names, run.inodes, strict=True):
            self.add(Change(b"/".join((run.head, name)), inode))

    def _forget(self) -> None:
        """Paths may lead elsewhere now."""
        self._known.clear()
        self._made = b"", self.root

    def _place(self, name: bytes, inode: Inode) -> tuple[Directory, bytes]:
        """The directory that `name` lies in, made if missing, and its last part, b"" for the root itself."""
        head, _, leaf = name.rstrip(b"/").rpartition(b"/")
        if leaf in (b"", b".", b".."):
            parts = clean(name)
            leaf = parts.pop() if parts else b""
            head = b"/".join(parts)
        return self._parent(head, inode), leaf

    def _parent(self, head: bytes, inode: Inode) -> Directory:
        """The directory `head`, made if missing, with the times of what is put into it."""
        found = self._known.get(head)
        if found is None and head == self._made[0]:
            found = self._known[head] = self._made[1]
        if found is None:
            implied = Inode.make(stat.S_IFDIR | 0o755, mtime_ns=inode.mtime_ns, layer=self.layer)
            made = self.follow(clean(head), implied)
            if not isinstance(made, Directory):
                raise InvalidInput(f"{show(head)} is used as a directory, and is something else", code="tar-path")
            found = self._known[head] = made
        return found

    def _directory(self, parent: Directory, leaf: bytes, inode: Inode) -> Directory:
        if not leaf:
            self.root.inode = inode
            return self.root
        old = parent.children.get(leaf)
        self._need(len(inode) - INODE.size)
        if isinstance(old, Directory):
            found = self._own(parent, leaf, old, inode)
            found.inode = inode
            return found
        if old is None:
            self._count(parent, leaf, _DIRECTORY_BYTES)
        elif stat.S_ISLNK(old.mode):
            self._forget()
        parent.children[leaf] = found = Directory(inode, {}, self.layer)
        return found

    def _target(self, name: bytes, link: bytes) -> Inode:
        """What a hard link is to be another name of: not what a symlink there leads to, but the link itself."""
        parts = clean(link)
        leaf = parts.pop() if parts else b""
        found = self.follow(parts)
        inode = found.children.get(leaf) if isinstance(found, Directory) else None
        if not isinstance(inode, Inode):
            what = "is a directory" if inode else "is not there"
            raise InvalidInput(
                f"the hard link {show(name)} points to {show(link)}, which {what}",
                why="a hard link's target comes before it in the archive, or in a layer below, under the same root",
                code="tar-link",
            )
        self.linked.setdefault(id(inode), (inode, leaf))
        return inode


def pack_xattrs(xattrs: dict[bytes, bytes]) -> bytes:
    """u16 length of the name, u32 of the value, and the two; ascending names."""
    return b"".join([pack("<HI", len(k), len(v)) + k + v for k, v in sorted(xattrs.items())])


def unpack_xattrs(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at < len(data):
        name_size, value_size = unpack_from("<HI", data, at)
        name = data[at + 6 : at + 6 + name_size]
        at += 6 + name_size + value_size
        found[name] = data[at - value_size : at]
    return found


def difference(
    old: Directory | None, new: Directory, known: Container[int] = ()
) -> Iterator[tuple[bytes, Node | None, Node | None]]:
    """(path, before, after) of every name that stands for another node, directories before what they hold.

    A directory is another one when anything in it is. What was in one that is gone is not listed, nor what is in one
    that is `known`, by id(), by the time that the next name is asked for.
    """
    todo: list[tuple[bytes, Node | None, Node | None]] = [(b"", old, new)]
    while todo:
        path, before, after = todo.pop()
        if before is after:
            continue
        yield path, before, after
        if isinstance(after, Directory) and id(after) not in known:
            below = before.children if isinstance(before, Directory) else {}
            head = path + b"/" if path else b""
            names = sorted(below.keys() | after.children.keys(), reverse=True)
            todo += [(head + name, below.get(name), after.children.get(name)) for name in names]


def copy_up(old: View, new: View) -> tuple[View, dict[int, bytes]]:
    """The same view, where no inode of `old` has a name that `old` does not have; and what its copies are copies of.

    For layers that are directories: a hard link to a file of a layer below can only be made by having the file, under
    all its names, in the upper layer too.
    """
    if all(inode.layer >= old.layers for inode, _ in new.linked.values()):
        return new, {}  # as in each lowest layer
    linked = [
        after for _, before, after in difference(old.root, new.root)
        if isinstance(after, Inode) and id(after) in new.linked and after.layer < old.layers
    ]  # fmt: skip
    if not linked:
        return new, {}
    before = {id(node): path for path, node in old.walk()}
    copies = {id(inode): Inode(inode[:2] + old.layers.to_bytes(2, "little") + inode[4:]) for inode in linked}
    layer = Layer(new, owner=~new.layers)  # nobody else's, so that all is copied that is changed
    for path, node in new.walk():
        if id(node) in copies:
            *head, leaf = path.split(b"/")
            parent = layer.follow(head, layer.root.inode)
            assert isinstance(parent, Directory)
            parent.children[leaf] = copies[id(node)]
    places = {id(copies[id(inode)]): before[id(inode)] for inode in linked}
    kept = {**{id(copy): (copy, b"") for copy in copies.values()}, **new.linked}
    return View(layer.root, kept, new.layers, new.size_bytes), places
