"""Network namespaces that exist only as an open file of the tests' own: nothing of them can be left behind."""

import ctypes
import json
import os
import subprocess
import threading
from collections.abc import Callable
from typing import TypeVar

from kist.kernel.netlink import Netlink

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def in_thread(work: Callable[[], T]) -> T:
    """A thread has a network namespace of its own; this one ends, and its change with it."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


class Namespace:
    def __init__(self) -> None:
        def make() -> int:
            _checked(_libc.unshare(_CLONE_NEWNET))
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        self.fd = in_thread(make)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"
        self.command("ip", "link", "set", "lo", "up")

    def close(self) -> None:
        os.close(self.fd)

    def enter(self) -> None:
        """This thread, and what it starts, from now on."""
        _checked(_libc.setns(self.fd, _CLONE_NEWNET))

    def inside(self, work: Callable[[], T]) -> T:
        """Do it in this namespace: a socket made there stays there."""

        def run() -> T:
            self.enter()
            return work()

        return in_thread(run)

    def netlink(self, protocol: int = 0) -> Netlink:
        return self.inside(lambda: Netlink(protocol))

    def argv(self, *command: str) -> list[str]:
        return ["nsenter", f"--net={self.path}", *command]

    def command(self, *command: str, **kwargs) -> str:
        done = subprocess.run(self.argv(*command), capture_output=True, text=True, timeout=60, **kwargs)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ip(self, *words: str) -> list[dict]:
        return json.loads(self.command("ip", "-j", "-d", *words) or "[]")

    def link(self, name: str) -> dict:
        return next(link for link in self.ip("address", "show") if link.get("ifname") == name)
