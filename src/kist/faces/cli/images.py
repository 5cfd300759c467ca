"""`kist images`."""

from __future__ import annotations

from fnmatch import fnmatchcase

from kist.faces.cli.columns import ago, print_rows, size_words
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kist.store.images import Image, ImageStore

HEADS = {
    "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID", "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT", "Size": "SIZE", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS", "VirtualSize": "SIZE",
}  # fmt: skip
_FILTERS = ("dangling", "label", "before", "since", "until", "reference")

COMMAND = Command(
    name="images",
    usage=("[FLAG...] [REPOSITORY[:TAG]]",),
    summary="List the images. 'host' is always there: this machine's own programs",
    groups=(
        (
            "Flags",
            (
                Flag("all", "bool", "", "All of them: kist keeps no intermediate ones", words.boolean, "a"),
                Flag("digests", "bool", "", "Digests too", words.boolean),
                Flag("filter", "many", "KEY=VALUE", f"Only those: {', '.join(_FILTERS)}", words.plain, "f"),
                Flag("format", "one", "FORMAT", "table, json, or a Go template: '{{.ID}} {{.Size}}'", words.plain),
                Flag("no-trunc", "bool", "", "Whole ids", words.boolean),
                Flag("quiet", "bool", "", "Only the ids", words.boolean, "q"),
            ),
        ),
    ),
    examples=(
        ("kist images --filter dangling=true -q", "ids of images without a name"),
        ("kist images --format '{{.Repository}}:{{.Tag}} {{.Size}}'", "in your own words"),
    ),
    most=1,
)


def filters(texts: Iterable[str], known: tuple[str, ...]) -> dict[str, list[str]]:
    """KEY=VALUE (or KEY!=VALUE) by key. Raises InvalidInput."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or key not in known:
            raise words.bad("--filter", text, "it is no filter", f"one of: {', '.join(f'{k}=...' for k in known)}")
        found.setdefault(key, []).append(value)
    return found


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    on = {name: words.boolean(f"--{name}", parsed.last(name, "false")) for name in ("quiet", "digests", "no-trunc")}
    asked = filters(parsed.given.get("filter", ()), _FILTERS)
    asked.setdefault("reference", []).extend(parsed.arguments)
    from kist.store.images import ImageStore

    store = ImageStore()
    rows = [row for image in store.list() if _passes(image, store, asked) for row in _rows(image, asked, on)]
    if on["quiet"]:
        print("".join([f"{id}\n" for id in dict.fromkeys(str(row["ID"]) for row in rows)]), end="")
        return 0
    shown = ["Repository", "Tag", *(["Digest"] if on["digests"] else []), "ID", "CreatedSince", "Size"]
    print_rows(rows, HEADS, shown, parsed.last("format"))
    return 0


def _rows(image: Image, asked: Mapping[str, list[str]], on: Mapping[str, bool]) -> Iterator[dict[str, object]]:
    """One for each name; names that do not fit are left out."""
    from kist.store.filters import timestamp

    patterns = asked["reference"]
    for repository, tag in _names(image):
        if patterns and not any(_fits(repository, tag, pattern) for pattern in patterns):
            continue
        yield {
            "Repository": repository or "<none>",
            "Tag": tag or "<none>",
            "Digest": image.digest,
            "ID": image.id if on["no-trunc"] else image.short_id,
            "CreatedSince": ago(timestamp(image.created)),
            "CreatedAt": image.created,
            "Size": size_words(image.size_bytes),
            "VirtualSize": size_words(image.size_bytes),
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
            "Containers": "N/A",
        }


def _names(image: Image) -> list[tuple[str, str]]:
    """(repository, tag). A digest is only told of where no tag of its repository is."""
    from kist.store.names import split_name

    names = [split_name(name) for name in image.names]
    tagged = {repository for repository, tag in names if tag}
    return [(repository, tag) for repository, tag in names if tag or repository not in tagged] or [("", "")]


def _fits(repository: str, tag: str, pattern: str) -> bool:
    """`debian`, `debian:12`, `*:latest`, `quay.io/*/app`."""
    wanted, colon, wanted_tag = pattern.rpartition(":")
    if not colon or "/" in wanted_tag:
        wanted, wanted_tag = pattern, "*"
    parts, patterns = repository.split("/"), wanted.split("/")
    same = len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
    return same and fnmatchcase(tag, wanted_tag)


def _passes(image: Image, store: ImageStore, asked: Mapping[str, list[str]]) -> bool:
    from kist.store.filters import created_before, has_label

    for text in asked.get("dangling", ()):
        if words.boolean("--filter dangling", text) == bool(image.names):
            return False
    if not all(has_label(image.config.labels, text) for text in asked.get("label", ())):
        return False
    if not all(created_before(image.created, text) for text in asked.get("until", ())):
        return False
    for key in ("before", "since"):
        for text in asked.get(key, ()):
            other = store.get(text)
            if not (image.created < other.created if key == "before" else image.created > other.created):
                return False
    return True
