"""A proxy before a registry that does wrong what registries, networks and attackers do wrong."""

import http.client
import re
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registries import Handler, server

Reply = tuple[int, list[tuple[str, str]], bytes]
Action = Callable[["Exchange"], object]
_HOPS = ("connection", "content-length", "transfer-encoding", "keep-alive")


class Exchange:
    """One request, and the means to answer it badly."""

    def __init__(self, handler: Handler, upstream: str, body: bytes) -> None:
        self.handler = handler
        self.body = body
        self._upstream = upstream

    def forward(self, drop: str = "", headers: dict[str, str] | None = None) -> Reply:
        """What the registry says; without one of the request's headers, or with others."""
        conn = http.client.HTTPConnection(self._upstream, timeout=30)
        try:
            sent = {name: value for name, value in self.handler.headers.items() if name.lower() != drop}
            conn.request(self.handler.command, self.handler.path, self.body, sent | (headers or {}))
            response = conn.getresponse()
            kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOPS]
            data = response.read()
            if self.handler.command == "HEAD":
                kept += [("Content-Length", response.headers["Content-Length"] or "0")]
            return response.status, kept, data
        finally:
            conn.close()

    def send(self, reply: Reply, length: int | None = None) -> None:
        """`length` is what Content-Length says."""
        status, headers, body = reply
        self.handler.send_response(status)
        for name, value in headers:
            self.handler.send_header(name, value)
        if self.handler.command != "HEAD":
            self.handler.send_header("Content-Length", str(len(body) if length is None else length))
        self.handler.end_headers()
        self.handler.wfile.write(body)
        self.handler.wfile.flush()

    def hang_up(self) -> None:
        """A reset, not an orderly end."""
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.close_connection = True

    def until_gone(self, then: Callable[[], object] | None = None) -> None:
        """Wait until the client has hung up, doing something every so often."""
        while True:
            ready, _, _ = select.select([self.handler.connection], [], [], 0.02 if then else 60)
            try:
                if ready and not self.handler.connection.recv(1 << 16):
                    break
                if then:
                    then()
            except OSError:
                break
        self.handler.close_connection = True


class Rule:
    """`action` for requests that match, METHOD PATH, the first `times` times."""

    def __init__(self, pattern: str, action: Action, times: int = 1 << 30) -> None:
        self.pattern, self.action, self.left, self.hits = pattern, action, times, 0


@contextmanager
def proxy(upstream: str, *rules: Rule) -> Iterator[str]:
    """HOST:PORT of the proxy. Requests that no rule matches pass through."""

    def answer(handler: Handler) -> None:
        line = f"{handler.command} {handler.path}"
        rule = next((r for r in rules if r.left > 0 and re.search(r.pattern, line)), None)
        if rule is not None:
            rule.left, rule.hits = rule.left - 1, rule.hits + 1
            if getattr(rule.action, "before_body", False):
                rule.action(Exchange(handler, upstream, b""))
                return
        exchange = Exchange(handler, upstream, handler.body())
        if rule is None:
            exchange.send(exchange.forward())
        else:
            rule.action(exchange)

    with server(answer) as host:
        yield host


# --- what can go wrong


def status(code: int, body: bytes = b'{"errors": [{"code": "X", "message": "as told"}]}', **headers: str) -> Action:
    return lambda e: e.send((code, [(name.replace("_", "-"), text) for name, text in headers.items()], body))


def hang_up(e: Exchange) -> None:
    e.hang_up()


def cut(e: Exchange) -> None:
    """Half of the body, then a reset."""
    code, headers, body = e.forward()
    e.send((code, headers, body[: len(body) // 2]), len(body))
    e.hang_up()


def end_early(e: Exchange) -> None:
    """Half of the body, then an orderly end."""
    code, headers, body = e.forward()
    e.send((code, headers, body[: len(body) // 2]), len(body))
    e.handler.close_connection = True


def shorter(e: Exchange) -> None:
    """Half of the body, and Content-Length says that this is all."""
    code, headers, body = e.forward()
    e.send((code, headers, body[: len(body) // 2]))


def longer(e: Exchange) -> None:
    code, headers, body = e.forward()
    e.send((code, headers, body + b"more"))


def corrupt(e: Exchange) -> None:
    code, headers, body = e.forward()
    middle = len(body) // 2
    e.send((code, headers, body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]))


def wrong_digest(e: Exchange) -> None:
    code, headers, body = e.forward()
    others = [(name, value) for name, value in headers if name.lower() != "docker-content-digest"]
    e.send((code, [*others, ("Docker-Content-Digest", "sha256:" + "0" * 64)], body))


def ignore_range(e: Exchange) -> None:
    e.send(e.forward(drop="range"))


def wrong_part(e: Exchange) -> None:
    e.send(e.forward(headers={"Range": "bytes=7-"}))


def stall(e: Exchange) -> None:
    e.until_gone()


def stall_half(e: Exchange) -> None:
    code, headers, body = e.forward()
    e.send((code, headers, body[: len(body) // 2]), len(body))
    e.until_gone()


def drip(e: Exchange) -> None:
    """A byte now and then, always soon enough to look alive."""
    code, headers, body = e.forward()
    e.send((code, headers, b""), len(body))
    left = iter(body)
    e.until_gone(lambda: e.handler.wfile.write(bytes([next(left, 0)])))


def drip_headers(e: Exchange) -> None:
    e.handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    e.until_gone(lambda: e.handler.wfile.write(b"x"))


def garbage(e: Exchange) -> None:
    e.handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\x00\x01")
    e.handler.close_connection = True


def endless(head: bytes, piece: bytes) -> Action:
    """`piece` for as long as the client takes it."""

    def send(e: Exchange) -> None:
        try:
            e.handler.wfile.write(head)
            while True:
                e.handler.wfile.write(piece * 100)
        except OSError:
            e.handler.close_connection = True

    return send


endless_body = endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n")
endless_headers = endless(b"HTTP/1.1 200 OK\r\n", b"X-More: of it\r\n")
endless_line = endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 100)
endless_continue = endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n")


def forward_then(code: int) -> Action:
    """It is done, but the answer says otherwise."""

    def send(e: Exchange) -> None:
        e.forward()
        status(code)(e)

    return send


def forward_then_hang_up(e: Exchange) -> None:
    e.forward()
    e.hang_up()


def hang_up_midway(e: Exchange) -> None:
    """Half of what the client sends gets through, then a reset."""
    size = int(e.handler.headers.get("Content-Length", "0"))
    e.body = e.handler.rfile.read(size // 2)
    e.forward(headers={"Content-Length": str(len(e.body))})
    e.hang_up()


def refuse_midway(e: Exchange) -> None:
    """Says no before it has read it all."""
    e.handler.rfile.read(10)
    status(413)(e)
    e.handler.close_connection = True


hang_up_midway.before_body = True  # type: ignore[attr-defined]
refuse_midway.before_body = True  # type: ignore[attr-defined]
