"""An EROFS image of a view: all its metadata, and for each file where in the layers' archives its content is.

A tar keeps contents at multiples of 512 bytes, so with blocks of 512 bytes the archive itself is a device of the file
system, and nothing is copied. Layout, in blocks of 512 bytes:

    super block, table of devices       at 1024
    inodes of all directories           the root first: its number must fit 16 bits
    some directories after others       the inodes of their files, then their own blocks

Devices lie behind _DEVICES in one address space. Every inode is of the extended kind, every content flat; symlinks are
inline behind their inodes. Source: linux/fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst.
"""

from __future__ import annotations

import stat
from array import array
from struct import Struct, pack

from kist.errors import Unsupported
from kist.store import library
from kist.store.view import INODE, Directory, Inode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from kist.store.view import Node, View

BLOCK_BITS = 9
_BLOCK = 1 << BLOCK_BITS
_SLOT = 32  # an inode's number is its offset in such
_DEVICES = 1 << 24  # the block where the first device begins: 8 GiB are left for metadata
_BLOCKS_MAX = 1 << 32
_BATCH = 4096  # names that the library gets at once
EXTRA = 1 << 63  # of a place: in the layer's second file, which has what a tar does not hold in one piece

_SUPER = Struct("<IIIBBHQQIIII16s16sIHHHBBIQB23x")
_DEVICE = Struct("<64sII56x")
_INODE = Struct("<HHHHQIIIIqII16x")
_PLAIN, _INLINE = 1, 1 | 2 << 1  # i_format: extended inode; data apart from it, or behind it
_FEATURE_DEVICE_TABLE = 8
_TYPES = {
    stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFCHR: 3, stat.S_IFBLK: 4, stat.S_IFIFO: 5, stat.S_IFLNK: 7,
}  # fmt: skip
_PREFIXES = ((b"user.", 1), (b"system.posix_acl_access", 2), (b"system.posix_acl_default", 3), (b"security.", 6))


