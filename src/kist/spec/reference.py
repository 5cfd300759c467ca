"""Names of images in registries, as Docker writes and resolves them: `debian` is docker.io/library/debian:latest.

Source: the distribution project's reference grammar, [DOMAIN[:PORT]/]PATH[:TAG][@DIGEST]; Docker's short names.
By hand and not by `re`, which costs 8 ms.
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.spec.image import check_digest
from kist.value import Value

DOCKER_HUB = "docker.io"
_OFFICIAL = "library/"  # where Docker Hub keeps the images that are named by one word
_LENGTH_MAX = 255  # of domain and path
_TAG_MAX = 128
_DIGITS = frozenset("0123456789")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz") | _DIGITS
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX = frozenset("0123456789abcdef")


class Reference(Value):
    """A validated name, whole. `domain` may have a port. With a `digest` the tag is a comment, "" if there is none."""

    domain: str
    path: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.repository}{self._end}"

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """As Docker shows it: without docker.io/ and library/."""
        if self.domain != DOCKER_HUB:
            return str(self)
        return self.path.removeprefix(_OFFICIAL) + self._end

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest, or else the tag."""
        return self.digest or self.tag

    @property
    def _end(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Validate and complete a name. The tag is `latest` when there is neither a tag nor a digest.

    Raises InvalidInput: bad-reference, saying which part is wrong; bad-digest.
    """
    if "://" in text:
        raise _invalid(text, "it is a URL", f"write {text.partition('://')[2][:100]}")
    name, at, digest = text.partition("@")
    if at:
        check_digest(digest, "the digest of the image name")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not is_tag(tag):
        raise _invalid(text, f"a tag has letters, digits, _ . - and at most {_TAG_MAX} of them")
    domain, path = _split_domain(head + slash + last)
    if not is_domain(domain):
        raise _invalid(text, f"{domain[:80]!r} is not a registry's host name")
    for part in path.split("/"):
        if not _is_component(part):
            why = f"{part[:80]!r}: lower case letters and digits, between them one of . _ __ or hyphens"
            raise _invalid(text, why)
    if domain == DOCKER_HUB and "/" not in path:
        path = _OFFICIAL + path
    if len(domain) + 1 + len(path) > _LENGTH_MAX:
        raise _invalid(text, f"it is longer than {_LENGTH_MAX} characters")
    if not head and not at and not colon and len(path) == len(_OFFICIAL) + 64 and _HEX.issuperset(last):
        raise _invalid(text, "64 hexadecimal digits are an image's id")
    return Reference(domain, path, tag or ("" if at else "latest"), digest)


def _split_domain(name: str) -> tuple[str, str]:
    """What comes before the first slash is a registry if it looks like a host: it has a dot, a colon, or capitals."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        return DOCKER_HUB, name
    return (DOCKER_HUB if first in ("index.docker.io", "registry-1.docker.io") else first), rest


def is_tag(text: str) -> bool:
    return 0 < len(text) <= _TAG_MAX and text[0] not in ".-" and _ALNUM.union("_.-").issuperset(text)


def is_domain(text: str) -> bool:
    """HOST[:PORT]; an IPv6 address stands in brackets."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        inside = bool(bracket) and len(host) >= 2 and _HEX.union("ABCDEF:.").issuperset(host) and ":" in host
        return inside and (not port or (port[0] == ":" and _is_port(port[1:])))
    host, colon, port = text.partition(":")
    if (colon and not _is_port(port)) or len(host) > 253:
        return False
    labels = host.split(".")
    return all(label and _ALNUM.union("-").issuperset(label) and "-" not in (label[0], label[-1]) for label in labels)


def _is_port(text: str) -> bool:
    return 0 < len(text) <= 5 and _DIGITS.issuperset(text) and 0 < int(text) < 65536


def _is_component(text: str) -> bool:
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER or not _LOWER.union("._-").issuperset(text):
        return False
    separators = "".join(" " if char in _LOWER else char for char in text).split()
    return all(separator in (".", "_", "__") or not separator.strip("-") for separator in separators)


def _invalid(text: str, why: str, next: str = "write [HOST[:PORT]/]NAME[:TAG][@DIGEST]: debian:12") -> InvalidInput:
    return InvalidInput(f"{text[:100]!r} is not an image name", why=why, next=next, code="bad-reference")
