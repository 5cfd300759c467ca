"""images/ALGORITHM-HEX/: what is known about an image, by its manifest's digest; read by every start of a container.

record.json     see Record
passwd, group   those of the image, when it has them: see prepared.SMALL
"""

from __future__ import annotations

import os

from kist.codec import decode_text, dumps
from kist.errors import CorruptStore, InvalidInput, NotFound
from kist.spec.image import Descriptor, ImageConfig
from kist.store.data import is_whole, new_temporary, sync_directory, write_new, write_whole
from kist.store.summary import Skipped
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Layer(Value):
    """`digest` and `size` are of the blob; `diff_id` and `tar_bytes` of the uncompressed archive."""

    media_type: str
    digest: str
    size: int
    diff_id: str
    tar_bytes: int = 0
    file_bytes: int = 0  # of all files, holes included
    entries: int = 0


class Erofs(Value):
    """Files below the data directory: an EROFS image and its devices, in their order."""

    index: str
    devices: tuple[str, ...]


class Record(Value):
    """Ready to be mounted in one form, or both. `roots`: directories below the data directory, the lowest first."""

    manifest: Descriptor
    config_blob: Descriptor
    config: ImageConfig
    layers: tuple[Layer, ...]
    erofs: Erofs | None = None
    roots: tuple[str, ...] | None = None
    skipped: tuple[Skipped, ...] = ()

    @property
    def id(self) -> str:
        return self.config_blob.digest


def record_path(data_dir: str, manifest: str) -> str:
    return f"{data_dir}/images/{manifest.replace(':', '-')}"


def read_record(data_dir: str, manifest: str) -> Record:
    """Raises NotFound when there is none; CorruptStore, OSError."""
    path = f"{record_path(data_dir, manifest)}/record.json"
    try:
        with open(path, "rb", buffering=0) as file:
            return decode_text(Record, file.read(), path)
    except FileNotFoundError as e:
        raise NotFound(f"no record of the image {manifest}") from e
    except InvalidInput as e:
        raise CorruptStore(f"the record of the image {manifest} is damaged", why=str(e),
                           next="kist store check --repair") from e  # fmt: skip


def write_record(data_dir: str, record: Record, small: Mapping[str, bytes]) -> None:
    """Make it or replace it, durably. Raises OSError."""
    path = record_path(data_dir, record.manifest.digest)
    data = dumps(record).encode()
    making = new_temporary(data_dir)
    os.mkdir(making, 0o700)
    for name, content in (("record.json", data), *small.items()):
        write_new(f"{making}/{name}", content)
    sync_directory(making)
    try:
        os.rename(making, path)
    except OSError:
        if not os.path.exists(path):
            raise
        # There is one: another add of the same image, or one for the other form. The small files follow from the image.
        for name in os.listdir(making):
            os.unlink(f"{making}/{name}")
        os.rmdir(making)
        write_whole(data_dir, path[len(data_dir) + 1 :] + "/record.json", data)
    sync_directory(f"{data_dir}/images")


def read_small(data_dir: str, manifest: str, name: str) -> str:
    """A small file of the image, "" if it has none. Raises OSError."""
    try:
        with open(f"{record_path(data_dir, manifest)}/{name}", "rb", buffering=0) as file:
            return file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def ready(data_dir: str, record: Record, form: str) -> bool:
    """Whether all that this form needs is there."""
    if form == "erofs":
        erofs = record.erofs
        return erofs is not None and all(is_whole(f"{data_dir}/{path}") for path in (erofs.index, *erofs.devices))
    return record.roots is not None and all(is_whole(f"{data_dir}/{path}") for path in record.roots)
