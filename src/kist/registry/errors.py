"""Answers of registries as errors. Unavailable ones are tried again; the others are the caller's to read.

Texts from the other side are shown shortened and printable: they are not ours.
"""

from __future__ import annotations

from kist.codec import loads
from kist.errors import InvalidInput, KistError, NotFound, RegistryError, Unauthorized, Unavailable


class Stopped(RegistryError):
    """Another part of the same pull or push failed first; only that error is shown."""

    code = "stopped"


def shown(text: str, most: int = 200) -> str:
    """Foreign text on one line, without what could move a terminal's cursor."""
    clean = "".join(char if char.isprintable() else " " for char in text[: most * 2])
    clean = " ".join(clean.split())
    return clean if len(clean) <= most else f"{clean[: most - 3]}..."


def reason(body: bytes) -> str:
    """What an error's body says. Source: OCI distribution-spec, "Error Codes"."""
    try:
        document = loads(body)
    except InvalidInput:
        return shown(body.decode(errors="replace")) if b"<" not in body else ""
    if not isinstance(document, dict):
        return ""
    errors = document.get("errors")
    found = errors if isinstance(errors, list) else [document]
    texts = []
    for error in found[:3]:
        if isinstance(error, dict):
            words = [error.get("code", error.get("error")), error.get("message", error.get("error_description"))]
            texts += [": ".join(word for word in words if isinstance(word, str) and word)]
        elif isinstance(error, str):
            texts.append(error)
    return shown("; ".join(filter(None, texts)))


def of_status(what: str, host: str, status: int, body: bytes, retry_after_s: float = -1) -> KistError:
    """The error for an answer of 400 or more."""
    why = reason(body) or "it does not say why"
    why = f"{host} answers {status}: {why}"
    if status in (401, 403):
        return Unauthorized(what, why=why, next=f"kist login {host}" if status == 401 else "ask for the permission")
    if status == 404:
        return NotFound(what, why=why, next="check the name and the tag", code="not-in-registry")
    if status == 429:
        return Unavailable(what, why=why, next=f"wait, or kist login {host}", code="rate-limit",
                         retry_after_s=retry_after_s)  # fmt: skip
    if status == 408 or status >= 500:
        return Unavailable(what, why=why, next="try again later", retry_after_s=retry_after_s)
    return RegistryError(what, why=why)
