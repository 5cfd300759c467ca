"""One HTTP exchange: connections, TLS, proxies, limits. No redirects, no credentials of registries, no retries.

On http.client and ssl of the standard library: kist has no runtime dependency, and what an HTTP library would add
(pools, redirects, retries) has to be ours anyway, to bound each of them. What http.client bounds: 64 KiB a header line,
100 headers.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
from functools import partial
from urllib.parse import urlsplit

from kist.errors import InvalidInput, KistError, RegistryError
from kist.registry.errors import Stopped, shown
from kist.registry.failures import Failures
from kist.registry.hosts import Hosts
from kist.registry.origin import Origin, origin_of
from kist.registry.proxies import proxy_for
from kist.registry.timing import Clock, Timing
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_IDLE_CONNECTIONS = 8
_PIECE_BYTES = 256 << 10
_READ_BYTES = 127 << 10  # with more, malloc maps and unmaps each piece, which takes twice the time
_USER_AGENT = "kist"


class FileBody(Value):
    """A range of a file that is sent; each try reads it anew."""

    fd: int
    offset: int
    size: int

    def pieces(self) -> Iterator[bytes]:
        import os

        at, end = self.offset, self.offset + self.size
        while at < end and (piece := os.pread(self.fd, min(_PIECE_BYTES, end - at), at)):
            at += len(piece)
            yield piece
        if at < end:
            raise RegistryError("the blob became shorter while it was sent", code="corrupt-store")


class _Paced(io.RawIOBase):
    """What a socket brings, never waiting longer than it may: up to an end, or at a least rate."""

    def __init__(self, sock: socket.socket, timing: Timing, clock: Clock) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._timing = timing
        self._clock = clock
        self._end: float | None = clock.monotonic() + timing.document_s
        self._window = self._came = 0.0

    def steady(self) -> None:
        """From now on no end, but a least rate."""
        self._end, self._window, self._came = None, self._clock.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        now = self._clock.monotonic()
        if self._end is not None and now >= self._end:
            raise TimeoutError(f"it takes longer than {self._timing.document_s:g} seconds")
        left = self._timing.idle_s if self._end is None else min(self._timing.idle_s, self._end - now)
        self._sock.settimeout(left)
        count = self._raw.readinto(buffer)
        if self._end is None:
            self._came += count or 0
            if self._clock.monotonic() - self._window >= self._timing.rate_window_s:
                if self._came < self._timing.rate_bytes:
                    raise TimeoutError(f"less than {self._timing.rate_bytes} bytes in {self._timing.rate_window_s:g} s")
                self._window, self._came = self._clock.monotonic(), 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: object, timing: Timing, clock: Clock, **kwargs: object) -> None:
        super().__init__(sock, *args, **kwargs)  # type: ignore[arg-type]
        self.fp.close()
        self.paced = _Paced(sock, timing, clock)
        self.fp = io.BufferedReader(self.paced, _PIECE_BYTES)


class Response:
    """Status and headers, and a body that is still to be read; close it, as a context manager."""

    def __init__(self, transport: Transport, origin: Origin, url: str, conn: http.client.HTTPConnection,
                 raw: http.client.HTTPResponse) -> None:  # fmt: skip
        self.url = url
        self.origin = origin
        self.status = raw.status
        self._transport = transport
        self._conn = conn
        self._raw = raw

    def header(self, name: str) -> str:
        return self._raw.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        return self._raw.headers.get_all(name) or []

    @property
    def length(self) -> int | None:
        """Bytes of the body; None: its end will show."""
        return self._raw.length

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Ends early when the other side does. Raises Unavailable, Stopped."""
        assert isinstance(self._raw, _Response)
        self._raw.paced.steady()
        while True:
            with self._transport.errors(self.origin):
                piece = self._raw.read1(_READ_BYTES)
            if not piece:
                return
            yield piece

    def read(self, most_bytes: int) -> bytes:
        """All of the body. Raises RegistryError (too-large), Unavailable when it ends early or takes too long."""
        with self._transport.errors(self.origin):
            expected = self._raw.length
            if expected is not None and expected > most_bytes:
                raise _too_large(self.origin, most_bytes)
            data = bytearray()
            while len(data) <= most_bytes and (piece := self._raw.read1(min(_PIECE_BYTES, most_bytes + 1 - len(data)))):
                data += piece
            if len(data) > most_bytes:
                raise _too_large(self.origin, most_bytes)
            if expected is not None and len(data) < expected:
                raise http.client.IncompleteRead(bytes(data[:0]), expected - len(data))
        return bytes(data)

    def close(self) -> None:
        # Cut short, http.client also calls it closed; then some of the length is left.
        done = (self._raw.isclosed() or self._raw.length == 0) and not self._raw.length and not self._raw.will_close
        self._raw.close()
        self._transport.give_back(self.origin, self._conn, keep=done)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _too_large(origin: Origin, most_bytes: int) -> RegistryError:
    return RegistryError(
        f"cannot read the answer of {origin.name}", why=f"it is larger than {most_bytes} bytes", code="too-large"
    )


