"""What a directory tree is, in full: for comparing two."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kist.kernel.mounts import ATTR_RDONLY, new_mount
from kist.store.data import boot_id, create
from kist.store.images import ImageStore

Tree = dict[bytes, dict[str, object]]


def snapshot(root: str) -> Tree:
    """By path: everything that a program can see of each file. Hard links name the first of their names."""
    found: Tree = {}
    first: dict[tuple[int, int], bytes] = {}
    todo = [b"."]
    while todo:
        path = todo.pop(0)
        whole = os.fsencode(root) + b"/" + path
        status = os.lstat(whole)
        kind = stat.S_IFMT(status.st_mode)
        is_directory = kind == stat.S_IFDIR
        item: dict[str, object] = {
            "mode": oct(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
            "mtime": status.st_mtime_ns,
            "first": None if is_directory else first.setdefault((status.st_dev, status.st_ino), path),
            "links": None if is_directory else status.st_nlink,
        }
        if kind == stat.S_IFREG:
            item |= {"size": status.st_size, "content": _digest(whole)}
        if kind == stat.S_IFLNK:
            item["target"] = os.readlink(whole)
        else:
            item["xattrs"] = {
                name: os.getxattr(whole, name, follow_symlinks=False)
                for name in sorted(os.listxattr(whole, follow_symlinks=False))
                if not name.startswith(("trusted.", "security.selinux"))
            }
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            item["device"] = status.st_rdev
        found[path] = item
        if is_directory:
            todo += [path + b"/" + name for name in sorted(os.listdir(whole))]
    return found


def _digest(path: bytes) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            found.update(data)
    return found.hexdigest()


def differences(one: Tree, other: Tree) -> list[str]:
    """A line for each; none when the trees are the same. The root's own time is nobody's in many archives."""
    lines = [f"only in one: {path!r}" for path in sorted(one.keys() ^ other.keys())]
    for path in sorted(one.keys() & other.keys()):
        for key in one[path]:
            if one[path][key] != other[path].get(key) and not (path == b"." and key == "mtime"):
                lines.append(f"{path!r} {key}: {one[path][key]!r} != {other[path].get(key)!r}")
    return lines


def use_directories(data_dir: str) -> None:
    """Let this store keep images as directories, as where EROFS cannot be mounted."""
    create(data_dir)
    Path(data_dir, "form").write_bytes(boot_id() + b"directories")


@contextmanager
def shown(name: str, data_dir: str = "") -> Iterator[str]:
    """A path where the image's files are, until the end of the block."""
    with ImageStore(data_dir).lease(name) as lease:
        what = lease.mountable
        if what.erofs:
            options = [f"device={path}" for path in what.devices]
            mount = new_mount("erofs", what.erofs, options, ATTR_RDONLY)
        elif len(what.lowers) == 1:
            mount = os.open(what.lowers[0], os.O_RDONLY | os.O_DIRECTORY)
        else:  # Linux 6.7; a path fits
            lowers = [f"lowerdir+={path}" for path in what.lowers]
            try:
                mount = new_mount("overlay", "overlay", lowers, ATTR_RDONLY)
            except OSError as e:
                pytest.skip(f"cannot mount an overlay of {len(lowers)} directories: {e}")
        try:
            yield f"/proc/self/fd/{mount}"
        finally:
            os.close(mount)
