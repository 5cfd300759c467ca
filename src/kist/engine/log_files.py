"""The files of a container's log, as its supervisor writes them: PREFIX.1, PREFIX.2, ..., the oldest removed in time.

What they say is read by the launcher (log_show.c); here is found where to begin. Who needs file N, and all that come
after it, has a lock on byte N of PREFIX.followed and all behind it: the supervisor keeps them for some time. It is a
lock of an open file, which the launcher shares, and gives back byte by byte. Source: launcher/log.c; fcntl(2), "Open
file description locks".
"""

from __future__ import annotations

import fcntl
import os
from struct import pack, unpack

from kist.value import Value

_HEAD_BYTES = 40
_LOCK = "hhxxxxqqixxxx"  # struct flock: type, whence, start, length, process


class Place(Value):
    """Behind a record: the number of a file, and how many bytes of it come before. 0: the first that there is."""

    number: int = 0
    offset: int = 0


class LogFiles:
    """They stay, as far as there is room for that, until it is closed."""

    def __init__(self, prefix: str, keep: int) -> None:
        """`keep`: how many are kept for nobody."""
        self.prefix, self._keep = prefix, keep
        self._directory, _, self._name = prefix.rpartition("/")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self.lock = os.open(f"{prefix}.followed", flags, 0o600)
            fcntl.fcntl(self.lock, fcntl.F_OFD_SETLK, pack(_LOCK, fcntl.F_RDLCK, 0, 0, 0, 0))
        except OSError:  # of a container that has gone, or on a disk that is full or read-only: they may go
            self.lock = -1

    def __enter__(self) -> LogFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if self.lock >= 0:
            try:
                self._drop()
            finally:
                os.close(self.lock)

    def _drop(self) -> None:
        """What was kept for us: a container that says nothing more would keep it for ever."""
        try:
            for number in self._numbers()[: -self._keep]:
                found = fcntl.fcntl(self.lock, fcntl.F_OFD_GETLK, pack(_LOCK, fcntl.F_WRLCK, 0, 0, number + 1, 0))
                if unpack(_LOCK, found)[0] != fcntl.F_UNLCK:
                    return  # another needs it
                os.unlink(f"{self.prefix}.{number}")
        except OSError:
            pass  # its supervisor, or whoever removes it, was faster

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        head = f"{self._name}."
        return sorted(
            [int(name[len(head) :]) for name in names if name.startswith(head) and name[len(head) :].isdecimal()]
        )

    def start_of_last(self, lines: int) -> Place:
        """Where the last so many lines begin. Raises OSError."""
        from mmap import PROT_READ, mmap

        found, newest = 0, True
        for number in reversed(self._numbers()):
            try:
                fd = os.open(f"{self.prefix}.{number}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                break
            try:
                size = os.fstat(fd).st_size
                if not size:
                    continue
                with mmap(fd, size, prot=PROT_READ) as text:
                    end = text.rfind(b"\n") + 1
                    while end:
                        start = text.rfind(b"\n", 0, end - 1) + 1
                        found += newest or text[start + _HEAD_BYTES - 2] != 0x50  # "P": its line goes on
                        newest = False
                        if found > lines:
                            return Place(number, end)
                        end = start
            finally:
                os.close(fd)
        return Place()
