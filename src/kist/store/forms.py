"""Which form of image this host can mount: tried once in each boot, and remembered in DATA/form."""

from __future__ import annotations

import os

from kist.store.data import boot_id, new_temporary

EROFS = "erofs"
DIRECTORIES = "directories"
# fsconfig(2) takes no longer options; the path of a device has 80 characters below the data directory
_DATA_PATH_MAX = 255 - len("device=") - len("/layers/sha512-/extra") - 128


def best_form(data_dir: str) -> str:
    """EROFS needs root (not of a user namespace), Linux 6.12 and a data directory where a file can be mounted."""
    if os.geteuid() != 0 or len(os.fsencode(data_dir)) > _DATA_PATH_MAX:
        return DIRECTORIES
    try:
        with open(f"{data_dir}/form", "rb", buffering=0) as file:
            boot, _, form = file.read().partition(b"\n")
        if boot == boot_id().rstrip() and form in (b"erofs", b"directories"):
            return form.decode()
    except FileNotFoundError:
        pass
    form = EROFS if can_mount(data_dir) else DIRECTORIES
    making = new_temporary(data_dir)
    with open(making, "xb") as file:
        file.write(boot_id() + form.encode())
    os.rename(making, f"{data_dir}/form")
    return form


def can_mount(data_dir: str) -> bool:
    """Mount an image of one file, nowhere, and read the file."""
    import stat

    from kist.kernel.mounts import ATTR_RDONLY, new_mount
    from kist.store import erofs, view
    from kist.store.changes import Change
    from kist.store.view import Inode

    index, device = (new_temporary(data_dir) for _ in range(2))
    content = b"kist".ljust(512, b".")
    try:
        with open(device, "xb") as file:
            file.write(content)
        found = view.apply(view.empty(), [Change(b"file", Inode.make(stat.S_IFREG | 0o644, size=512))])
        with open(index, "xb") as file:
            erofs.write(found, [erofs.Device(0, False, 512)], bytes(16), file)
        mount = new_mount("erofs", index, [f"device={device}"], ATTR_RDONLY)
        try:
            fd = os.open("file", os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount)
            try:
                return os.read(fd, 1024) == content
            finally:
                os.close(fd)
        finally:
            os.close(mount)
    except OSError:  # no such file system or call, ENOTBLK, EPERM, EOPNOTSUPP: whatever the reason, it does not work
        return False
    finally:
        for path in (index, device):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
