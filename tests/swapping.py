"""What an attacker does with names while somebody else uses them."""

import ctypes
import os
import threading
from pathlib import Path

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class Swapper(threading.Thread):
    """Exchanges two names, as fast as it can, for as long as the block lasts."""

    def __init__(self, one: Path, other: Path) -> None:
        super().__init__(daemon=True)
        self.names = [os.fsencode(one), os.fsencode(other)]
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.swaps = 0
        self.stop = False

    def run(self) -> None:
        while not self.stop:
            one, other = self.names
            if self.libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE) == 0:
                self.swaps += 1

    def __enter__(self) -> "Swapper":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop = True
        self.join()