class Transport:
    """Connections to all hosts, kept for the next exchange. Safe for concurrent threads. A context manager."""

    def __init__(self, hosts: Hosts, environ: Mapping[str, str], timing: Timing, clock: Clock) -> None:
        self.stop = threading.Event()
        self._hosts = hosts
        self._environ = environ
        self._timing = timing
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}
        self._busy: dict[http.client.HTTPConnection, socket.socket | None] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._insecure: set[str] = set()

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | FileBody = b"") -> Response:
        """Send one request; the answer's status is for the caller to judge.

        Raises Unavailable; RegistryError: unreachable, tls, bad-url; InvalidInput; Stopped.
        """
        origin = origin_of(url)
        while True:
            if self.stop.is_set():
                raise Stopped("stopped")
            conn, used = self._take(origin)
            try:
                with self.errors(origin):
                    raw = self._exchange(conn, origin, method, url, headers, body)
                return Response(self, origin, url, conn, raw)
            except BaseException as e:
                self.give_back(origin, conn, keep=False)
                if used and isinstance(e.__cause__, (ConnectionError, http.client.BadStatusLine)):
                    continue  # the other side had closed it meanwhile, which says nothing about the registry
                raise

    def _exchange(self, conn: http.client.HTTPConnection, origin: Origin, method: str, url: str,
                  headers: Mapping[str, str], body: bytes | FileBody) -> http.client.HTTPResponse:  # fmt: skip
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Host": origin.name, "User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **headers}
        proxy = proxy_for(origin.scheme, origin.host, origin.port, self._environ)
        if proxy is not None and origin.scheme == "http":
            target = f"http://{origin.name}{target}"
            sent.update(_proxy_headers(proxy.user, proxy.password))
        size = len(body) if isinstance(body, bytes) else body.size
        if size or method in ("POST", "PUT", "PATCH"):
            sent["Content-Length"] = str(size)
        if conn.sock is None:
            conn.connect()
        with self._lock:
            self._busy[conn] = conn.sock  # conn forgets it once the other side says that it will close
        conn.sock.settimeout(self._timing.idle_s)
        conn.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in sent.items():
            conn.putheader(name, value)
        try:
            conn.endheaders()
            for piece in [body] if isinstance(body, bytes) else body.pieces():
                if self.stop.is_set():
                    raise Stopped("stopped")
                if piece:
                    conn.send(piece)
        except (BrokenPipeError, ConnectionResetError) as e:
            try:  # it may have said why before it hung up
                return conn.getresponse()
            except (OSError, http.client.HTTPException):
                raise e from None
        return conn.getresponse()

    # --- connections

    def _take(self, origin: Origin) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        with self._lock:
            idle = self._idle.get(origin)
            if idle:
                conn = idle.pop()
                self._busy[conn] = conn.sock
                return conn, True
        conn = self._connection(origin)
        with self._lock:
            self._busy[conn] = None
        return conn, False

    def _connection(self, origin: Origin) -> http.client.HTTPConnection:
        proxy = proxy_for(origin.scheme, origin.host, origin.port, self._environ)
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        conn: http.client.HTTPConnection
        if origin.scheme == "https":
            context = self._context(origin)
            conn = http.client.HTTPSConnection(host, port, timeout=self._timing.connect_s, context=context)
            if proxy:
                conn.set_tunnel(origin.host, origin.port, _proxy_headers(proxy.user, proxy.password))
        else:
            conn = http.client.HTTPConnection(host, port, timeout=self._timing.connect_s)
        conn.response_class = partial(_Response, timing=self._timing, clock=self._clock)  # type: ignore[assignment]
        return conn

    def give_back(self, origin: Origin, conn: http.client.HTTPConnection, *, keep: bool) -> None:
        with self._lock:
            self._busy.pop(conn, None)
            idle = self._idle.setdefault(origin, [])
            if keep and len(idle) < _IDLE_CONNECTIONS and not self.stop.is_set():
                idle.append(conn)
                return
        conn.close()

    def abort(self) -> None:
        """End all exchanges that are under way, and refuse new ones until `stop` is cleared."""
        self.stop.set()
        with self._lock:
            busy = list(self._busy.values())
        for sock in busy:
            if sock is not None:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is down already

    def close(self) -> None:
        with self._lock:
            idle = [conn for conns in self._idle.values() for conn in conns]
            self._idle.clear()
        for conn in idle:
            conn.close()

    # --- TLS

    def trust_any(self, host: str) -> None:
        """The certificates of this host (HOST[:PORT]) are not looked at: someone said so."""
        self._insecure.add(host)

    def _context(self, origin: Origin) -> ssl.SSLContext:
        key = (origin.name, origin.name in self._insecure)
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._make_context(*key)
            return self._contexts[key]

    def _make_context(self, host: str, insecure: bool) -> ssl.SSLContext:
        context = ssl.create_default_context()
        trust = self._hosts.trust(host)
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        path = ""
        try:
            for path in trust.authorities:
                context.load_verify_locations(path)
            for path, key in trust.pairs:
                context.load_cert_chain(path, key, password=_no_password)
        except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
            raise InvalidInput(f"cannot use the certificate {path}", why=shown(str(e)), code="tls") from e
        return context

    def speaks_tls(self, host: str) -> bool:
        """Whether `host` answers a TLS greeting, with a certificate that we trust. Nothing else is sent.

        Raises RegistryError (tls, unreachable) as `request`.
        """
        origin = origin_of(f"https://{host}")
        conn, used = self._take(origin)
        keep = False
        try:
            with self.errors(origin):
                if conn.sock is None:
                    conn.connect()
            keep = True
            return True
        except KistError as e:
            cause = e.__cause__
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise
            if e.code == "unreachable":  # directly; a proxy for plain HTTP may still lead there
                if proxy_for("http", origin.host, 80, self._environ) is None:
                    raise
                return False
            if isinstance(cause, (ssl.SSLError, ConnectionResetError, EOFError, TimeoutError)):
                return False
            raise
        finally:
            self.give_back(origin, conn, keep=keep or used)

    def errors(self, origin: Origin) -> Failures:
        return Failures(origin, self.stop)


def _proxy_headers(user: str, password: str) -> dict[str, str]:
    if not user:
        return {}
    from base64 import b64encode

    return {"Proxy-Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def _no_password() -> str:
    """Asked for when a key is encrypted. Else OpenSSL would ask the terminal."""
    raise ValueError("its key is encrypted, which kist does not read")
