"""From an image in the store to a registry."""

from __future__ import annotations

from kist.errors import NotFound
from kist.registry.content import no_progress
from kist.spec.image import INDEXES, Descriptor, Index
from kist.spec.manifests import MANIFEST_BYTES_MAX, parse_manifest
from kist.spec.reference import parse_reference
from kist.store.blobs import BlobStore
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.registry.client import Client
    from kist.registry.content import Progress
    from kist.spec.reference import Reference
    from kist.store.images import ImageStore

_MOUNTS_MAX = 5  # a request each for a blob that none of them has


def push_image(
    store: ImageStore, client: Client, reference: Reference, progress: Progress = no_progress
) -> tuple[Descriptor, bool]:
    """Push the image of that name. What was pushed, and whether that is all of what was pulled: of an index whose other
    platforms are not here, only this one's manifest is. Raises NotFound (no-image), and as Client.push.
    """
    image = store.get(reference.familiar)
    with BlobStore(store.data_dir) as blobs:
        root, whole = store.root(reference.familiar), True
        if root.media_type in INDEXES:
            parsed = parse_manifest(root.media_type, blobs.read(root, MANIFEST_BYTES_MAX))
            if isinstance(parsed, Index) and not all(map(blobs.has, parsed.manifests)):
                found = [entry for entry in parsed.manifests if entry.digest == image.manifest]
                if not found:
                    raise NotFound(f"cannot push {reference.familiar}: its manifest is not here", code="no-blob")
                root, whole = replace(found[0], platform=None, annotations={}), False
        layers = {layer.digest for layer in image.layers}
        client.push(reference, blobs, root, progress, _mounts(store, reference, layers))
    return root, whole


def _mounts(store: ImageStore, reference: Reference, layers: set[str]) -> list[str]:
    """Repositories of the same registry with some of the layers, as far as the names here tell."""
    found: dict[str, None] = {}
    for image in store.list():
        if layers.isdisjoint(layer.digest for layer in image.layers):
            continue
        for name in map(parse_reference, image.names):
            if name.domain == reference.domain and name.path != reference.path:
                found[name.path] = None
    return list(found)[:_MOUNTS_MAX]
