"""Reading an image's documents from the blob store: what they are follows from their media type alone.

Sources: OCI manifest.md, image-index.md, config.md; CVE-2021-41190.
"""

from __future__ import annotations

import os

from kist.codec import decode, loads
from kist.errors import InvalidInput, NotFound, Unsupported
from kist.spec.image import (
    CONFIG,
    DOCKER_CONFIG,
    DOCKER_LAYER,
    INDEXES,
    LAYER,
    MANIFESTS,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    check_digest,
)
from kist.spec.manifests import MANIFEST_BYTES_MAX, choose_platform, parse_manifest, parse_platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.store.blobs import BlobStore

_CONFIG_BYTES_MAX = 8 << 20
_LAYERS_MAX = 500
_COMPRESSIONS = ("", "+gzip", "+zstd")
_LAYER_TYPES = frozenset(
    [LAYER + word for word in _COMPRESSIONS]
    + [LAYER.replace(".layer.", ".layer.nondistributable.") + word for word in _COMPRESSIONS]
    + [DOCKER_LAYER + word for word in ("", ".gzip", ".zstd")]
    + [DOCKER_LAYER.replace(".diff.", ".foreign.diff.") + word for word in ("", ".gzip")]
)
# uname -m -> (architecture, variant) as Go names them
_MACHINES = {
    "x86_64": ("amd64", ""), "aarch64": ("arm64", "v8"), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"),
    "i686": ("386", ""), "ppc64le": ("ppc64le", ""), "s390x": ("s390x", ""), "riscv64": ("riscv64", ""),
}  # fmt: skip


def architecture() -> tuple[str, str]:
    """(architecture, variant) of this machine, as Go names them."""
    machine = os.uname().machine
    return _MACHINES.get(machine, (machine, ""))


def read_manifest(blobs: BlobStore, descriptor: Descriptor) -> Manifest:
    """The manifest of an image for one platform. Raises InvalidInput, NotFound (no-blob), CorruptStore, Unsupported."""
    if descriptor.media_type not in MANIFESTS:
        raise Unsupported(
            f"{descriptor.digest} is no image", why=f"its type is {descriptor.media_type[:200]!r}", code="not-an-image"
        )
    manifest = parse_manifest(descriptor.media_type, blobs.read(descriptor, MANIFEST_BYTES_MAX))
    assert isinstance(manifest, Manifest)
    if len(manifest.layers) > _LAYERS_MAX:
        raise InvalidInput(f"the image has more than {_LAYERS_MAX} layers", code="bad-image")
    if manifest.config.media_type not in (CONFIG, DOCKER_CONFIG):
        why = f"its configuration is of the type {manifest.config.media_type[:200]!r}"
        raise Unsupported(f"{descriptor.digest} is no container image", why=why, code="not-an-image")
    for i, layer in enumerate(manifest.layers):
        if layer.media_type not in _LAYER_TYPES:
            why = f"layer {i} is of the type {layer.media_type[:200]!r}"
            raise Unsupported(f"{descriptor.digest} is no container image", why=why, code="not-an-image")
    return manifest


def read_config(blobs: BlobStore, manifest: Manifest) -> ImageConfig:
    """Raises as read_manifest does."""
    data = blobs.read(manifest.config, _CONFIG_BYTES_MAX)
    config = decode(ImageConfig, loads(data, "the image's configuration"))
    if config.rootfs.type != "layers" or len(config.rootfs.diff_ids) != len(manifest.layers):
        raise InvalidInput(
            "the image's configuration does not fit its manifest",
            why=f"it has {len(config.rootfs.diff_ids)} DiffIDs for {len(manifest.layers)} layers",
            code="bad-image",
        )
    for i, diff_id in enumerate(config.rootfs.diff_ids):
        check_digest(diff_id, f"$.rootfs.diff_ids[{i}]")
    return config


def choose_manifest(blobs: BlobStore, descriptor: Descriptor) -> Descriptor:
    """`descriptor` itself, or of an index the manifest for this machine. Raises NotFound when that is not here."""
    if descriptor.media_type not in INDEXES:
        return descriptor
    index = parse_manifest(descriptor.media_type, blobs.read(descriptor, MANIFEST_BYTES_MAX))
    assert isinstance(index, Index)
    here = [entry for entry in index.manifests if entry.media_type in MANIFESTS and blobs.has(entry)]
    try:
        return choose_platform(here, parse_platform("/".join(filter(None, ("linux", *architecture())))))
    except NotFound as e:
        raise NotFound(f"{descriptor.digest}: {e.what} here", why=e.why, code="no-blob") from e
