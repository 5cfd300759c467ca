"""The data directory: where it is, who may use it, how a file gets into it whole.

    DATA/lock              see locks.py
    DATA/oci-layout, index.json, blobs/ALGORITHM/HEX    an OCI image layout: what images are, and their names
    DATA/ingest/           blobs that are not whole yet
    DATA/layers/, chains/  what follows from the blobs, in the form in which the kernel takes it; see layers.py
    DATA/images/           a record for each image
    DATA/catalog.db        what the files say, for quick questions; see catalog.py
    DATA/tmp/              whatever is being made; nothing in it is ever used
    DATA/reserve           nothing; its blocks are for deleting an image when the disk is full

A thing is made in tmp/, and appears under its name by rename(2). Source: OCI image-layout.md.
"""

from __future__ import annotations

import errno
import os

from kist.errors import KistError, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_DIRECTORIES = ("blobs", "blobs/sha256", "ingest", "layers", "chains", "images", "tmp")
_RESERVE_BYTES = 64 << 10
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_STEP_BYTES = 2 << 20
_BEHIND_BYTES = 32 << 20  # what may still be on its way to the disk


def default_data_dir(environ: Mapping[str, str]) -> str:
    """KIST_DATA_DIR, else /var/lib/kist for root, else kist in XDG_DATA_HOME or ~/.local/share."""
    if chosen := environ.get("KIST_DATA_DIR"):
        return os.path.abspath(chosen)
    if os.geteuid() == 0:
        return "/var/lib/kist"
    base = environ.get("XDG_DATA_HOME", "")
    if not base.startswith("/"):  # XDG base directory specification: a relative one counts as unset
        base = (environ.get("HOME") or os.path.expanduser("~")) + "/.local/share"
    return f"{base}/kist"


def create(path: str) -> None:
    """Make the directories, mode 0700, and the layout's mark. Raises KistError (data-dir), Refused."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        check_private(path)
        for name in _DIRECTORIES:
            try:
                os.mkdir(f"{path}/{name}", 0o700)
            except FileExistsError:
                continue
        if not os.path.exists(f"{path}/oci-layout"):
            write_whole(path, "oci-layout", _LAYOUT)
        if not os.path.exists(f"{path}/reserve"):
            _make_reserve(path)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_error(f"cannot create {path}", e) from e
        raise KistError(
            f"cannot create {path}: {e.strerror}", next="set KIST_DATA_DIR to a directory of yours", code="data-dir"
        ) from e


def _make_reserve(path: str) -> None:
    """As far as there is space, and a file system that can do it."""
    making = new_temporary(path)
    fd = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, _RESERVE_BYTES)
        os.rename(making, f"{path}/reserve")
    except OSError:
        os.unlink(making)
    finally:
        os.close(fd)


def give_up_reserve(path: str) -> bool:
    """Whether there is more space now; whoever creates something next makes it again."""
    try:
        os.unlink(f"{path}/reserve")
    except FileNotFoundError:
        return False
    return True


def check_private(path: str) -> None:
    """Nobody else may read or change it. Raises Refused when it is somebody else's, OSError when there is none."""
    status = os.stat(path)
    if status.st_uid != os.geteuid():
        raise Refused(
            f"{path} belongs to user {status.st_uid}",
            why="a store of another user could change under us",
            next="run kist as that user, or set KIST_DATA_DIR",
        )
    if status.st_mode & 0o077:  # CVE-2021-41091: set-uid files of images must be out of other users' reach
        os.chmod(path, 0o700)


def new_temporary(path: str) -> str:
    """A name in tmp/ that nobody else has."""
    return f"{path}/tmp/{os.urandom(8).hex()}"


def write_whole(path: str, name: str, data: bytes) -> None:
    """Make or replace DATA/NAME, at once and durably. Raises OSError."""
    making = new_temporary(path)
    try:
        write_new(making, data)
        os.rename(making, f"{path}/{name}")
    except BaseException:
        try:
            os.unlink(making)
        except FileNotFoundError:
            pass
        raise
    sync_directory(os.path.dirname(f"{path}/{name}"))


def write_new(path: str, data: bytes) -> None:
    """A file that is not there yet; its content is on the disk afterwards, its name not necessarily. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def is_whole(path: str) -> bool:
    """Whether this part of a layer or chain is there, and not from before a crash of the machine; see prepared.py."""
    if not os.path.lexists(path):
        return False
    try:
        with open(f"{os.path.dirname(path)}/boot", "rb", buffering=0) as file:
            return file.read() == boot_id()
    except FileNotFoundError:
        return True


def boot_id() -> bytes:
    with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
        return file.read()


def write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Behind:
    """Writes a file, from where it ends, that nobody reads soon: the disk begins at once, nobody waits for it, and what
    is on it leaves the cache, posix_fadvise(2), so that the next bytes come into the same memory. Where memory is new
    to a virtual machine, a page of it costs far more than the copy into it."""

    def __init__(self, fd: int, offset: int = 0) -> None:
        self._fd = fd
        self._offset = offset

    def write(self, data: bytes | memoryview) -> None:
        """Raises OSError."""
        write_all(self._fd, data)
        before, self._offset = self._offset, self._offset + len(data)
        if before // _STEP_BYTES != self._offset // _STEP_BYTES:
            start = max(0, self._offset - _BEHIND_BYTES)
            os.posix_fadvise(self._fd, start, self._offset - start, os.POSIX_FADV_DONTNEED)


def sync_directory(path: str) -> None:
    """The names in it, as they are now, survive a crash of the machine."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_error(what: str, e: OSError) -> KistError:
    """`what` failed in the store's file system: code disk-full or store-io."""
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return KistError(
            f"{what}: {e.strerror}",
            next="free some space, or set KIST_DATA_DIR to a directory on a larger file system",
            code="disk-full",
        )
    next = "mount it writable, or set KIST_DATA_DIR to a directory elsewhere" if e.errno == errno.EROFS else ""
    return KistError(f"{what}: {e.strerror or e}", next=next, code="store-io")


class StoreErrors:
    """Turns the OSErrors of a block into KistErrors that say what could not be done."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise disk_error(self._what, error) from error
