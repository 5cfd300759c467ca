"""`kist attach`: a terminal, or pipes, and a container that its supervisor looks after.

What it prints comes out of its log, so that no reader can hold it up; what is typed goes to its supervisor's socket.
Source: launcher/attend.c.
"""

from __future__ import annotations

import os

from kist.engine.containers import LOST, Ended
from kist.engine.logs import LogRequest, Showing, log_files
from kist.errors import Conflict, KistError
from kist.plan.detach_keys import DetachKeys
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

    from kist.engine.containers import Container, Containers
    from kist.engine.log_files import LogFiles, Place

_PACKET_BYTES = 1 << 15


class AttachRequest(Value):
    """`stdin`: pass on what is read from fd 0. `sig_proxy`: and signals."""

    stdin: bool = True
    sig_proxy: bool = True
    detach_keys: bytes = b"\x10\x11"


def attach(container: Container, request: AttachRequest) -> int | None:
    """Until it has ended: its exit status; or until the detach keys were typed: None.

    Raises Conflict when it does not run or is paused.
    """
    if container.status == "paused":
        raise Conflict(f"{container.name} is paused", next=f"kist unpause {container.name}", code="paused")
    container.pid  # noqa: B018  # raises
    with log_files(container) as files:
        return _Attached(container, request, files, files.start_of_last(0)).run()


def start_and_attach(containers: Containers, container: Container, request: AttachRequest) -> int | None:
    """From its first word on. Raises what `start` raises, Conflict when it runs already."""
    from kist.engine.start import start

    if container.running:
        raise Conflict(f"{container.name} runs already", next=f"kist attach {container.name}", code="running")
    with log_files(container) as files:
        place = files.start_of_last(0)
        start(containers, container)
        return _Attached(container, request, files, place).run()


class _Attached:
    def __init__(self, container: Container, request: AttachRequest, files: LogFiles, place: Place) -> None:
        self._container, self._request, self._files, self._place = container, request, files, place
        asked = container.config.request
        self._reads = request.stdin and asked.interactive
        self._tty = asked.tty
        self._closes = not (asked.tty or asked.detach)  # as docker: one that began in the background reads on
        self._keys = DetachKeys(request.detach_keys if asked.tty else b"")
        self._ended: Ended | None = None
        self._problem: BaseException | None = None
        self._over, self._tell_over = os.pipe2(os.O_CLOEXEC)

    def run(self) -> int | None:
        from kist.engine.terminal import Raw, signals

        with self._connect() as self._socket:
            self.resize()
            on_signal = self._pass_signal if self._request.sig_proxy else None
            with signals(on_signal, self.resize) as wakes, Raw(0 if self._reads and self._tty else -1):
                return self._serve(wakes)

    def _connect(self) -> socket:
        from socket import AF_UNIX, SOCK_SEQPACKET, socket

        directory = f"{self._container.states.base}/{self._container.id}"
        made = socket(AF_UNIX, SOCK_SEQPACKET)
        try:
            fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                made.connect(f"/proc/self/fd/{fd}/attach")  # the whole path may be too long for a socket
            finally:
                os.close(fd)
        except OSError:
            self._reads = False  # it has just ended: what it printed is still to be shown
        return made

    def _serve(self, wakes: int) -> int | None:
        from _thread import start_new_thread

        from kist.kernel.inotify import watch

        self._news = watch(self._container.directory, written=False)
        self._showing = Showing(self._container, self._files, self._place, LogRequest(follow=True))
        try:
            start_new_thread(self._show, ())
            self._type(wakes)
            if self._keys.found:
                return None
        finally:
            self._showing.stop()
        if self._problem:
            raise self._problem
        ended = self._ended or self._container.ended
        return ended.code if ended else LOST

    # --- what it prints, by somebody else

    def _show(self) -> None:
        try:
            self._showing.wait()
        except BaseException as e:
            self._problem = e
        finally:
            os.close(self._tell_over)

    def _look_for_end(self) -> None:
        """While its files are there: one that is removed at its end leaves none."""
        from kist.kernel.inotify import drain

        drain(self._news)
        if not self._ended and os.path.exists(f"{self._container.directory}/ended"):
            self._ended = self._container.ended

    # --- what is typed

    def _type(self, wakes: int) -> None:
        """Until the container has ended, or the detach keys were typed."""
        from select import POLLIN, poll

        ready = poll()
        ready.register(self._over, POLLIN)
        ready.register(wakes, POLLIN)
        ready.register(self._news, POLLIN)
        self._look_for_end()
        if self._reads:
            ready.register(0, POLLIN)
        while True:
            fds = [fd for fd, _ in ready.poll()]
            if self._news in fds:
                self._look_for_end()
            if self._over in fds:
                return
            if wakes in fds:
                os.read(wakes, 1 << 12)  # their handlers have run
            if 0 not in fds:
                continue
            data = self._read()
            if data and self._send(b"d" + data) and not self._keys.found:
                continue
            if self._keys.found:
                return
            if not data and self._closes:
                self._send(b"e")
            ready.unregister(0)

    def _read(self) -> bytes:
        try:
            typed = os.read(0, _PACKET_BYTES)
        except OSError:  # the terminal is gone
            return b""
        return self._keys.pass_on(typed)

    def _send(self, packet: bytes) -> bool:
        """False: nobody hears it any more."""
        try:
            self._socket.send(packet)
        except OSError:
            return False
        return True

    def resize(self) -> None:
        """A full-screen program draws anew when it hears that the size has changed."""
        from struct import pack

        if not self._tty:
            return
        try:
            columns, rows = os.get_terminal_size(1)
            self._socket.send(b"w" + pack("HH", rows, columns), 0x40)  # MSG_DONTWAIT: it may be busy with what is typed
        except OSError:
            pass

    def _pass_signal(self, number: int) -> None:
        from kist.engine.stop import kill

        try:
            kill(self._container, number)
        except KistError:
            pass  # it has just ended
