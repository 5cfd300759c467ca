"""An image's files at a path of the host: `kist image mount`, as root.

An image has one mount point, DATA/mounts/ALGORITHM-HEX by its manifest's digest. Whether it is mounted the kernel knows
(proc_pid_mountinfo(5)), so nothing is noted, and nothing is wrong after a reboot. While it is mounted an image is in
use, as if a container ran from it; but a mount in another mount namespace than ours is not seen from here.
"""

from __future__ import annotations

import os

from kist.errors import Refused
from kist.kernel.mounts import mount_points
from kist.store import locks
from kist.store.data import StoreErrors
from kist.store.locks import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.store.images import ImageLease, ImageStore

_DIRECTORY = "mounts"


def mount_image(store: ImageStore, name: str) -> str:
    """Where the image's files are now: read-only, without set-uid programs and devices that work. Once is enough.

    Raises NotFound, Refused for whoever is not root, StoreErrors.
    """
    if os.geteuid() != 0:
        raise Refused(
            f"cannot mount the image {name}",
            why="what an ordinary user mounts is only there in a mount namespace of its own",
            next=f"look into it with: kist run --rm -it {name} sh",
        )
    with StoreErrors(f"cannot mount the image {name}"), store.lease(name) as lease:
        path = _path(store.data_dir, lease.manifest)
        with Lock(store.data_dir, locks.NAMES):
            if not is_mounted(store.data_dir, lease.manifest):
                os.makedirs(path, 0o700, exist_ok=True)
                try:
                    _mount(lease, path)
                except BaseException:
                    os.rmdir(path)
                    raise
    return path


def _mount(lease: ImageLease, path: str) -> None:
    from kist.kernel.mounts import ATTR_NODEV, ATTR_NOSUID, ATTR_RDONLY, attach, mount_overlay, new_mount

    what, attributes = lease.mountable, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV
    if not what.erofs:
        # One directory is no overlay without an upper one; the empty mount point makes it two.
        mount_overlay((*what.lowers, path), path, attributes)
        return
    mount = new_mount("erofs", what.erofs, [f"device={device}" for device in what.devices], attributes)
    try:
        attach(mount, path)
    finally:
        os.close(mount)


def unmount_image(store: ImageStore, name: str) -> bool:
    """By its name, or by its mount point, which an image has that was removed by force. False when it is not mounted.

    Whoever has a file of it open keeps that. Raises NotFound, StoreErrors.
    """
    from kist.kernel.mounts import unmount

    with StoreErrors(f"cannot unmount the image {name}"):
        path = name if name in dict(mounted_images(store)).values() else _path(store.data_dir, store.get(name).manifest)
        with Lock(store.data_dir, locks.NAMES):
            found = os.path.realpath(path) in mount_points()
            if found:
                unmount(path)
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass
    return found


def is_mounted(data_dir: str, manifest: str) -> bool:
    path = _path(data_dir, manifest)
    return os.path.isdir(path) and os.path.realpath(path) in mount_points()


def mounted_images(store: ImageStore) -> list[tuple[str, str]]:
    """(digest of the image's manifest, path) of all that are mounted."""
    try:
        names = sorted(os.listdir(f"{store.data_dir}/{_DIRECTORY}"))
    except FileNotFoundError:
        return []
    manifests = [name.replace("-", ":", 1) for name in names]
    return [(m, _path(store.data_dir, m)) for m in manifests if is_mounted(store.data_dir, m)]


def _path(data_dir: str, manifest: str) -> str:
    return f"{data_dir}/{_DIRECTORY}/{manifest.replace(':', '-')}"
