"""Registries for tests: a store in memory, a registry in this process, Debian's docker-registry, and images to send."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from kist.codec import dumps
from kist.errors import InvalidInput
from kist.registry.client import Client, Keychain
from kist.registry.hosts import Hosts
from kist.registry.timing import Clock, Timing
from kist.spec.image import CONFIG, INDEX, LAYER, MANIFEST, Descriptor, Index, Manifest, Platform
from kist.value import replace

needs_registry = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")
needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
QUICK = Timing(connect_s=5, idle_s=0.5, document_s=2, rate_window_s=1, backoff_s=0.01)


class TestClock(Clock):
    """Waits that end at once, and are noted."""

    __test__ = False

    def __init__(self) -> None:
        self.waits: list[float] = []

    def wait(self, stop: threading.Event, seconds: float) -> None:
        self.waits.append(seconds)

    def jitter(self) -> float:
        return 1


class Blobs:
    """A store in memory: a Sink and a Source. `partial` has what began to come."""

    def __init__(self) -> None:
        self.whole: dict[str, bytes] = {}
        self.partial: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self.locks: dict[str, threading.Lock] = {}

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.whole and len(self.whole[descriptor.digest]) == descriptor.size

    def read(self, descriptor: Descriptor, limit_bytes: int) -> bytes:
        assert descriptor.size <= limit_bytes
        return self.whole[descriptor.digest]

    def open(self, digest: str) -> int:
        fd = os.memfd_create("blob", os.MFD_CLOEXEC)
        os.write(fd, self.whole[digest])
        return fd

    def ingest(self, descriptor: Descriptor) -> "Ingest":
        return Ingest(self, descriptor)

    def put(self, data: bytes, media_type: str) -> Descriptor:
        digest = digest_of(data)
        self.whole[digest] = data
        return Descriptor(media_type, digest, len(data))


class Ingest:
    def __init__(self, blobs: Blobs, descriptor: Descriptor) -> None:
        self._blobs, self._descriptor = blobs, descriptor
        self.done = False
        self._data = bytearray()

    @property
    def offset(self) -> int:
        return len(self._data)

    def __enter__(self) -> "Ingest":
        with self._blobs.lock:
            self._lock = self._blobs.locks.setdefault(self._descriptor.digest, threading.Lock())
        self._lock.acquire()
        self.done = self._blobs.has(self._descriptor)
        self._data[:] = self._blobs.partial.get(self._descriptor.digest, b"")
        return self

    def __exit__(self, *exc: object) -> None:
        if not self.done:
            self._blobs.partial[self._descriptor.digest] = bytes(self._data)
        self._lock.release()

    def restart(self) -> None:
        self._data.clear()

    def write(self, data: bytes | memoryview) -> None:
        if len(self._data) + len(data) > self._descriptor.size:
            self.restart()
            raise InvalidInput("cannot store it", why="too many bytes", code="blob-size")
        self._data += data

    def commit(self) -> None:
        if len(self._data) < self._descriptor.size:
            raise InvalidInput("cannot store it", why="bytes are missing", code="blob-size")
        if digest_of(bytes(self._data)) != self._descriptor.digest:
            self.restart()
            raise InvalidInput("cannot store it", why="its content is other", code="digest-mismatch")
        self._blobs.whole[self._descriptor.digest] = bytes(self._data)
        self.done = True


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer_tar(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that do not compress, the same each time."""
    return b"".join(hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(size // 32 + 1))[:size]


def make_image(
    blobs: Blobs, *sizes: int, architecture: str = "amd64", variant: str = "", types: tuple[str, str, str] | None = None
) -> Descriptor:
    """An image whose layers have files of these sizes; a real one, that other engines take."""
    manifest_type, config_type, layer_type = types or (MANIFEST, CONFIG, f"{LAYER}+gzip")
    layers, diff_ids = [], []
    for i, size in enumerate(sizes):
        tar = layer_tar(f"file{i}", noise(size, i))
        diff_ids.append(digest_of(tar))
        layers.append(blobs.put(gzip.compress(tar, 1, mtime=0), layer_type))
    config = {
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }  # fmt: skip
    if variant:
        config["variant"] = variant
    made = blobs.put(json.dumps(config).encode(), config_type)
    return blobs.put(dumps(Manifest(2, made, tuple(layers), manifest_type)).encode(), manifest_type)


def make_index(blobs: Blobs, *entries: tuple[Descriptor, Platform], media_type: str = INDEX) -> Descriptor:
    manifests = tuple(replace(descriptor, platform=platform) for descriptor, platform in entries)
    return blobs.put(dumps(Index(2, manifests, media_type)).encode(), media_type)


def write_layout(path: Path, blobs: Blobs, root: Descriptor, name: str) -> None:
    """An OCI image layout that skopeo reads."""
    (path / "blobs/sha256").mkdir(parents=True)
    for digest, data in blobs.whole.items():
        (path / "blobs" / digest.replace(":", "/")).write_bytes(data)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    named = replace(root, annotations={"org.opencontainers.image.ref.name": name})
    (path / "index.json").write_text(dumps(Index(2, (named,), INDEX)))


def client(**options: object) -> Client:
    """One that knows nothing of this machine's files."""
    given: dict[str, object] = {
        "keychain": Keychain([]), "hosts": Hosts(), "environ": {}, "timing": QUICK, "clock": TestClock(),
    }  # fmt: skip
    return Client(**(given | options))  # type: ignore[arg-type]


# --- Debian's registry

CONFIG_YML = """
version: 0.1
storage:
  filesystem:
    rootdirectory: {root}/data
  delete:
    enabled: true
http:
  addr: 127.0.0.1:0
  secret: tests
{more}
log:
  level: info
"""


@contextmanager
def docker_registry(root: Path, more: str = "") -> Iterator[str]:
    """A running one; its HOST:PORT. `more` are lines of its configuration, below `http:`."""
    root.mkdir(exist_ok=True)
    config = root / "config.yml"
    config.write_text(CONFIG_YML.format(root=root, more=more))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
    )  # fmt: skip
    assert process.stderr is not None
    host, lines = "", []
    try:
        for line in process.stderr:
            lines.append(line)
            if "listening on " in line:
                host = line.partition("listening on ")[2].partition('"')[0].partition(",")[0].strip()
                break
        assert host, "".join(lines)
        drain = threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True)
        drain.start()
        yield host
    finally:
        process.terminate()
        process.wait()
        if host:
            drain.join()
        process.stderr.close()


