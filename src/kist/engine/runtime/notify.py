"""NOTIFY_SOCKET: a container that says itself when it is ready. Source: sd_notify(3); runc and crun do the same.

The container gets a socket of its own at /run/notify, and what it says there is passed on to the caller's.
"""

from __future__ import annotations

from kist.plan.compile import NOTIFY_NAME
from kist.spec.runtime import Mount
from kist.system import os
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from kist.engine.runtime.container import Container
    from kist.spec.runtime import Spec

_INSIDE = "/run/notify"


def callers_socket() -> str:
    """What NOTIFY_SOCKET says, if it is an address of a local socket; else ""."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    return name if name[:1] in ("/", "@") else ""


def directory(container: str) -> str:
    """Below a container's own directory."""
    return f"{container}/notify"


def with_notification(spec: Spec, container: str) -> Spec:
    """The config with the socket shown and named."""
    if not spec.process:
        return spec
    options = ("bind", "nosuid", "noexec", "nodev", "ro")
    env = (*spec.process.env, f"NOTIFY_SOCKET={_INSIDE}/{NOTIFY_NAME}")
    return replace(
        spec,
        process=replace(spec.process, env=env),
        mounts=(*spec.mounts, Mount(_INSIDE, "bind", directory(container), options)),
    )


class Notifications:
    """From before `start` until the container is ready."""

    def __init__(self, container: Container) -> None:
        import socket

        self.process = os.pidfd_open(container.pid)  # now: a short one may be gone when we come to wait for it
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        parent = os.open(directory(container.path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # an address has room for 107 bytes, a path may be longer
            self.socket.bind(f"/proc/self/fd/{parent}/{NOTIFY_NAME}")
            os.chmod(NOTIFY_NAME, 0o777, dir_fd=parent)
        finally:
            os.close(parent)

    def pass_on(self) -> None:
        """Until the container says READY=1, or has ended."""
        try:
            with self.socket, self._caller() as caller:
                for message in self._messages():
                    caller.send(message)
                    if b"READY=1" in message.split(b"\n"):
                        return
        finally:
            os.close(self.process)

    def _caller(self) -> socket.socket:
        import socket

        caller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = callers_socket()
        caller.connect(f"\0{name[1:]}" if name.startswith("@") else name)
        return caller

    def _messages(self) -> Iterator[bytes]:
        import select

        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        poll.register(self.process, select.POLLIN)
        while any(fd == self.socket.fileno() for fd, _ in poll.poll()):
            yield self.socket.recv(4096)
