"""index.json of the OCI layout: the names of the images, and which images there are. It is the truth about both.

An image without a name has an entry without one. Other tools that read OCI layouts see the same: skopeo's
`oci:DATA:debian:bookworm` is our image debian:bookworm. Source: OCI image-layout.md, "index.json file".
"""

from __future__ import annotations

import errno
import os

from kist.codec import decode_text, dumps
from kist.errors import Conflict, CorruptStore, InvalidInput, NotFound
from kist.spec.image import INDEX, INDEXES, Descriptor, Index
from kist.spec.reference import parse_reference
from kist.store import locks
from kist.store.data import create, give_up_reserve, write_whole
from kist.store.locks import Lock
from kist.store.names import name_of, split_name
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAME = "org.opencontainers.image.ref.name"  # OCI annotations.md
NAME_CONTAINERD = "io.containerd.image.name"  # with the registry; then the other one may be the tag alone
_HEX = frozenset("0123456789abcdef")
_MANIFEST = "dev.kist.manifest"  # of an index: the manifest that was chosen from it


class Named(Value):
    """An entry: a name, "" for an image without one; what was added under it; and the manifest that this led to."""

    name: str
    root: Descriptor
    manifest: str


def read_layout(data_dir: str) -> list[Named]:
    """All entries; none before the first image. Raises CorruptStore, OSError."""
    try:
        with open(f"{data_dir}/index.json", "rb", buffering=0) as file:
            data = file.read()
    except FileNotFoundError:
        return []
    try:
        index = decode_text(Index, data, "index.json")
    except InvalidInput as e:
        raise CorruptStore(f"{data_dir}/index.json is damaged", why=str(e), next="kist store rebuild") from e
    found = []
    for root in index.manifests:
        chosen = root.annotations.get(_MANIFEST) if root.media_type in INDEXES else root.digest
        kept = {key: value for key, value in root.annotations.items() if key not in (NAME, _MANIFEST)}
        found.append(Named(root.annotations.get(NAME, ""), replace(root, annotations=kept), chosen or ""))
    return found


def change_layout(
    data_dir: str, change: Callable[[Sequence[Named]], Sequence[Named]], *, frees: bool = False
) -> Sequence[Named]:
    """Replace the entries by what `change` makes of them, at once and durably, while nobody else does. `frees`: it is
    for deleting, so on a full disk the store's reserve is for it.

    Raises what `change` raises, having changed nothing; CorruptStore, OSError, KistError (data-dir), Refused.
    """
    create(data_dir)
    with Lock(data_dir, locks.NAMES):
        before = read_layout(data_dir)
        after = change(before)
        if list(after) != before or not os.path.exists(f"{data_dir}/index.json"):
            data = dumps(_index(after)).encode()
            try:
                write_whole(data_dir, "index.json", data)
            except OSError as e:
                if not (frees and e.errno in (errno.ENOSPC, errno.EDQUOT) and give_up_reserve(data_dir)):
                    raise
                write_whole(data_dir, "index.json", data)
    return after


def _index(entries: Sequence[Named]) -> Index:
    return Index(2, tuple(map(_descriptor, entries)), INDEX)


def _descriptor(entry: Named) -> Descriptor:
    annotations = dict(entry.root.annotations)
    if entry.name:
        annotations[NAME] = entry.name
    if entry.root.media_type in INDEXES:
        annotations[_MANIFEST] = entry.manifest
    return replace(entry.root, annotations=annotations)


def named(entries: Sequence[Named], new: Named, *, replace: bool = True) -> list[Named]:
    """With the new entry. Whatever had its name loses it; an image without any name stays, under one entry.

    Raises Conflict when another image has the name, unless `replace`.
    """
    if not new.name:
        return list(entries) + [new] * all(entry.manifest != new.manifest for entry in entries)
    if not replace:
        refuse_taken(entries, new.name)
    kept = [e for e in entries if e.name != new.name and (e.name or e.manifest != new.manifest)]
    alive = {new.manifest, *(entry.manifest for entry in kept)}
    lost = [Named("", e.root, e.manifest) for e in entries if e.name == new.name and e.manifest not in alive]
    return [*kept, *lost, new]


def unnamed(entries: Sequence[Named], gone: Sequence[Named]) -> list[Named]:
    """Without these entries."""
    names = {(entry.name, entry.manifest) for entry in gone}
    return [entry for entry in entries if (entry.name, entry.manifest) not in names]


def refuse_taken(entries: Sequence[Named], name: str) -> None:
    if any(entry.name == name for entry in entries):
        raise Conflict(f"the image {name} exists", next="remove or replace it, or choose another name")


def find(entries: Sequence[Named], text: str, id_of: Callable[[str], str]) -> list[Named]:
    """What `text` stands for: a name, NAME@DIGEST, a digest, an id, the beginning of an id. A name gives its entry, the
    others all entries of one image. `id_of` gives the id for a manifest's digest.

    Raises NotFound with the nearest name, Conflict, InvalidInput.
    """
    if "@" in text:
        return _find_by_both(entries, text)
    is_digest = text.startswith(("sha256:", "sha384:", "sha512:"))
    if not is_digest:
        try:
            name = name_of(text)
        except InvalidInput:
            if not _HEX.issuperset(text):
                raise
            name = ""
        found = [entry for entry in entries if name and entry.name == name]
        if found:
            return found
    return _find_by_digest(entries, text if is_digest else f"sha256:{text}", id_of, text)


def _find_by_both(entries: Sequence[Named], text: str) -> list[Named]:
    """REPOSITORY@DIGEST. An image that lost its name may have had it from any repository."""
    wanted, name = parse_reference(text), name_of(text)
    if found := [entry for entry in entries if entry.name == name]:
        return found
    for entry in entries:
        if wanted.digest in (entry.root.digest, entry.manifest) and (
            not entry.name or parse_reference(entry.name).repository == wanted.repository
        ):
            return [other for other in entries if other.manifest == entry.manifest]
    raise _not_found(text, entries)


def _find_by_digest(entries: Sequence[Named], digest: str, id_of: Callable[[str], str], text: str) -> list[Named]:
    found = [entry.manifest for entry in entries if digest in (entry.root.digest, entry.manifest)]
    if not found and _HEX.issuperset(digest.partition(":")[2]):
        ids = {entry.manifest: id_of(entry.manifest) for entry in entries}
        begin = {id for id in ids.values() if id.startswith(digest)}
        if len(begin) > 1:
            raise Conflict(f"{text!r} may mean {len(begin)} images", next="write more of the id")
        found = [manifest for manifest, id in ids.items() if id in begin]
    if not found:
        raise _not_found(text, entries)
    return [entry for entry in entries if entry.manifest in found]


def _not_found(text: str, entries: Sequence[Named]) -> NotFound:
    import difflib

    whole = ":" in text.rpartition("/")[2]
    names = {
        entry.name if whole else split_name(entry.name)[0]: entry.name for entry in reversed(entries) if entry.name
    }
    near = difflib.get_close_matches(text, names, n=1)
    next_ = f"did you mean {names[near[0]]}?" if near else "kist images lists them"
    return NotFound(f"no such image: {text}", next=next_, code="no-image")
