"""Removing names, and deleting what nothing refers to any more."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kist.store.images import ImageStore


def remove(store: ImageStore, name: str, *, force: bool) -> Sequence[str]:
    raise NotImplementedError
