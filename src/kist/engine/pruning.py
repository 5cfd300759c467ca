"""What nothing uses any more: `kist container prune`, `system prune`."""

from __future__ import annotations

from kist.engine.containers import Containers
from kist.engine.volumes import size_bytes
from kist.errors import Conflict, InvalidInput, NotFound
from kist.store.filters import created_before, has_label
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kist.engine.containers import Container


class PrunedContainers(Value):
    ids: tuple[str, ...] = ()
    reclaimed_bytes: int = 0


def prune_containers(containers: Containers, filters: Mapping[str, Sequence[str]]) -> PrunedContainers:
    """Remove those that do not run, and pass the filters until, label, label!. Raises InvalidInput for others."""
    unknown = filters.keys() - {"until", "label", "label!"}
    if unknown:
        raise InvalidInput(f"unknown filter {min(unknown)!r}", next="one of: label, label!, until")
    from kist.engine.remove import remove

    ids, freed = [], 0
    for container in list(containers.all()):
        if not container.kept or container.status not in ("created", "exited") or not _passes(container, filters):
            continue
        size = size_bytes(container.path)
        try:
            remove(containers, container)
        except (Conflict, NotFound):
            continue  # started, or gone meanwhile
        ids.append(container.id)
        freed += size
    return PrunedContainers(tuple(ids), freed)


def _passes(container: Container, filters: Mapping[str, Sequence[str]]) -> bool:
    from datetime import UTC, datetime

    labels = container.config.request.labels
    created = datetime.fromtimestamp(container.config.created_ns / 1e9, UTC).isoformat()
    return (
        all(created_before(created, text) for text in filters.get("until", ()))
        and all(has_label(labels, text) for text in filters.get("label", ()))
        and not any(has_label(labels, text) for text in filters.get("label!", ()))
    )