class Device:
    """A layer's file with contents. `layer` and `extra` are what the inodes say."""

    def __init__(self, layer: int, extra: bool, size_bytes: int) -> None:
        self.layer = layer
        self.extra = extra
        self.blocks = -(-size_bytes // _BLOCK)


def write(view: View, devices: Sequence[Device], uuid: bytes, out: BinaryIO) -> None:
    """Write the image; the same view gives the same bytes. `out` is empty and can seek.

    The file system has to be mounted with the devices in this order. Raises Unsupported (too-large) beyond 2 TiB.
    """
    _Writer(view, devices, out).write(uuid)


class _Batch:
    """Directories to be written: all their names, with inode numbers, 0 for the next of `plain`, and types."""

    def __init__(self) -> None:
        self.counts, self.numbers, self.plain = array("Q"), array("Q"), list[Inode]()
        self.names, self.kinds = list[bytes](), bytearray()


class _Writer:
    def __init__(self, view: View, devices: Sequence[Device], out: BinaryIO) -> None:
        self._out = out
        self._view = view
        self._devices = devices
        self._at = 0  # where the next byte goes
        self._count = 0
        self._bases: dict[tuple[int, bool], int] = {}
        base = _DEVICES
        for device in devices:
            self._bases[device.layer, device.extra] = base
            base += device.blocks
        if base >= _BLOCKS_MAX:
            raise Unsupported("the image's layers have more than 2 TiB", code="too-large")
        self._by_layer = array("Q", bytes(16 * max(view.layers, 1)))  # the same, for the library
        for (layer, extra), base in self._bases.items():
            self._by_layer[2 * layer + extra] = base
        self._names = _names_of_linked(view)
        self._written: dict[int, int] = {}  # inode with several names, by id() -> its number

    def write(self, uuid: bytes) -> None:
        first = _up(1024 + _SUPER.size + _DEVICE.size * len(self._devices), _BLOCK)
        directories = _directories(self._view.root)
        numbers, xattrs, at = {}, {}, first
        for directory, _, _ in directories:
            packed = b""
            if len(directory.inode) > INODE.size:
                xattrs[id(directory)] = packed = _xattrs(directory.inode)
            if at % _BLOCK > _BLOCK - _INODE.size:
                at = _up(at, _BLOCK)
            numbers[id(directory)] = at // _SLOT
            at = _up(at + _INODE.size + len(packed), _SLOT)
        self._at = at
        self._out.seek(at)
        places: list[tuple[int, int]] = []
        batch = _Batch()
        for directory, parent, _ in directories:
            self._list(directory, batch, numbers[id(directory)], numbers[id(parent)], numbers)
            if len(batch.names) > _BATCH:
                places += self._put(batch)
                batch = _Batch()
        places += self._put(batch)
        self._pad(_BLOCK)
        blocks = self._at // _BLOCK
        if blocks > _DEVICES:
            raise Unsupported("the image has more than 8 GiB of metadata", code="too-large")
        table = bytearray(at - first)
        for (directory, _, subdirectories), (block, size) in zip(directories, places, strict=True):
            here, packed = numbers[id(directory)] * _SLOT - first, xattrs.get(id(directory), b"")
            mode, _, uid, gid, nanoseconds, seconds, _, _ = INODE.unpack_from(directory.inode)
            self._count += 1
            _INODE.pack_into(
                table, here, _PLAIN, _icount(packed), mode, 0, size, block, self._count, uid, gid, seconds, nanoseconds,
                2 + subdirectories,
            )  # fmt: skip
            table[here + _INODE.size : here + _INODE.size + len(packed)] = packed
        self._out.seek(first)
        self._out.write(table)
        self._head(uuid, numbers[id(self._view.root)], blocks)

    def _head(self, uuid: bytes, root: int, blocks: int) -> None:
        self._out.seek(1024)
        table = (1024 + _SUPER.size) // _DEVICE.size
        self._out.write(
            _SUPER.pack(
                0xE0F5E1E2, 0, 0, BLOCK_BITS, 0, root, self._count, 0, 0, blocks, 0, 0, uuid, b"kist",
                _FEATURE_DEVICE_TABLE, 0, len(self._devices), table, 0, 0, 0, 0, 0,
            )
        )  # fmt: skip
        for device in self._devices:
            tag = b"%d%s" % (device.layer, b"x" if device.extra else b"")
            self._out.write(_DEVICE.pack(tag, device.blocks, self._bases[device.layer, device.extra]))

    def _pad(self, unit: int) -> None:
        if size := -self._at % unit:
            self._out.write(bytes(size))
            self._at += size

    def _inode(self, inode: Inode) -> int:
        """Write anything but a directory; its number."""
        linked = self._names.get(id(inode))
        if linked is not None and (number := self._written.get(id(inode))) is not None:
            return number
        mode, layer, uid, gid, nanoseconds, seconds, size, place = INODE.unpack_from(inode)
        kind, format, where, data, xattrs = mode & 0o170000, _PLAIN, 0, b"", b""
        if len(inode) > INODE.size and kind != stat.S_IFLNK:
            xattrs = _xattrs(inode)
        if kind == stat.S_IFREG:
            if size:
                where = self._bases[layer, place >= EXTRA] + ((place & ~EXTRA) >> BLOCK_BITS)
        elif kind == stat.S_IFLNK:
            data = inode.target
            size = len(data)
            if _INODE.size + size <= _BLOCK:
                format = _INLINE
            else:
                where, data = self._data(data), b""
        else:
            where = _device_number(place)
        used = _INODE.size + len(xattrs) + len(data)
        if self._at % _BLOCK + min(used, _BLOCK) > _BLOCK:
            self._pad(_BLOCK)
        number = self._at // _SLOT
        used += -used % _SLOT
        self._count += 1
        head = _INODE.pack(
            format, _icount(xattrs), mode, 0, size, where, self._count, uid, gid, seconds, nanoseconds, linked or 1
        )
        self._out.write((head + xattrs + data).ljust(used, b"\0") if len(head) < used else head)
        self._at += used
        if linked is not None:
            self._written[id(inode)] = number
        return number

    def _list(self, directory: Directory, batch: _Batch, own: int, above: int, numbers: dict[int, int]) -> None:
        """Its names in their order, and the inodes that are not plain files'."""
        children, linked = directory.children, self._names
        names = sorted((b".", b"..", *children))
        start = len(batch.names)
        batch.names += names
        batch.counts.append(len(names))
        batch.numbers.frombytes(bytes(8 * len(names)))
        batch.kinds += b"\1" * len(names)
        for i, child in enumerate(map(children.get, names), start):
            if isinstance(child, Inode):
                if len(child) == INODE.size and child[1] & 0xF0 == 0x80 and id(child) not in linked:
                    batch.plain.append(child)
                    continue
                batch.numbers[i], batch.kinds[i] = self._inode(child), _TYPES[child[1] << 8 & 0o170000]
            else:
                number = numbers[id(child)] if child else own if batch.names[i] == b"." else above
                batch.numbers[i], batch.kinds[i] = number, 2

    def _put(self, batch: _Batch) -> list[tuple[int, int]]:
        """Write plain files' inodes, then directories: for each (the first block's address, its size)."""
        numbers = array("Q")
        for i in range(0, len(batch.plain), _BATCH):
            data, some = library.inodes(batch.plain[i : i + _BATCH], self._at, self._count, self._by_layer)
            self._out.write(data)
            self._at += len(data)
            self._count += len(some)
            numbers += some
        data, sizes = library.dirents(batch.counts, batch.names, batch.numbers, bytes(batch.kinds), numbers)
        block, places = self._data(data), []
        for size in sizes:
            places.append((block, size))
            block += -(-size // _BLOCK)
        return places

    def _data(self, data: bytes) -> int:
        """Write whole blocks; the first one's address."""
        self._pad(_BLOCK)
        block = self._at >> BLOCK_BITS
        self._out.write(data)
        self._at += len(data)
        self._pad(_SLOT)
        return block


def _directories(root: Directory) -> list[tuple[Directory, Directory, int]]:
    """(directory, its parent, number of directories in it), parents first."""
    found: list[tuple[Directory, Directory, int]] = []
    todo = [(root, root)]
    while todo:
        directory, parent = todo.pop()
        inside = [child for child in directory.children.values() if isinstance(child, Directory)]
        found.append((directory, parent, len(inside)))
        todo += [(child, directory) for child in inside]
    return found


def _names_of_linked(view: View) -> dict[int, int]:
    """How many names an inode has, by id(), for those that had several once."""
    count = dict.fromkeys(view.linked, 0)
    if count:
        for directory, _, _ in _directories(view.root):
            for child in directory.children.values():
                if id(child) in count:
                    count[id(child)] += 1
    return count


def _xattrs(inode: Inode) -> bytes:
    """The attributes as they stand behind an inode, padded to 4 bytes; nothing for none."""
    xattrs = inode.xattrs
    if not xattrs:
        return b""
    parts = [bytes(12)]  # no filter, no shared ones
    for name, value in xattrs.items():
        prefix, index = next((prefix, index) for prefix, index in _PREFIXES if name.startswith(prefix))
        rest = name[len(prefix) :]
        entry = pack("<BBH", len(rest), index, len(value)) + rest + value
        parts.append(entry + bytes(-len(entry) % 4))
    return b"".join(parts)


def _icount(xattrs: bytes) -> int:
    return (len(xattrs) - 12) // 4 + 1 if xattrs else 0


def _device_number(device: int) -> int:
    """new_encode_dev() of linux/kdev_t.h, from what makedev(3) gives."""
    import os

    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _mode(node: Node) -> int:
    return node.mode if isinstance(node, Inode) else stat.S_IFDIR


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
