"""An image without a registry: this machine's static busybox, with what programs expect around it."""

from __future__ import annotations

import io
import os
import tarfile
from struct import unpack_from

from kist.errors import NotFound
from kist.kernel.programs import run_program
from kist.spec.image import ContainerConfig
from kist.store.importing import import_tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.store.images import Image, ImageStore

NAME = "busybox:latest"
_PLACES = ("/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static", "/usr/bin/busybox.static", "/sbin/busybox")
_SIZE_MAX = 16 << 20
_PT_INTERP = 3  # elf(5)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FILES = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}
_DIRECTORIES = {"bin": 0o755, "etc": 0o755, "home": 0o755, "root": 0o700, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755,
                "var": 0o755, "var/tmp": 0o1777}  # fmt: skip


def make_busybox(store: ImageStore) -> tuple[Image, str]:
    """The image, named busybox:latest, and the program that it is made of. Raises NotFound when there is none."""
    program = _find()
    if not program:
        raise NotFound(
            "there is no static busybox on this machine to make an image of", next="apt-get install busybox-static"
        )
    archive = _archive(program)
    config = ContainerConfig(cmd=("sh",), env=(f"PATH={_PATH}",))
    image = import_tar(store, archive, NAME, replace=True, config=config, comment=f"made of this machine's {program}")
    return image, program


def _find() -> str:
    return next((path for path in _PLACES if _is_static(path)), "")


def _is_static(path: str) -> bool:
    """An ELF program that asks for no interpreter. Source: elf(5)."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF" or len(head) < 64 or os.fstat(file.fileno()).st_size > _SIZE_MAX:
                return False
            wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
            (start,) = unpack_from(f"{order}Q", head, 32) if wide else unpack_from(f"{order}I", head, 28)
            size, count = unpack_from(f"{order}HH", head, 54 if wide else 42)
            file.seek(start)
            table = file.read(size * count)
            return all(unpack_from(f"{order}I", table, i * size)[0] != _PT_INTERP for i in range(len(table) // size))
    except (OSError, ZeroDivisionError):
        return False


def _archive(program: str) -> io.BytesIO:
    names = run_program([program, "--list"], timeout_s=30).split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, mode in _DIRECTORIES.items():
            tar.addfile(_member(name, tarfile.DIRTYPE, mode))
        with open(program, "rb") as file:
            tar.addfile(_member("bin/busybox", tarfile.REGTYPE, 0o755, os.fstat(file.fileno()).st_size), file)
        for name in names:
            if "/" not in name and name != "busybox":
                tar.addfile(_member(f"bin/{name}", tarfile.SYMTYPE, 0o777, link="busybox"))
        tar.addfile(_member("usr/bin/env", tarfile.SYMTYPE, 0o777, link="../../bin/env"))
        for name, content in _FILES.items():
            tar.addfile(_member(name, tarfile.REGTYPE, 0o644, len(content)), io.BytesIO(content))
    out.seek(0)
    return out


def _member(name: str, type: bytes, mode: int, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = type, mode, size, link
    return info
