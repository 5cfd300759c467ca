"""What the verbs about volumes have in common."""

from __future__ import annotations

from kist.engine.containers import Containers
from kist.store.filters import has_label
from kist.store.volumes import Volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kist.store.volumes import Volume


def described(volumes: Volumes, volume: Volume) -> dict[str, object]:
    """As `docker volume inspect` has it."""
    return {
        "CreatedAt": created(volume),
        "Driver": "local",
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volumes.path(volume.name),
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
        "Anonymous": volume.anonymous,
    }


def created(volume: Volume) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(volume.created_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def passes(volume: Volume, asked: Mapping[str, list[str]]) -> bool:
    """Labels; `label!`: without it."""
    return all(has_label(volume.labels, text) for text in asked.get("label", ())) and not any(
        has_label(volume.labels, text) for text in asked.get("label!", ())
    )


def everything() -> tuple[Containers, Volumes]:
    containers = Containers()
    return containers, Volumes(containers.data_dir)
