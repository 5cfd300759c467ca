"""Image names: Docker's reference syntax.

Source: the distribution project's reference grammar: [DOMAIN[:PORT]/]PATH[:TAG], the tag is `latest` when absent.
By hand and not by `re`, which costs 8 ms on the path of `kist run`.
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.value import Value

RESERVED = "host"  # the image that shows this machine's own programs
_LENGTH_MAX = 255  # Docker allows as much for the repository alone
_TAG_MAX = 128
_DIGITS = frozenset("0123456789")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz") | _DIGITS
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class Reference(Value):
    """A validated image name in Docker's short form: `debian:bookworm`, `quay.io/team/app:latest`."""

    repository: str
    tag: str

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}"

    @property
    def full(self) -> str:
        """With the registry, as other tools take it: `docker.io/library/debian:bookworm`."""
        head, slash, _ = self.repository.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost"):
            return str(self)
        return f"docker.io/{'' if slash else 'library/'}{self}"


def parse_reference(text: str) -> Reference:
    """Validate a name strictly. `docker.io/library/debian` is `debian`, as Docker shows it.

    Raises InvalidInput: not a reference; has a digest (a digest cannot be given, it results); is the reserved `host`.
    """
    if "@" in text:
        raise _invalid(text, "a digest follows from the content, it cannot be chosen")
    if len(text) > _LENGTH_MAX:
        raise _invalid(text[:60] + "...", f"it is longer than {_LENGTH_MAX} characters")
    head, slash, last = text.rpartition("/")
    last, colon, tag = last.partition(":")
    if not colon:
        tag = "latest"
    elif not (0 < len(tag) <= _TAG_MAX and tag[0] not in ".-" and _ALNUM.union("_.-").issuperset(tag)):
        raise _invalid(text, f"a tag has letters, digits, _ . - and at most {_TAG_MAX} of them")
    parts, domain = (head + slash + last).split("/"), 0
    if len(parts) > 1 and (
        "." in parts[0] or ":" in parts[0] or parts[0] == "localhost" or parts[0].lower() != parts[0]
    ):
        if not _is_domain(parts[0]):
            raise _invalid(text, f"{parts[0]!r} is not a registry's host name")
        if parts[0] in ("docker.io", "index.docker.io"):
            del parts[0]
        else:
            domain = 1
    for part in parts[domain:]:
        if not _is_component(part):
            raise _invalid(text, f"{part!r}: lower case letters and digits, between them one of . _ __ or hyphens")
    if parts[0] == "library" and len(parts) == 2:
        del parts[0]
    if parts == [RESERVED]:
        raise InvalidInput(
            "the image name 'host' is reserved", why="it stands for this machine's own programs", next="choose another"
        )
    return Reference("/".join(parts), tag)


def _is_component(text: str) -> bool:
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER or not _LOWER.union("._-").issuperset(text):
        return False
    separators = "".join(" " if char in _LOWER else char for char in text).split()
    return all(separator in (".", "_", "__") or not separator.strip("-") for separator in separators)


def _is_domain(text: str) -> bool:
    host, colon, port = text.partition(":")
    if colon and not (0 < len(port) <= 5 and _DIGITS.issuperset(port)):
        return False
    labels = host.split(".")
    return all(label and _ALNUM.union("-").issuperset(label) and "-" not in (label[0], label[-1]) for label in labels)


def _invalid(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"{text!r} is not an image name", why=why, next="write REPOSITORY[:TAG], for example debian:bookworm"
    )
