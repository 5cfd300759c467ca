"""Verbs that do one thing to each of several containers: what is printed, and what is said of those that failed."""

from __future__ import annotations

import sys

from kist.engine.containers import Container, Containers
from kist.errors import KistError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def each(names: Iterable[str], act: Callable[[Containers, Container], object]) -> int:
    """Print each name as it was typed when `act` has succeeded; the exit status is 1 when one has not."""
    containers, status = Containers(), 0
    for name in names:
        try:
            act(containers, containers.find(name))
        except KistError as e:
            print(f"kist: {e}", file=sys.stderr)
            status = 1
        else:
            print(name, flush=True)
    return status
