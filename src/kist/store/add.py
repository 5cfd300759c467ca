"""From an image's blobs to a record: everything checked, everything ready to be mounted, nothing named yet."""

from __future__ import annotations

import os

from kist.errors import CorruptStore, NotFound, Unsupported
from kist.store.blobs import BlobStore
from kist.store.documents import choose_manifest, read_config, read_manifest
from kist.store.forms import EROFS, best_form
from kist.store.layers import Notes
from kist.store.prepared import LayerBlob, Prepared
from kist.store.records import Erofs, Layer, Record, read_record, ready, write_record
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.spec.image import Descriptor, ImageConfig, Manifest
    from kist.store.prepared import Ready
    from kist.store.tar import Limits

    Progress = Callable[[str, int, int], object]


def prepare(
    data_dir: str, descriptor: Descriptor, progress: Progress | None, limits: Limits | None = None,
    prepared: Prepared | None = None,
) -> tuple[str, BlobStore]:  # fmt: skip
    """The digest of the image's manifest, whose record is there now; and what keeps it until it has a name: close it.

    Raises InvalidInput (bad-image, digest-mismatch, tar-...), NotFound (no-blob), Unsupported (not-an-image), OSError.
    """
    blobs = BlobStore(data_dir)
    try:
        blobs.has(descriptor)  # from here on nothing is collected
        chosen = choose_manifest(blobs, descriptor)
        before = _record(data_dir, chosen.digest)
        if before is None or not ready(data_dir, before, best_form(data_dir)):
            _Preparation(blobs, chosen, progress, limits, prepared).make(before)
        return chosen.digest, blobs
    except BaseException:
        blobs.close()
        raise


def needs_other_ids() -> bool:
    """Whether files are to get owners that only a process in a user namespace can give them."""
    if os.geteuid() == 0:
        return False
    from kist.kernel.probe import probe
    from kist.kernel.userns import has_other_ids

    return has_other_ids(probe())


def _record(data_dir: str, manifest: str) -> Record | None:
    try:
        return read_record(data_dir, manifest)
    except (NotFound, CorruptStore):
        return None


class _Preparation:
    def __init__(
        self, blobs: BlobStore, chosen: Descriptor, progress: Progress | None, limits: Limits | None,
        prepared: Prepared | None,
    ) -> None:  # fmt: skip
        self._blobs = blobs
        self._data_dir = blobs.data_dir
        self._chosen = chosen
        self._progress = progress or (lambda *_: None)
        self._limits = limits
        self._prepared = prepared or Prepared(self._data_dir, limits)
        self._manifest: Manifest = read_manifest(blobs, chosen)
        self._config: ImageConfig = read_config(blobs, self._manifest)
        self._layers = [
            LayerBlob(blobs.path(layer.digest), layer.digest, layer.size, diff_id)
            for layer, diff_id in zip(self._manifest.layers, self._config.rootfs.diff_ids, strict=True)
        ]
        for layer in self._manifest.layers:
            if not blobs.has(layer):
                raise NotFound(
                    f"the layer {layer.digest} is not in the store", next="pull or load the image again", code="no-blob"
                )

    def make(self, before: Record | None) -> None:
        """Prepare the layers and write the record, which keeps what was there before in the other form."""
        diff_ids = self._config.rootfs.diff_ids
        erofs = before.erofs if before else None
        roots = before.roots if before else None
        form, made = best_form(self._data_dir), None
        if form == EROFS:
            try:
                made = self._prepared.prepare_index(self._layers, self._progress)
                devices = self._prepared.devices(diff_ids)
                erofs = Erofs(self._below(self._prepared.index_path(diff_ids)), tuple(map(self._below, devices)))
            except Unsupported as e:
                if e.code != "too-large":
                    raise
        if made is None:
            made = self._roots()
            roots = tuple(map(self._below, self._prepared.roots(diff_ids)))
        self._write(made, erofs, roots)

    def _roots(self) -> Ready:
        if needs_other_ids():
            from kist.store.rootless import prepare_roots

            return prepare_roots(self._data_dir, self._layers, self._limits, self._progress)
        return self._prepared.prepare_roots(self._layers, os.geteuid() == 0, self._progress)

    def _below(self, path: str) -> str:
        return path[len(self._data_dir) + 1 :]

    def _write(self, made: Ready, erofs: Erofs | None, roots: tuple[str, ...] | None) -> None:
        layers = tuple(
            Layer(layer.media_type, layer.digest, layer.size, blob.diff_id,
                  summary.archive_bytes, summary.file_bytes, summary.entries)
            for layer, blob, summary in zip(self._manifest.layers, self._layers, made.summaries, strict=True)
        )  # fmt: skip
        manifest = replace(self._chosen, annotations={}, data="", platform=None)
        notes = Notes()
        for skipped in (*(summary.skipped for summary in made.summaries), made.skipped):
            notes.add(skipped)
        record = Record(manifest, self._manifest.config, self._config, layers, erofs, roots, notes.all())
        write_record(self._data_dir, record, made.small)
