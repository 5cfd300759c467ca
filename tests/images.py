"""Images made by hand: archives, and the documents that make images of them."""

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from kist.codec import dumps
from kist.spec.image import (
    CONFIG,
    LAYER,
    MANIFEST,
    ContainerConfig,
    Descriptor,
    ImageConfig,
    Manifest,
    RootFs,
)
from kist.store.blobs import BlobStore

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)


def tar_of(*members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo, format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of these members, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, data: bytes | None = None, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A file with that content; without, what `type` says: a directory when there is none."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
    info.mode = 0o644 if data is not None else 0o755
    info.uid, info.gid = (os.geteuid(), os.getegid()) if os.geteuid() else (0, 0)
    info.mtime = 1_700_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data or b""


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, None, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, None, type=tarfile.LNKTYPE, linkname=target)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def put_image(
    blobs: BlobStore,
    layers: Iterable[bytes],
    *,
    compress: Callable[[bytes], bytes] | None = lambda data: gzip.compress(data, 1, mtime=0),
    suffix: str = "+gzip",
    config: ContainerConfig | None = None,
    diff_ids: tuple[str, ...] | None = None,
    architecture: str = ARCHITECTURE,
    created: str = "2024-01-02T03:04:05Z",
) -> Descriptor:
    """Put an image's blobs into the store; the manifest's descriptor. `layers` are archives, the lowest first."""
    archives = list(layers)
    descriptors = []
    for archive in archives:
        data = compress(archive) if compress else archive
        descriptors.append(blobs.put(data, LAYER + (suffix if compress else "")))
    ids = diff_ids if diff_ids is not None else tuple(map(digest_of, archives))
    document = ImageConfig(architecture, "linux", RootFs("layers", ids), created=created, config=config)
    config_blob = blobs.put(dumps(document).encode(), CONFIG)
    manifest = Manifest(2, config_blob, tuple(descriptors), MANIFEST)
    return blobs.put(dumps(manifest).encode(), MANIFEST)


def busybox_layer() -> bytes | None:
    """A root file system of one static program; None where there is none."""
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if Path(path).exists():
            break
    else:
        return None
    names = subprocess.run([path, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return tar_of(
        member("bin"),
        member("bin/busybox", Path(path).read_bytes(), mode=0o755),
        *(symlink(f"bin/{name}", "busybox") for name in names if name != "busybox"),
        member("etc"),
        member("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n"),
        member("etc/group", b"root:x:0:\nweb:x:34:\nextra:x:77:web\n"),
        member("tmp", mode=0o1777),
        member("root", mode=0o700),
    )


# VmHWM and not what wait4 says, which counts the tests' own memory from before exec.
_MEASURED = """
import sys
from kist.faces.cli.__main__ import run
status = run(sys.argv[1:])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(status)
"""


def measured(*argv: str, timeout: float | None = None) -> tuple[subprocess.CompletedProcess[str], int]:
    """What kist's command line said, in a process of its own, and how many bytes of memory that had at most."""
    argv = (sys.executable, "-c", _MEASURED, *argv)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout)
    return done, int(done.stdout.split()[-1]) << 10
