"""An image that a container is asked for and that is not here: from where it can be had.

The faces call this, not prepare.py: before a container has a directory and locks, and where progress can be shown.
"""

from __future__ import annotations

import logging

from kist.engine.pull import pull_image
from kist.errors import NotFound, RegistryError, Unauthorized
from kist.registry.client import Client
from kist.registry.content import no_progress
from kist.spec.manifests import parse_platform
from kist.spec.reference import parse_reference
from kist.store.images import ImageStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.registry.content import Progress
    from kist.store.images import Progress as Preparing


def obtain(
    image: str,
    missing: NotFound | None,
    progress: Progress = no_progress,
    preparing: Preparing | None = None,
    platform: str = "",
) -> None:
    """Pull the image, for this machine or another. `missing` is the store's error when it is not here.

    busybox is made of this machine's own when no registry answers; a warning says so. Raises as pull_image; when it is
    missing and the registry does not give it, NotFound with both reasons.
    """
    store, reference = ImageStore(), parse_reference(image)
    try:
        with Client() as client:
            wanted = parse_platform(platform) if platform else None
            pull_image(store, client, reference, wanted, progress, preparing)
    except (RegistryError, NotFound) as e:
        if missing is None:
            raise
        if isinstance(e, RegistryError) and not isinstance(e, Unauthorized) and _make(store, reference.familiar):
            return
        next_ = missing.next if missing.next.startswith("did you mean") else e.next
        why = f"{missing.why or 'it is not here'}; {e.what}: {e.why}".removesuffix(": ")
        raise NotFound(missing.what, why=why, next=next_, code=e.code) from e


def _make(store: ImageStore, name: str) -> bool:
    from kist.store.busybox import NAME, make_busybox

    if name != NAME:
        return False
    try:
        _, program = make_busybox(store)
    except NotFound:  # no static busybox here either: what the registry says counts
        return False
    logging.getLogger(__name__).warning("kist: no registry answers; busybox is made of this machine's %s", program)
    return True
