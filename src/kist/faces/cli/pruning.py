"""What the verbs that remove what is not needed have in common."""

from __future__ import annotations

import sys

from kist.errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def agreed(what: str) -> bool:
    """Whether the user, asked at a terminal, wants that. Raises Refused where nobody can be asked."""
    if not sys.stdin.isatty():
        raise Refused(f"this would remove {what}", why="there is no terminal to ask at", next="write --force")
    print(f"This removes {what}. Go on? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_deleted(kind: str, names: Iterable[str]) -> None:
    """In docker's words; nothing for none."""
    names = list(names)
    if names:
        print(f"Deleted {kind}:", *names, "", sep="\n")
