"""An image of one layer from a tar of a root file system: `kist import`."""

from __future__ import annotations

import os
import time

from kist.codec import dumps
from kist.spec.image import CONFIG, LAYER, MANIFEST, Descriptor, History, ImageConfig, Manifest, RootFs
from kist.store.add import needs_other_ids
from kist.store.blobs import BlobStore
from kist.store.compression import open_source
from kist.store.data import StoreErrors, new_temporary, write_all
from kist.store.documents import architecture
from kist.store.forms import best_form
from kist.store.layout import refuse_taken
from kist.store.names import chosen_name
from kist.store.prepared import Prepared
from kist.store.source import Prefixed, read_some, take
from kist.store.tar import Limits, TarReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.spec.image import ContainerConfig
    from kist.store.images import Image, ImageStore
    from kist.store.source import Source

# As they are these may be a layer's blob; others are kept uncompressed.
_MAGICS = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}


def import_tar(
    store: ImageStore,
    stream: Source,
    name: str,
    *,
    replace: bool = False,
    config: ContainerConfig | None = None,
    comment: str = "",
    limits: Limits | None = None,
) -> Image:
    """Make an image of the archive in `stream`, plain or compressed, and give it `name`: last, and at once.

    Whatever fails before that, also by SIGKILL, changes no name. Raises Conflict when the name is taken, unless
    `replace`; what TarReader and ImageStore.add raise.
    """
    name = chosen_name(name)
    with StoreErrors(f"cannot import {name}"), BlobStore(store.data_dir) as blobs:
        if not replace:
            refuse_taken(store.entries(), name)
        layer, diff_id = _put_layer(blobs, stream, limits or Limits())
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        machine, variant = architecture()
        history = History(created=created, created_by="kist import", comment=comment)
        document = ImageConfig(machine, "linux", RootFs("layers", (diff_id,)), created=created, variant=variant,
                               config=config, history=(history,))  # fmt: skip
        config_blob = blobs.put(dumps(document).encode(), CONFIG)
        manifest = Manifest(2, config_blob, (layer,), MANIFEST)
        return store.add(name, blobs.put(dumps(manifest).encode(), MANIFEST), replace=replace)


def _put_layer(blobs: BlobStore, stream: Source, limits: Limits) -> tuple[Descriptor, str]:
    """Keep the archive as a blob: its descriptor and DiffID. All of it has been read as an archive by then."""
    head = take(stream, 4)
    kind = next((suffix for magic, suffix in _MAGICS.items() if head.startswith(magic)), "")
    whole: Source = Prefixed(head, stream)
    if not kind:
        whole = open_source(whole)  # bzip2, xz, plain
    blobs.begin()
    making = new_temporary(blobs.data_dir)
    fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        copy = _Copied(whole, fd)
        if needs_other_ids():  # first see whether it is an archive; another process unpacks it
            with TarReader(copy, limits, algorithm="sha256") as reader:
                for _ in reader:
                    pass
                diff_id = reader.digest
        else:
            plain = "" if kind else making
            owners = os.geteuid() == 0
            diff_id = Prepared(blobs.data_dir, limits).take(copy, best_form(blobs.data_dir), owners, plain)
        return blobs.adopt(making, fd, LAYER + kind, copy.digest), diff_id
    finally:
        os.close(fd)
        if os.path.lexists(making):
            os.unlink(making)


class _Copied:
    """A source that is written to a file while it is read."""

    def __init__(self, source: Source, fd: int) -> None:
        from hashlib import sha256

        self._source = source
        self._fd = fd
        self._hash = sha256()

    def readinto(self, buffer: memoryview, /) -> int:
        count = read_some(self._source, buffer)
        self._hash.update(buffer[:count])
        with StoreErrors("cannot keep the archive"):  # else whoever reads takes it for an error of the source
            write_all(self._fd, buffer[:count])
        return count

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
