"""What came of reading a layer. Apart from layers.py, since `kist run` reads these records and no layers."""

from __future__ import annotations

from kist.value import Value

Reason = str
CHOICES = {"Reason": ("device", "socket", "xattr")}


class Skipped(Value):
    """What was left out for one reason; `examples` are the first few names."""

    reason: Reason
    count: int
    examples: tuple[str, ...]


class Summary(Value):
    """`digest`: sha256:HEX of the uncompressed archive, the diff id of an OCI layer."""

    entries: int
    file_bytes: int  # of all files, holes included
    archive_bytes: int  # uncompressed
    digest: str
    skipped: tuple[Skipped, ...] = ()


class Noted(Value):
    """skipped.json of a chain of directories: what they cannot hold, besides what the layers' summaries say."""

    skipped: tuple[Skipped, ...]
