"""What to put into Authorization: Basic, or a token that the registry's token server gives for a scope.

Sources: distribution's spec/auth/token.md and oauth.md. A token is bound to the origin that asked for it.
"""

from __future__ import annotations

import threading
from urllib.parse import quote, urlencode, urlsplit

from kist.codec import loads
from kist.errors import InvalidInput, RegistryError, Unauthorized
from kist.registry.challenge import Challenge
from kist.registry.credentials import Credentials
from kist.registry.errors import of_status, shown
from kist.registry.hosts import familiar_host
from kist.registry.origin import Origin, origin_of
from kist.registry.timing import Clock
from kist.registry.transport import Transport
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSWER_BYTES_MAX = 1 << 20
_TOKEN_MAX = 64 << 10  # http.client takes no longer header line from others; nor should they from us
_LIFE_LEAST_S = 60  # a token without expires_in; token.md
_SCOPES_MAX = 20
_CLIENT_ID = "kist"
_TOKEN_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=:")


class _Token(Value):
    header: str
    ends: float  # of Clock.monotonic


class Authority:
    """Authorization for one registry, with one user's credentials. Safe for concurrent threads."""

    def __init__(self, transport: Transport, clock: Clock, origin: Origin, credentials: Credentials | None) -> None:
        self._transport = transport
        self._clock = clock
        self._origin = origin
        self._credentials = credentials
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()
        self.offline = False  # whether to ask for an identity token
        self.identity_token = ""  # what login may keep instead of the password

    def header(self, scope: str) -> str:
        """What worked for this scope before, or ""."""
        with self._lock:
            token = self._tokens.get(scope)
            return token.header if token and token.ends > self._clock.monotonic() else ""

    def answer(self, challenges: Sequence[Challenge], scope: str, refused: str) -> str:
        """A new header that answers a 401; `refused` is the one that did not do. Raises RegistryError."""
        with self._lock:  # one at a time: the others find its token
            known = self._tokens.get(scope)
            if known and known.header != refused and known.ends > self._clock.monotonic():
                return known.header
            for challenge in challenges:
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    self._tokens[scope] = self._fetch(challenge, scope)
                    return self._tokens[scope].header
            for challenge in challenges:
                if challenge.scheme == "basic" and self._credentials and self._credentials.user:
                    header = self._credentials.basic
                    if header == refused:
                        break
                    self._tokens[scope] = _Token(header, float("inf"))
                    return header
            raise Unauthorized(
                "", why=self._why(challenges, refused), next=f"kist login {familiar_host(self._origin.name)}"
            )

    def _why(self, challenges: Sequence[Challenge], refused: str) -> str:
        if refused:
            return f"{self._origin.name} does not accept the user name and password"
        schemes = {challenge.scheme for challenge in challenges}
        if schemes and not schemes & {"basic", "bearer"}:
            return f"{self._origin.name} wants {shown(', '.join(sorted(schemes)))}, which kist does not speak"
        return f"{self._origin.name} wants a user name and a password"

    def _fetch(self, challenge: Challenge, scope: str) -> _Token:
        realm = challenge.parameters["realm"]
        origin = origin_of(realm)
        if origin.scheme != "https" and self._origin.scheme == "https":
            what = f"{self._origin.name} sends us for a token to {shown(realm)}"
            raise RegistryError(what, why="that is not encrypted", code="bad-realm")
        asked = challenge.parameters.get("scope", "").split()[:_SCOPES_MAX]
        scopes = list(dict.fromkeys([*asked, *(scope.split() if scope else [])]))
        service = challenge.parameters.get("service", "")
        credentials = self._credentials
        if credentials and credentials.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token, "service": service,
                    "client_id": _CLIENT_ID, "scope": " ".join(scopes)}  # fmt: skip
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._ask("POST", realm, headers, urlencode(form).encode())
        query = [("service", service)] if service else []
        query += [("scope", one) for one in scopes]
        headers = {}
        if credentials and credentials.user:
            headers["Authorization"] = credentials.basic
            query += [("account", credentials.user), ("client_id", _CLIENT_ID)]
            query += [("offline_token", "true")] if self.offline else []
        joint = "&" if urlsplit(realm).query else "?"
        return self._ask("GET", realm + (joint + urlencode(query, quote_via=quote) if query else ""), headers, b"")

    def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes) -> _Token:
        """No redirects: credentials go where the registry said, and no further."""
        with self._transport.request(method, url, headers, body) as response:
            data = response.read(_ANSWER_BYTES_MAX)
            host = response.origin.name
        if response.status in (401, 403):
            why = f"{host} does not accept " + ("the credentials" if self._credentials else "a client without a name")
            raise Unauthorized("", why=why, next=f"kist login {familiar_host(self._origin.name)}")
        if response.status >= 400:
            raise of_status(f"cannot get a token from {host}", host, response.status, data, -1)
        try:
            answer = loads(data, f"the answer of {host}")
        except InvalidInput as e:
            raise RegistryError(
                f"cannot get a token from {host}", why="its answer is not JSON", code="bad-answer"
            ) from e
        answer = answer if isinstance(answer, dict) else {}
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_MAX or not _TOKEN_CHARS.issuperset(token):
            why = "there is none in its answer, or one that cannot be sent"
            raise RegistryError(f"cannot get a token from {host}", why=why, code="bad-answer")
        if isinstance(refresh := answer.get("refresh_token"), str) and len(refresh) <= _TOKEN_MAX:
            self.identity_token = refresh
        life = answer.get("expires_in")
        life_s = float(life) if isinstance(life, int) and 0 < life < 10**6 else _LIFE_LEAST_S
        return _Token(f"Bearer {token}", self._clock.monotonic() + max(life_s * 0.9 - 5, 5))
