"""An image of so many files that their names alone fill the memory: whatever its shape, taking it in needs less than
200 MB, and what would need more is refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from containers import ROOT
from images import measured

pytestmark = pytest.mark.skipif(not ROOT, reason="as directories it takes minutes")

_BYTES_MAX = 200_000_000
_FIRST = 1_000_000  # so that all names are as long


def entries(count: int, beside: int, kind: bytes, padding: int) -> Iterator[bytes]:
    """Empty files or directories, so many beside each other; each name has a number and some padding."""
    for at in range(0, count, beside):
        head = b"%d/" % (_FIRST + at)
        info = tarfile.TarInfo(f"{_FIRST + at}/0000000{'n' * padding}")
        info.type = kind
        template = info.tobuf()
        start, end = len(head), len(head) + 7
        rest = int(template[148:154], 8) - 7 * ord("0")
        for number in range(_FIRST + at, _FIRST + min(at + beside, count)):
            digits = b"%d" % number
            yield b"".join(
                (template[:start], digits, template[end:148], b"%06o" % (rest + sum(digits)), template[154:])
            )


def saved(path: Path, content: Iterator[bytes]) -> Path:
    """An archive as `docker save` writes it, of one compressed layer."""
    digest, packed = sha256(), io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as layer:
        for block in content:
            digest.update(block)
            layer.write(block)
        digest.update(bytes(1024))
        layer.write(bytes(1024))
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]}}  # fmt: skip
    manifest = [{"Config": "c.json", "RepoTags": ["localhost/many:1"], "Layers": ["l.tar.gz"]}]
    members = {"l.tar.gz": packed.getvalue(), "c.json": json.dumps(config).encode(),
               "manifest.json": json.dumps(manifest).encode()}  # fmt: skip
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("count", "beside", "kind", "padding", "fits"),
    [
        (600_000, 100, b"0", 0, True),
        (250_000, 250_000, b"0", 0, True),
        (150_000, 1000, b"5", 0, True),
        (800_000, 100, b"0", 0, False),
        (500_000, 100, b"0", 80, False),
    ],
)
def test_many_files(tmp_path: Path, count: int, beside: int, kind: bytes, padding: int, *, fits: bool) -> None:
    archive = saved(tmp_path / "many.tar", entries(count, beside, kind, padding))
    done, peak_bytes = measured("load", "-q", "-i", str(archive))
    assert done.returncode == (0 if fits else 125), done.stderr
    assert fits or "[tar-limit]" in done.stderr
    assert peak_bytes < _BYTES_MAX
