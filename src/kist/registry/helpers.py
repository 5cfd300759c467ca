"""Credential helpers: programs that keep secrets, docker-credential-NAME.

The convention that only kernel/ starts programs is broken here, as this room may not import that one and nothing else
needs a program with a secret on its standard input. Source: docker/docker-credential-helpers, "Development".
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile

from kist.codec import dumps, loads
from kist.errors import InvalidInput, KistError
from kist.registry.errors import shown

_TIMEOUT_S = 60  # one may ask its user to unlock a keyring
_OUTPUT_BYTES_MAX = 64 << 10
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_ABSENT = ("credentials not found", "no credentials server url", "no credentials username")


class Helper:
    """Raises KistError (credential-helper) when it is missing, fails, or does not end."""

    def __init__(self, name: str, timeout_s: float = _TIMEOUT_S) -> None:
        if not name or not _NAME.issuperset(name):
            raise InvalidInput(f"{shown(name)!r} is no credential helper's name", code="credential-helper")
        self.program = f"docker-credential-{name}"
        self._timeout_s = timeout_s

    def get(self, server: str) -> tuple[str, str] | None:
        """(user, secret); the user is <token> for an identity token."""
        output = self._run("get", server.encode(), absent=True)
        if output is None:
            return None
        try:
            found = loads(output)
        except InvalidInput as e:
            raise self._failed("get", "it does not answer with JSON") from e  # what it said may be the secret
        user, secret = (found.get("Username"), found.get("Secret")) if isinstance(found, dict) else (None, None)
        if not isinstance(user, str) or not isinstance(secret, str):
            raise self._failed("get", "its answer has no Username and Secret")
        return (user, secret) if secret else None

    def store(self, server: str, user: str, secret: str) -> None:
        self._run("store", dumps({"ServerURL": server, "Username": user, "Secret": secret}).encode())

    def erase(self, server: str) -> None:
        self._run("erase", server.encode(), absent=True)

    def _run(self, verb: str, given: bytes, *, absent: bool = False) -> bytes | None:
        path = shutil.which(self.program)
        if path is None or not path.startswith("/"):
            raise KistError(
                f"cannot ask {self.program}", why="it is not in PATH", code="credential-helper",
                next="install it, or take credsStore and credHelpers out of Docker's config.json",
            )  # fmt: skip
        with tempfile.TemporaryFile() as out:  # a file takes any amount; a pipe would have to be watched
            try:
                done = subprocess.run([path, verb], input=given, stdout=out, stderr=subprocess.STDOUT,
                                      timeout=self._timeout_s, check=False)  # fmt: skip
            except subprocess.TimeoutExpired as e:
                raise self._failed(verb, f"it does not end within {self._timeout_s:g} seconds") from e
            except OSError as e:
                raise self._failed(verb, e.strerror or str(e)) from e
            out.seek(0)
            output = out.read(_OUTPUT_BYTES_MAX)
        if done.returncode:
            text = output.decode(errors="replace")
            if absent and any(word in text.lower() for word in _ABSENT):
                return None
            raise self._failed(verb, shown(text) if verb != "store" else f"exit status {done.returncode}")
        return output

    def _failed(self, verb: str, why: str) -> KistError:
        return KistError(f"{self.program} {verb} fails", why=why, code="credential-helper")