def make_certificates(directory: Path) -> Path:
    """An authority of our own (ca.crt), a certificate of a server on loopback and one of a client."""

    def openssl(*argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=directory, check=True, capture_output=True, timeout=60)

    directory.mkdir(exist_ok=True)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=tests", "-days", "36500",
            "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    (directory / "server.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.test\n")
    (directory / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for name in ("server", "client"):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "36500", "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip
    return directory


def skopeo(*argv: str) -> str:
    """Without this user's credentials: those of an ordinary user may be where it may not look."""
    with tempfile.NamedTemporaryFile("w") as nothing:
        nothing.write("{}")
        nothing.flush()
        env = os.environ | {"REGISTRY_AUTH_FILE": nothing.name}
        done = subprocess.run(["skopeo", *argv], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- a server in this process


class Handler(BaseHTTPRequestHandler):
    """One whose answers the test's function writes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    answer: ClassVar[Callable[["Handler"], object]]

    def handle_any(self) -> None:
        type(self).answer(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_CONNECT = handle_any

    def log_message(self, *args: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *args: object) -> None:
        pass  # the client hung up


@contextmanager
def server(answer: Callable[[Handler], object]) -> Iterator[str]:
    """HOST:PORT of a server that answers so."""
    httpd = _Server(("127.0.0.1", 0), type("Made", (Handler,), {"answer": staticmethod(answer)}))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class FakeRegistry:
    """A registry in memory, as small as can be. `requests` are METHOD PATH lines; `seen` the Authorization of each."""

    def __init__(self, blobs: Blobs | None = None) -> None:
        self.blobs = blobs or Blobs()
        self.manifests: dict[str, Descriptor] = {}  # by tag
        self.types: dict[str, str] = {}
        self.requests: list[str] = []
        self.seen: list[str] = []

    def tag(self, tag: str, root: Descriptor) -> None:
        self.manifests[tag] = root
        self.types[root.digest] = root.media_type

    def answer(self, handler: Handler) -> None:
        self.requests.append(f"{handler.command} {handler.path}")
        self.seen.append(handler.headers.get("Authorization", ""))
        _, _, path = handler.path.partition("/v2/")
        if "/manifests/" in path:
            self._manifest(handler, path.rpartition("/")[2])
        elif "/blobs/" in path:
            self._blob(handler, path.rpartition("/")[2])
        else:
            handler.reply(200 if not path else 404)

    def _manifest(self, handler: Handler, target: str) -> None:
        root = self.manifests.get(target)
        if root is None and target in self.blobs.whole:
            data = self.blobs.whole[target]
            media_type = self.types.get(target) or json.loads(data)["mediaType"]
            root = Descriptor(media_type, target, len(data))
        if root is None:
            handler.reply(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')
            return
        data = self.blobs.whole[root.digest]
        handler.reply(200, data, Content_Type=root.media_type, Docker_Content_Digest=root.digest)

    def _blob(self, handler: Handler, digest: str) -> None:
        data = self.blobs.whole.get(digest)
        if data is None:
            handler.reply(404)
            return
        begin = int(handler.headers.get("Range", "bytes=0-")[6:].rstrip("-"))
        if begin:
            handler.reply(206, data[begin:], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            handler.reply(200, data)
