"""The caller's own terminal and signals, while what is typed is somebody else's."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Raw:
    """The terminal behind an fd passes every key on, until the block ends. An fd that is none is left alone."""

    def __init__(self, fd: int) -> None:
        self._fd = fd if fd >= 0 and os.isatty(fd) else -1

    def __enter__(self) -> None:
        if self._fd >= 0:
            import termios
            import tty

            self._modes = termios.tcgetattr(self._fd)
            tty.setraw(self._fd, termios.TCSADRAIN)

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            import termios

            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._modes)
            except termios.error:
                pass  # the terminal is gone


class signals:  # used as a verb
    """Within the block, signals that would end this process are passed to `send`; SIGWINCH calls `resize`.

    Gives an fd to be polled and read: a signal that comes just before a poll would be seen only after it.
    """

    def __init__(self, send: Callable[[int], None] | None, resize: Callable[[], None]) -> None:
        self._send, self._resize = send, resize

    def __enter__(self) -> int:
        import signal as s

        heard, self._wakes = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        s.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        self._before = {s.SIGWINCH: s.signal(s.SIGWINCH, lambda *_: self._resize())}
        for number in (s.SIGHUP, s.SIGINT, s.SIGQUIT, s.SIGTERM, s.SIGUSR1, s.SIGUSR2):
            if self._send:
                self._before[number] = s.signal(number, self._pass)
            elif number != s.SIGINT:  # which raises KeyboardInterrupt already: the terminal is put in order
                self._before[number] = s.signal(number, _leave)
        return heard

    def _pass(self, number: int, _: object) -> None:
        if self._send:
            self._send(number)

    def __exit__(self, *_: object) -> None:
        import signal as s

        s.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            s.signal(number, handler)


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)
