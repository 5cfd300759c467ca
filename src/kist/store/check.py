"""Is everything in the store what it says? `kist store check`, `kist store rebuild`.

What can be made again from what is whole is repaired: indexes, directories, records, the catalog. A blob that is
damaged goes, so that pulling or loading brings it again. Nothing is deleted that a container may be using.
"""

from __future__ import annotations

import os

from kist.codec import loads
from kist.errors import CorruptStore, InvalidInput, KistError, NotFound, Unsupported
from kist.spec.image import MANIFEST, MANIFESTS, Descriptor, check_digest
from kist.store import erofs, locks
from kist.store.add import prepare
from kist.store.blobs import BlobStore, new_hash
from kist.store.catalog import Catalog, remove_catalog
from kist.store.collect import discard
from kist.store.data import StoreErrors
from kist.store.documents import read_config, read_manifest
from kist.store.forms import EROFS
from kist.store.layout import Named, change_layout, read_layout
from kist.store.locks import Lock
from kist.store.prepared import Prepared, chain_ids
from kist.store.records import read_record
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kist.store.images import ImageStore
    from kist.store.records import Record

_READ_BYTES = 1 << 20
_DOCUMENT_MAX = 4 << 20


class Problem(Value):
    """`repaired`: what was done about it, "" for nothing."""

    what: str
    why: str = ""
    repaired: str = ""


def check(store: ImageStore, *, repair: bool = False) -> list[Problem]:
    """Read everything and compare it with its digests. Raises KistError when the disk fails."""
    if not os.path.isdir(f"{store.data_dir}/blobs"):
        return []
    with StoreErrors("cannot check the store"), BlobStore(store.data_dir) as blobs:
        blobs.begin()
        checker = _Checker(store, blobs, repair)
        checker.blobs()
        checker.images()
        return checker.found


class _Checker:
    def __init__(self, store: ImageStore, blobs: BlobStore, repair: bool) -> None:
        self._store = store
        self._data_dir = store.data_dir
        self._blobs = blobs
        self._repair = repair
        self._checked: set[str] = set()  # layers and chains
        self.found: list[Problem] = []

    def _add(self, what: str, why: str = "", repaired: str = "") -> None:
        self.found.append(Problem(what, why, repaired if self._repair else ""))

    def blobs(self) -> None:
        for algorithm in os.listdir(f"{self._data_dir}/blobs"):
            for name in os.listdir(f"{self._data_dir}/blobs/{algorithm}"):
                path = f"blobs/{algorithm}/{name}"
                try:
                    digest = check_digest(f"{algorithm}:{name}")
                except InvalidInput:
                    self._add(f"{path} is no blob", "its name is no digest", "removed")
                else:
                    found = _digest_of(f"{self._data_dir}/{path}", algorithm)
                    if found == digest:
                        continue
                    self._add(
                        f"the blob {digest} is damaged", f"it is {found}", "removed: pull or load the image again"
                    )
                if self._repair:
                    discard(self._data_dir, path)

    def images(self) -> None:
        try:
            entries = read_layout(self._data_dir)
        except CorruptStore as e:
            self._add("index.json is damaged", e.why, "made anew from what is there")
            if not self._repair:
                return
            rebuild(self._store)
            entries = read_layout(self._data_dir)
        for manifest, root in {entry.manifest: entry.root for entry in entries}.items():
            name = next((e.name for e in entries if e.manifest == manifest and e.name), manifest)
            self._image(name, manifest, root)
        if entries:
            with Catalog(self._data_dir) as catalog:
                catalog.images()

    def _image(self, name: str, manifest: str, root: Descriptor) -> None:
        """The record says what the image needs; without a record its blobs do."""
        try:
            record = read_record(self._data_dir, manifest)
        except (CorruptStore, NotFound) as e:
            self._again(root, f"the record of {name} is not whole", e.what)
            return
        try:
            document = read_manifest(self._blobs, record.manifest)
            read_config(self._blobs, document)
        except KistError as e:
            self._add(f"{name} cannot be saved or pushed", e.what)
        for layer in record.layers:
            if not self._blobs.has(Descriptor(layer.media_type, layer.digest, layer.size)):
                self._add(f"{name} cannot be saved or pushed", f"its layer {layer.digest} is not there")
        for path, why in self._damaged_parts(record):
            if self._repair:
                discard(self._data_dir, path)
            self._again(record.manifest, f"{name}: {path} is damaged", why)

    def _again(self, root: Descriptor, what: str, why: str) -> None:
        if not self._repair:
            self._add(what, why)
            return
        try:
            _, use = prepare(self._data_dir, root, None)
            use.close()
        except KistError as e:
            self._add(f"{what}, and cannot be made again", e.what)
        else:
            self._add(what, why, "made again")

    def _damaged_parts(self, record: Record) -> Iterator[tuple[str, str]]:
        """(path below the data directory, why) of layers and chains; each once."""
        prepared = Prepared(self._data_dir)
        diff_ids = [layer.diff_id for layer in record.layers]
        whole = True
        if record.erofs:
            for diff_id in dict.fromkeys(diff_ids):
                path = prepared.layer_path(diff_id)
                if path not in self._checked and (why := _layer_damage(path, diff_id)):
                    whole = False
                    yield self._below(path), why
                self._checked.add(path)
            path = prepared.index_path(diff_ids)
            try:
                if whole and path not in self._checked and (why := _index_damage(prepared, diff_ids)):
                    yield self._below(os.path.dirname(path)), why
            except CorruptStore as e:
                for diff_id in dict.fromkeys(diff_ids):
                    yield self._below(prepared.layer_path(diff_id)), e.what
            self._checked.add(path)
        for path in record.roots or ():
            if path not in self._checked and not os.path.isdir(f"{self._data_dir}/{path}"):
                yield os.path.dirname(path), "its directory is not there"
            self._checked.add(path)

    def _below(self, path: str) -> str:
        return path[len(self._data_dir) + 1 :]


