"""A person at a terminal: a process on a pty of its own, typed to and read from."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time


class Terminal:
    """The process leads a session whose terminal this is."""

    def __init__(self, argv: list[str], *, rows: int = 24, columns: int = 80) -> None:
        self.seen = ""
        self.status: int | None = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            for number in (signal.SIGINT, signal.SIGQUIT):  # whoever runs the tests in the background has them ignored
                signal.signal(number, signal.SIG_DFL)
            try:
                os.execvp(argv[0], argv)
            finally:
                os._exit(127)
        self.resize(rows, columns)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """Wait until the pattern was printed; what came up to its end is forgotten."""
        deadline = time.monotonic() + timeout
        while True:
            if match := re.search(pattern, self.seen, re.DOTALL):
                self.seen = self.seen[match.end() :]
                return match
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.fd], [], [], max(left, 0))
            if not ready:
                raise AssertionError(f"{pattern!r} did not come; seen: {self.seen!r}")
            try:
                data = os.read(self.fd, 4096)
            except OSError:  # EIO: everybody has left
                data = b""
            if not data:
                raise AssertionError(f"{pattern!r} did not come before the end; seen: {self.seen!r}")
            self.seen += data.decode(errors="replace")

    def wait(self, timeout: float = 30) -> int:
        """The exit status, or minus the signal's number."""
        deadline = time.monotonic() + timeout
        while True:
            ready, _, _ = select.select([self.fd], [], [], 0.05)
            if ready:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                return self.status
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end; seen: {self.seen!r}")

    def modes(self) -> list:
        return termios.tcgetattr(self.fd)[:4]

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exc: object) -> None:
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        os.close(self.fd)
