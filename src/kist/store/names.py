"""What images are called in the store: Docker's short forms REPOSITORY:TAG and REPOSITORY@DIGEST."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.spec.reference import DOCKER_HUB, parse_reference
from kist.value import replace

RESERVED = "host"  # the image that shows this machine's own programs


def chosen_name(text: str) -> str:
    """A name that someone gives to an image: `docker.io/library/debian` is `debian:latest`, as Docker shows it.

    Raises InvalidInput: no reference; has a digest; is the reserved `host`.
    """
    reference = parse_reference(text)
    if reference.digest:
        why = "a digest follows from the content, it cannot be chosen"
        raise InvalidInput(f"{text[:100]!r} is not a name to give", why=why, next="write REPOSITORY[:TAG]")
    if (reference.domain, reference.path) == (DOCKER_HUB, f"library/{RESERVED}"):
        raise InvalidInput(
            "the image name 'host' is reserved", why="it stands for this machine's own programs", next="choose another"
        )
    return reference.familiar


def name_of(text: str) -> str:
    """The name that `text` asks for; with a digest that counts, and a tag beside it does not. Raises InvalidInput."""
    reference = parse_reference(text)
    return replace(reference, tag="").familiar if reference.digest else reference.familiar


def split_name(name: str) -> tuple[str, str]:
    """(repository, tag) of a name in the store; no tag when it has a digest."""
    repository, at, _ = name.partition("@")
    if at:
        return repository, ""
    repository, _, tag = name.rpartition(":")
    return repository, tag


def full_name(name: str) -> str:
    """With the registry, as other tools take it: `docker.io/library/debian:bookworm`."""
    return str(parse_reference(name))
