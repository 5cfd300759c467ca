"""What kist-oci's front may do by itself: ROOT/ID/ordinary, which it reads in place of the record.

Bringing Python up takes longer than `start`, `state`, `kill` and `delete` of most containers. Here it is decided, once,
when a container is made, which of these need nothing but what the file says; launcher/front.c takes those, and leaves
all others, and every error, to Python. The file holds strings that each end with a 0:

    kist-oci ordinary 1, verbs, freezer's file, three parts of the state's text (between them: pid, status), cgroups ...
"""

from __future__ import annotations

from kist.engine.runtime.container import state_of
from kist.plan.flags import CLONE_NEWNS
from kist.system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.runtime.container import Record

_HEADER = "kist-oci ordinary 1"
_HOLE = "\0"  # in no text that comes from a config
_HOLE_QUOTED = '"\\u0000"'


def verbs(record: Record) -> list[str]:
    """Those that need no more than the file."""
    found = ["state"]
    if "poststart" not in record.hooks and not record.empty:
        found.append("start")
    if record.ends_with_first:  # else SIGKILL has to find the other processes
        found.append("kill")
    if "poststop" not in record.hooks and record.namespaces & CLONE_NEWNS and not record.unit:
        found.append("delete")
    return found


def ordinary(record: Record) -> bytes:
    """The file's content."""
    before, between, after = indented(state_of(record, _HOLE, _HOLE)).split(_HOLE_QUOTED, 2)
    parts = (
        _HEADER, " ".join(verbs(record)), record.freezer, before, f'{between}"', f'"{after}\n', *record.cgroups
    )  # fmt: skip
    return b"".join([os.fsencode(part) + b"\0" for part in parts])


def indented(value: object, margin: str = "\n") -> str:
    """As json.dumps(indent=2, ensure_ascii=False), whose import takes 8 ms."""
    from _json import encode_basestring as quote

    if not isinstance(value, dict):
        return quote(value) if isinstance(value, str) else repr(value)
    inner = f"{margin}  "
    items = [f"{quote(key)}: {indented(item, inner)}" for key, item in value.items()]
    return f"{{{inner}{f',{inner}'.join(items)}{margin}}}" if items else "{}"
