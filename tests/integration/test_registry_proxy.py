"""Registries behind a proxy that wants a password: plain ones, and TLS through a tunnel."""

import base64
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kist.errors import RegistryError
from kist.registry.hosts import Hosts
from kist.spec.image import Platform
from kist.spec.reference import parse_reference
from registries import Blobs, client, docker_registry, make_certificates, make_image, needs_registry

pytestmark = needs_registry
AMD64 = Platform("amd64", "linux")
NAME = "registry.test"  # which nobody but the proxy knows


class Proxy:
    """Leads every connection to one host, whatever it asks for; Go's servers take requests in a proxy's form too."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.lines: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        threads = []
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=self._lead, args=(conn,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _lead(self, conn: socket.socket) -> None:
        with conn:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := conn.recv(1 << 16)):
                    return
                head += piece
            self.lines.append(head.partition(b"\r\n")[0].decode())
            if base64.b64encode(b"u:p") not in head:
                conn.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            host, _, port = self.upstream.partition(":")
            with socket.create_connection((host, int(port))) as other:
                if head.startswith(b"CONNECT "):
                    conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    other.sendall(head)
                _splice(conn, other)


def _splice(one: socket.socket, other: socket.socket) -> None:
    while True:
        for ready in select.select([one, other], [], [])[0]:
            try:
                data = ready.recv(1 << 16)
                (other if ready is one else one).sendall(data)
            except OSError:
                return
            if not data:
                return


@contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    made = Proxy(upstream)
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_pull_and_push_through_a_proxy(tmp_path: Path, scheme: str) -> None:
    blobs, got = Blobs(), Blobs()
    root = make_image(blobs, 100_000, 2_000_000)
    tls, hosts = "", Hosts(insecure=frozenset([f"{NAME}:5000"]))
    if scheme == "https":
        authority = make_certificates(tmp_path / "tls")
        tls = f"  tls:\n    certificate: {authority}/server.crt\n    key: {authority}/server.key"
        directory = tmp_path / "certs.d" / NAME
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
        hosts = Hosts(certificates=(str(tmp_path / "certs.d"),))
    name = parse_reference(f"{NAME}/app" if scheme == "https" else f"{NAME}:5000/app")
    with docker_registry(tmp_path / "registry", tls) as upstream, proxy(upstream) as between:
        environ = {f"{scheme.upper()}_PROXY": f"http://u:p@{between.host}"}
        with client(environ=environ, hosts=hosts) as c:
            c.push(name, blobs, root)
            assert c.pull(name, got, AMD64).root == root
        assert got.whole == blobs.whole
        if scheme == "https":
            assert set(between.lines) == {f"CONNECT {NAME}:443 HTTP/1.0"}
        else:
            assert all(f" http://{NAME}:5000/v2/" in line for line in between.lines)
        with client(environ={**environ, f"{scheme.upper()}_PROXY": f"http://{between.host}"}, hosts=hosts) as c:
            with pytest.raises(RegistryError) as e:
                c.pull(name, Blobs(), AMD64)
        assert "407" in str(e.value)
        with client(environ={**environ, "NO_PROXY": ".test"}, hosts=hosts) as c, pytest.raises(RegistryError) as e:
            c.pull(name, Blobs(), AMD64)
        assert e.value.code == "unreachable"
