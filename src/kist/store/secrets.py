"""Secrets: what only containers that were given it may see. DATA/secrets/NAME, mode 0600, is all there is of one."""

from __future__ import annotations

import os

from kist.codec import decode_text, dumps
from kist.errors import Conflict, CorruptStore, InvalidInput, NotFound
from kist.store.data import StoreErrors, check_private, create, default_data_dir, write_whole
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BYTES_MAX = 512_000  # podman's and docker's


class Secret(Value):
    """`data` in base64."""

    name: str
    id: str
    created_ns: int
    updated_ns: int
    data: str
    labels: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"


class Secrets:
    """All secrets of this user."""

    def __init__(self, data_dir: str = "") -> None:
        self.data_dir = data_dir or default_data_dir(os.environ)
        self.base = f"{self.data_dir}/secrets"

    def create(self, name: str, data: bytes, labels: Mapping[str, str] = {}, *, replace: bool = False) -> Secret:
        """Raises Conflict when there is one of that name, unless `replace`; InvalidInput, KistError (disk-full)."""
        import time
        from base64 import b64encode

        if not 0 < len(data) <= BYTES_MAX:
            raise InvalidInput(f"a secret of {len(data)} bytes", why=f"one has 1 to {BYTES_MAX}", code="secret-size")
        now = time.time_ns()
        before = next((secret for secret in self.list() if secret.name == name), None)
        if before and not replace:
            raise Conflict(f"there is a secret {name}", next="another name, or --replace", code="secret-exists")
        secret = Secret(
            name, before.id if before else os.urandom(13).hex()[:25], before.created_ns if before else now, now,
            b64encode(data).decode(), dict(labels),
        )  # fmt: skip
        with StoreErrors(f"cannot keep the secret {name}"):
            create(self.data_dir)
            os.makedirs(self.base, 0o700, exist_ok=True)
            write_whole(self.data_dir, f"secrets/{name}", dumps(secret).encode())
        return secret

    def list(self) -> list[Secret]:
        """By name. Raises CorruptStore."""
        try:
            check_private(self.data_dir)
            return [self._read(name) for name in sorted(os.listdir(self.base))]
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> Secret:
        path = f"{self.base}/{name}"
        with open(path, "rb", buffering=0) as file:
            try:
                return decode_text(Secret, file.read(), path)
            except InvalidInput as e:
                why = "its file is damaged"  # not what is in it
                raise CorruptStore(f"the secret {name} can't be read", why=why, next=f"kist secret rm {name}") from e

    def find(self, text: str) -> Secret:
        """By name, id, or the beginning of an id that only one has. Raises NotFound."""
        found = self.list()
        matches = [s for s in found if text in (s.name, s.id)] or [s for s in found if text and s.id.startswith(text)]
        if len(matches) == 1:
            return matches[0]
        from kist.plan.words import nearest, show

        near = nearest(text, [secret.name for secret in found])
        next_ = f"did you mean {near!r}?" if near else "kist secret ls lists them"
        raise NotFound(f"no secret {show(text)}", next=next_, code="no-secret")

    def reveal(self, name: str) -> bytes:
        from base64 import b64decode

        return b64decode(self.find(name).data)

    def remove(self, secret: Secret) -> None:
        """Those who run with it keep theirs."""
        with StoreErrors(f"cannot remove the secret {secret.name}"):
            try:
                os.unlink(f"{self.base}/{secret.name}")
            except FileNotFoundError as e:
                raise NotFound(f"no secret {secret.name}", code="no-secret") from e
