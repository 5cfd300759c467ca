"""`kist commit`: a new layer of what a container has changed, on the image it came from."""

from __future__ import annotations

import os
import time

from kist.codec import dumps
from kist.engine.changes import OWN
from kist.engine.inside import Task
from kist.engine.view import at_home
from kist.errors import Unsupported
from kist.plan.instructions import apply_change
from kist.spec.image import (
    CONFIG,
    DOCKER_LAYER,
    LAYER,
    MANIFEST,
    ContainerConfig,
    Descriptor,
    Empty,
    History,
    ImageConfig,
    Manifest,
    RootFs,
)
from kist.store.blobs import BlobStore
from kist.store.data import StoreErrors, new_temporary
from kist.store.images import ImageStore
from kist.store.records import read_record
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kist.engine.containers import Container, Containers
    from kist.plan.request import RunRequest
    from kist.store.images import Image
    from kist.store.records import Record


def commit(
    containers: Containers, container: Container, name: str | None, *, message: str = "", author: str = "",
    changes: Sequence[str] = (), pause: bool = True,
) -> Image:  # fmt: skip
    """The image, under `name` if there is one. With `pause`, one that runs stands still meanwhile.

    Raises Unsupported for one that came from no image; InvalidInput for a change that is none; KistError (disk-full).
    """
    manifest = container.config.image
    if not manifest:
        raise Unsupported(f"{container.name} came from no image", why="there is nothing to put a layer on",
                          next=f"kist export {container.name} | kist import - NAME", code="no-base")  # fmt: skip
    store = ImageStore(containers.data_dir)
    with StoreErrors(f"cannot commit {container.name}"), store.lease(manifest), BlobStore(store.data_dir) as blobs:
        record = read_record(store.data_dir, manifest)
        config = _config(record.config.config or ContainerConfig(), container.config.request)
        for text in changes:
            config = apply_change(config, "--change", text)
        layer = _layer(blobs, container, pause=pause)
        config_blob = blobs.put(dumps(_document(record, config, layer, container, message, author)).encode(), CONFIG)
        below = tuple([Descriptor(_oci(old.media_type), old.digest, old.size) for old in record.layers])
        made = Manifest(2, config_blob, (*below, layer) if layer else below, MANIFEST)
        return store.add(name, blobs.put(dumps(made).encode(), MANIFEST))


def _document(
    record: Record, config: ContainerConfig, layer: Descriptor | None, container: Container, message: str, author: str
) -> ImageConfig:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    request = container.config.request
    words = " ".join([*(request.entrypoint or ()), *request.command])
    history = History(created=created, created_by=words, author=author, comment=message, empty_layer=layer is None)
    diff_ids = (*(old.diff_id for old in record.layers), *((layer.digest,) if layer else ()))
    return replace(
        record.config, created=created, author=author or record.config.author, config=config,
        rootfs=RootFs("layers", diff_ids), history=(*record.config.history, history),
    )  # fmt: skip


def _layer(blobs: BlobStore, container: Container, *, pause: bool) -> Descriptor | None:
    """Its upper directory as a blob, uncompressed: then its digest is its DiffID. None when it was never started."""
    upper = f"{container.path}/rw/root.upper"
    if not os.path.isdir(upper):
        return None
    making = new_temporary(blobs.data_dir)
    blobs.begin()
    fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        left_out = tuple(os.fsdecode(path[1:]) for path in sorted(OWN))
        task = Task("layer", uppers=((upper, "/"),), left_out=left_out)
        with _Still(container, pause), at_home(task, stdout=fd) as worker:
            digest = worker.report().digest
        return blobs.adopt(making, fd, LAYER, digest)
    finally:
        os.close(fd)
        if os.path.lexists(making):
            os.unlink(making)


class _Still:
    """A container that does not move for as long as the block lasts, if it can be paused."""

    def __init__(self, container: Container, wanted: bool) -> None:
        self._container, self._wanted = container, wanted and container.status == "running"

    def __enter__(self) -> None:
        from kist.engine.pause import pause

        if self._wanted:
            try:
                pause(self._container)
            except Unsupported:
                self._wanted = False  # no freezer: as with --pause=false

    def __exit__(self, *_: object) -> None:
        from kist.engine.pause import thaw

        if self._wanted:
            thaw(self._container)


def _config(base: ContainerConfig, request: RunRequest) -> ContainerConfig:
    """Containers of the new image run as this one does; what the host lends it is not in there."""
    env = {pair.partition("=")[0]: pair for pair in request.env if "=" in pair}
    removed = {pair for pair in request.env if "=" not in pair}
    ports = {}
    for port in request.expose:
        for number in range(port.first, port.last + 1):
            ports[f"{number}/{port.protocol}"] = Empty()
    return replace(
        base,
        user=request.user, env=tuple(pair for key, pair in env.items() if key not in removed),
        entrypoint=request.entrypoint or (), cmd=request.command, working_dir=request.workdir or base.working_dir,
        labels=dict(request.labels), exposed_ports={**base.exposed_ports, **ports},
        stop_signal=str(request.stop_signal) if request.stop_signal and not base.stop_signal else base.stop_signal,
    )  # fmt: skip


def _oci(media_type: str) -> str:
    """A layer's type in OCI's words: a manifest has one kind of them."""
    return (
        media_type.replace(DOCKER_LAYER, LAYER).replace(".tar.", ".tar+") if DOCKER_LAYER in media_type else media_type
    )
