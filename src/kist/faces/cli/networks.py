"""What the verbs of `kist network` share: where networks are, and which of them are asked for."""

from __future__ import annotations

import os

from kist.engine.state import StateDirectory, run_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kist.network.network import Network


def states() -> StateDirectory:
    """With nothing in networks that a killed command left."""
    found = StateDirectory(run_directory(os.environ))
    found.prepare()
    found.sweep()
    return found


def passes(network: Network, asked: Mapping[str, list[str]], *, in_use: bool = False) -> bool:
    """Of several values of a key one has to fit, of labels all. Raises InvalidInput."""
    from kist.plan import words
    from kist.store.filters import created_before, has_label

    if not all(has_label(network.labels, text) for text in asked.get("label", ())):
        return False
    if any(has_label(network.labels, text) for text in asked.get("label!", ())):
        return False
    if any(not created_before(network.created, text) for text in asked.get("until", ())):
        return False
    if any(words.boolean("--filter dangling", text) == in_use for text in asked.get("dangling", ())):
        return False
    kind = "builtin" if network.name in ("none", "host", "bridge") else "custom"
    fits: dict[str, Callable[[str], bool]] = {
        "name": lambda text: text in network.name,
        "id": network.id.startswith,
        "driver": network.driver.__eq__,
        "scope": "local".__eq__,
        "type": kind.__eq__,
    }
    return all(any(fit(text) for text in asked[key]) for key, fit in fits.items() if asked.get(key))