def _digest_of(path: str, algorithm: str) -> str:
    found = new_hash(f"{algorithm}:")
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            found.update(data)
    return f"{algorithm}:{found.hexdigest()}"


def _layer_damage(path: str, diff_id: str) -> str:
    try:
        found = _digest_of(f"{path}/tar", diff_id.partition(":")[0])
    except FileNotFoundError:
        return "its archive is not there"
    return "" if found == diff_id else f"its archive is {found}"


def _index_damage(prepared: Prepared, diff_ids: Sequence[str]) -> str:
    """The index follows from the layers, byte for byte. Raises CorruptStore when the layers' books are damaged."""
    import io

    try:
        with open(prepared.index_path(diff_ids), "rb") as file:
            found = file.read()
    except FileNotFoundError:
        return "it is not there"
    wanted = io.BytesIO()
    uuid = bytes.fromhex(chain_ids(diff_ids)[-1].partition(":")[2])[:16]
    erofs.write(prepared.view(diff_ids, EROFS), prepared.erofs_devices(diff_ids), uuid, wanted)
    return "" if wanted.getvalue() == found else "it is not what follows from its layers"


def rebuild(store: ImageStore) -> list[str]:
    """Make index.json anew: every image that is whole among the blobs, with the names that are still known from
    index.json and the catalog. The catalog is made anew too. The names that were found again, or kept.

    Raises KistError when the disk fails.
    """
    data_dir = store.data_dir
    if not os.path.isdir(f"{data_dir}/blobs"):
        return []
    with StoreErrors("cannot rebuild the store"), BlobStore(data_dir) as blobs:
        blobs.begin()
        known = _known_names(data_dir)
        entries: list[Named] = []
        for descriptor in _manifests(blobs):
            try:
                manifest, use = prepare(data_dir, descriptor, None)
                use.close()
            except (InvalidInput, NotFound, CorruptStore, Unsupported):
                continue  # not whole, or no image for a container
            names = [name for name, digest in known.items() if digest == manifest]
            entries += [Named(name, descriptor, manifest) for name in names or [""]]
        with Lock(data_dir, locks.NAMES):
            remove_catalog(data_dir)
            try:
                os.rename(f"{data_dir}/index.json", f"{data_dir}/tmp/index.json.{os.urandom(4).hex()}")
            except FileNotFoundError:
                pass
        change_layout(data_dir, lambda before: [*before, *(e for e in entries if e not in before)])
        return sorted(entry.name for entry in entries if entry.name)


def _known_names(data_dir: str) -> dict[str, str]:
    """Name -> manifest. What index.json says comes before what the catalog remembers."""
    import sqlite3

    from kist.store.catalog import last_known_names

    try:
        names = last_known_names(data_dir)
    except sqlite3.Error:
        names = {}
    try:
        entries = read_layout(data_dir)
    except CorruptStore:
        return names
    known = {entry.name: entry.manifest for entry in entries if entry.name}
    return {**{name: manifest for name, manifest in names.items() if manifest not in known.values()}, **known}


def _manifests(blobs: BlobStore) -> Iterator[Descriptor]:
    """Blobs that may be the manifest of an image. Indexes are left out: which of them an image came with is lost."""
    for algorithm in os.listdir(f"{blobs.data_dir}/blobs"):
        for name in os.listdir(f"{blobs.data_dir}/blobs/{algorithm}"):
            path = f"{blobs.data_dir}/blobs/{algorithm}/{name}"
            size = os.stat(path).st_size
            if size > _DOCUMENT_MAX:
                continue
            with open(path, "rb") as file:
                data = file.read(_DOCUMENT_MAX)
            if not data.lstrip().startswith(b"{") or b'"config"' not in data:
                continue
            try:
                document = loads(data, name)
                media_type = document.get("mediaType", MANIFEST) if isinstance(document, dict) else ""
                check_digest(f"{algorithm}:{name}")
            except InvalidInput:
                continue
            if media_type in MANIFESTS:
                yield Descriptor(str(media_type), f"{algorithm}:{name}", size)
