"""Locks between processes and threads: byte ranges of one file, DATA/lock.

Each lock is one byte whose position follows from what it protects; nothing has to be made or removed for it. The locks
belong to the open file description: they pass to a program that inherits the descriptor, and end with the last process
that has it open, however that ends. Source: fcntl(2), "Open file description locks".
"""

from __future__ import annotations

import fcntl
import os
from struct import pack

# What is locked. Below the first 16: one byte for the whole store.
NAMES = 1  # index.json and the catalog are being changed: held for moments
USE = 2  # shared: somebody relies on blobs and layers that no image has yet. Exclusive: a collector deletes them
# One byte for each digest.
BLOB = 1  # exclusive: its content is being fetched
LAYER = 2  # exclusive: its content is being prepared
CHAIN = 3  # the same for a chain of layers
IMAGE = 4  # shared: a container runs from it; exclusive: it is being deleted
_DIGITS = 15  # of the digest: 60 bits; two digests with the same ones only wait for each other


def of_digest(kind: int, digest: str) -> int:
    return kind << 60 | int(digest.partition(":")[2][:_DIGITS], 16)


class Lock:
    """One lock, held until `close`; a context manager. `fd` keeps it, also in a program that inherits it."""

    def __init__(self, path: str, position: int, *, shared: bool = False, wait: bool = True) -> None:
        """`path` is the data directory. Raises BlockingIOError unless `wait`, and OSError."""
        self.fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        try:
            # struct flock: l_type, l_whence, l_start, l_len, l_pid (0 by fcntl(2))
            request = pack("hhqqi", kind, os.SEEK_SET, position, 1, 0)
            fcntl.fcntl(self.fd, fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK, request)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
