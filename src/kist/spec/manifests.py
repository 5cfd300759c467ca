"""Manifests and indexes as they come from others: what they are follows from their media type alone.

Sources: OCI manifest.md, image-index.md; CVE-2021-41190; Go's encoding/json, whose keys match in any case.
"""

from __future__ import annotations

from kist.codec import decode, loads
from kist.errors import InvalidInput, NotFound, Unsupported
from kist.spec.image import INDEXES, MANIFESTS, Descriptor, Index, Manifest, Platform, check_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MANIFEST_BYTES_MAX = 4 << 20  # as registries have it
_ENTRIES_MAX = 1000
_NESTED = ("config", "layers", "manifests", "subject")
_KEYS = {
    key.lower(): key for key in (
        *_NESTED, "schemaVersion", "mediaType", "artifactType", "fsLayers",
        "digest", "size", "urls", "data", "platform",
    )
}  # fmt: skip
# The variants that a machine runs, best first; "" is any machine's. Source: containerd's platform rules.
_LADDERS = {"arm": ("v8", "v7", "v6", "v5"), "arm64": ("v9", "v8"), "amd64": ("v4", "v3", "v2", "v1")}
_DEFAULT = {"arm64": "v8", "amd64": "v1", "arm": "v7"}
# Other spellings of architectures.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"), "i386": ("386", ""), "i686": ("386", ""), "armv7l": ("arm", "v7"), "armv6l": ("arm", "v6"),
}  # fmt: skip


def parse_manifest(media_type: str, data: bytes) -> Index | Manifest:
    """Raises InvalidInput (bad-image) for what may be read in two ways; Unsupported (not-an-image) for other types."""
    if media_type not in (*INDEXES, *MANIFESTS):
        raise Unsupported("it is no image", why=f"its type is {media_type[:100]!r}", code="not-an-image")
    document = loads(data, "the manifest", unique=True)
    if not isinstance(document, dict):
        raise InvalidInput("the manifest is no JSON object", code="bad-image")
    _refuse_other_spellings(document)
    foreign = ("config", "layers", "fsLayers") if media_type in INDEXES else ("manifests", "fsLayers")
    found = [key for key in foreign if key in document]
    if document.get("mediaType", media_type) != media_type:
        found.append(f"mediaType {str(document['mediaType'])[:100]!r}")
    if found:
        why = f"it came as {media_type} and has {', '.join(found)}"
        raise InvalidInput("the manifest may be read in two ways", why=why, code="bad-image")
    parsed = decode(Index, document) if media_type in INDEXES else decode(Manifest, document)
    children = parsed.manifests if isinstance(parsed, Index) else (parsed.config, *parsed.layers)
    if len(children) > _ENTRIES_MAX:
        raise InvalidInput(f"the manifest lists more than {_ENTRIES_MAX} things", code="bad-image")
    for child in children:
        check_digest(child.digest)
        if child.size < 0:
            raise InvalidInput(f"the size of {child.digest} is {child.size}", code="bad-image")
    return parsed


def _refuse_other_spellings(document: dict[str, object]) -> None:
    """Go's decoder takes `Layers` for `layers`, ours does not."""
    todo: list[object] = [document]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo += item
        elif isinstance(item, dict):
            for key, value in item.items():
                exact = _KEYS.get(key.lower(), key)
                if exact != key:
                    why = f"it has {key[:100]!r}, which some take for {exact!r}"
                    raise InvalidInput("the manifest may be read in two ways", why=why, code="bad-image")
                if exact in _NESTED:
                    todo.append(value)


def parse_platform(text: str) -> Platform:
    """OS/ARCHITECTURE[/VARIANT], or the architecture alone. Raises InvalidInput (bad-platform)."""
    parts = text.lower().split("/")
    if len(parts) == 1:
        parts = ["linux", *parts]
    if len(parts) > 3 or not all(part and part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise InvalidInput(f"{text[:80]!r} is no platform", next="for example linux/arm64/v8", code="bad-platform")
    architecture, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
    return Platform(architecture, parts[0], parts[2] if len(parts) == 3 else variant)


def platform_words(platform: Platform) -> str:
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))


def choose_platform(entries: Sequence[Descriptor], wanted: Platform) -> Descriptor:
    """The entry of an index for a machine: of the variants that it runs the best, else one without any platform.

    Raises NotFound (no-platform) with what there is.
    """
    ranked = [(_rank(entry.platform, wanted), entry) for entry in entries if entry.media_type in (*MANIFESTS, *INDEXES)]
    fitting = [(rank, entry) for rank, entry in ranked if rank is not None]
    if fitting:
        return min(fitting, key=lambda pair: pair[0])[1]
    there = [platform_words(e.platform) for e in entries if e.platform and e.platform.os != "unknown"]
    raise NotFound(
        f"there is no image for {platform_words(wanted)}",
        why=f"there is one for {', '.join(sorted(set(there))[:20])}"[:400] if there else "the index is empty",
        next="--platform chooses another" if there else "",
        code="no-platform",
    )


def runs(wanted: Platform, image: Platform) -> bool:
    """Whether a machine runs an image, by what both say of themselves."""
    return _rank(image, wanted) is not None


def _rank(has: Platform | None, wanted: Platform) -> int | None:
    """The lower, the better; None: the machine does not run it."""
    if has is None:
        return 100
    if (has.os, has.architecture) != (wanted.os, wanted.architecture):
        return None
    default = _DEFAULT.get(wanted.architecture, "")
    variant, most = has.variant or default, wanted.variant or default
    if variant == most:
        return 0
    ladder = _LADDERS.get(wanted.architecture, ())
    if variant in ladder and most in ladder and ladder.index(variant) > ladder.index(most):
        return ladder.index(variant)
    return None if has.variant else 50
