"""From a registry to an image in the store: blobs, the image ready to be mounted, its name last."""

from __future__ import annotations

from kist.errors import NotFound
from kist.registry.client import host_platform
from kist.registry.content import no_progress
from kist.store.blobs import BlobStore
from kist.store.incoming import Incoming, PreparingSink
from kist.store.names import name_of
from kist.store.prepared import Prepared
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.registry.client import Client
    from kist.registry.content import Progress
    from kist.spec.image import Platform
    from kist.spec.reference import Reference
    from kist.store.images import Image, ImageStore
    from kist.store.images import Progress as Preparing


class PulledImage(Value):
    """`new`: the name stands for something else than before."""

    image: Image
    digest: str
    new: bool


def pull_image(
    store: ImageStore,
    client: Client,
    reference: Reference,
    platform: Platform | None = None,
    progress: Progress = no_progress,
    preparing: Preparing | None = None,
) -> PulledImage:
    """Pull, and name the image as Docker would: by its tag, or by NAME@DIGEST.

    Killed at any moment it leaves no half image: what was fetched stays for the next try. Raises as Client.pull and
    ImageStore.add.
    """
    name = name_of(reference.familiar)
    before = _root(store, name)
    with BlobStore(store.data_dir) as blobs:  # until the image has its name, nothing of it is collected
        blobs.begin()
        prepared = Prepared(store.data_dir)
        with Incoming(prepared) as incoming:
            pulled = client.pull(reference, PreparingSink(blobs, incoming), platform, progress)
            incoming.finish()
            # Of an index the store takes the manifest for this machine; for another machine we say which one.
            foreign = platform is not None and platform != host_platform()
            image = store.add(name, pulled.manifest if foreign else pulled.root, preparing, prepared=prepared)
    return PulledImage(image, pulled.root.digest, before != (pulled.manifest if foreign else pulled.root).digest)


def _root(store: ImageStore, name: str) -> str:
    try:
        return store.root(name).digest
    except NotFound:
        return ""
