"""Requests to registries: authorised, redirected, tried again."""

from __future__ import annotations

import threading
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

from kist.errors import KistError, RegistryError, Unauthorized, Unavailable
from kist.registry.challenge import parse_challenges
from kist.registry.credentials import Credentials
from kist.registry.errors import Stopped, of_status, shown
from kist.registry.hosts import Remote, plain_allowed
from kist.registry.origin import Origin, origin_of
from kist.registry.timing import Clock, Timing
from kist.registry.tokens import Authority
from kist.registry.transport import FileBody, Response, Transport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    T = TypeVar("T")

_REDIRECTS_MAX = 5
_ERROR_BYTES_MAX = 64 << 10
_REDIRECTS = (301, 302, 303, 307, 308)


class Answer:
    """An answer that was read as a whole."""

    def __init__(self, response: Response, body: bytes) -> None:
        self.status = response.status
        self.url = response.url
        self.header = response.header
        self.body = body


class Session:
    """One user's exchanges with any registries. Safe for concurrent threads."""

    def __init__(
        self,
        transport: Transport,
        timing: Timing,
        clock: Clock,
        credentials: Callable[[str, str], Credentials | None],
    ) -> None:
        self.transport = transport
        self._timing = timing
        self._clock = clock
        self._credentials = credentials
        self._lock = threading.Lock()
        self._bases: dict[str, str] = {}
        self._authorities: dict[tuple[Origin, str], Authority] = {}

    # --- where

    def base(self, remote: Remote) -> str:
        """https://HOST, or http:// for one that may and does not speak TLS. Raises as Transport.request."""
        with self._lock:
            if remote.host not in self._bases:
                if remote.insecure:
                    self.transport.trust_any(remote.host)
                plain = plain_allowed(remote) and not self.transport.speaks_tls(remote.host)
                self._bases[remote.host] = f"http://{remote.host}" if plain else f"https://{remote.host}"
            return self._bases[remote.host]

    def url(self, remote: Remote, path: str) -> str:
        return f"{self.base(remote)}/v2/{remote.repository}/{path}"

    def authority(self, remote: Remote) -> Authority:
        """The keeper of this repository's tokens: podman's files may have credentials for one repository alone."""
        origin = origin_of(self.base(remote))
        with self._lock:
            key = (origin, remote.repository)
            if key not in self._authorities:
                found = self._credentials(remote.host, remote.repository)
                self._authorities[key] = Authority(self.transport, self._clock, origin, found)
            return self._authorities[key]

    # --- one request

    def open(
        self,
        what: str,
        remote: Remote,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | FileBody = b"",
        *,
        push: bool = False,
        accept: Sequence[int] = (),
    ) -> Response:
        """The answer, below 400 or one of `accept`; close it. Authorised if need be; GET and HEAD follow redirects.

        `what` begins the error: "cannot pull debian:12". Raises Unauthorized, NotFound (not-in-registry), Unavailable,
        RegistryError, KistError.
        """
        authority = self.authority(remote)
        home = origin_of(self.base(remote))
        scope = f"repository:{remote.repository}:{'pull,push' if push else 'pull'}" if remote.repository else ""
        header, answered, redirects = authority.header(scope), 0, 0
        while True:
            at_home = origin_of(url) == home  # credentials never leave the registry
            sent = dict(headers or {}) | ({"Authorization": header} if header and at_home else {})
            response = self.transport.request(method, url, sent, body)
            try:
                if response.status == 401 and at_home and answered < 2:
                    answered += 1
                    header = self._answer(what, authority, response, scope, sent.get("Authorization", ""))
                elif response.status in _REDIRECTS and method in ("GET", "HEAD"):
                    redirects += 1
                    url = self._redirect(what, response, redirects)
                elif response.status < 400 or response.status in accept:
                    if response.status in _REDIRECTS:
                        raise RegistryError(what, why=f"{remote.host} redirects a {method}", code="bad-answer")
                    return response
                else:
                    raise self._error(what, response)
            except BaseException:
                response.close()
                raise
            response.close()

    def _answer(self, what: str, authority: Authority, response: Response, scope: str, refused: str) -> str:
        try:
            challenges = parse_challenges(response.headers("WWW-Authenticate"))
            response.read(_ERROR_BYTES_MAX)  # so that the connection can be used again
            return authority.answer(challenges, scope, refused)
        except Unauthorized as e:
            raise Unauthorized(what, why=e.why, next=e.next) from e

    def _redirect(self, what: str, response: Response, count: int) -> str:
        to = urljoin(response.url, response.header("Location"))
        if count > _REDIRECTS_MAX or not response.header("Location"):
            raise RegistryError(what, why=f"{response.origin.name} redirects too often or nowhere", code="bad-redirect")
        if response.origin.scheme == "https" and origin_of(to).scheme != "https":
            why = f"{response.origin.name} redirects to {shown(to)}, which is not encrypted"
            raise RegistryError(what, why=why, code="bad-redirect")
        if response.length and response.length > _ERROR_BYTES_MAX:
            return to
        response.read(_ERROR_BYTES_MAX)
        return to

    def _error(self, what: str, response: Response) -> KistError:
        try:
            data = response.read(_ERROR_BYTES_MAX)
        except RegistryError:
            data = b""
        return of_status(what, response.origin.name, response.status, data, self._retry_after_s(response))

    def _retry_after_s(self, response: Response) -> float:
        """Seconds, or a date; -1: it does not say. Source: RFC 9110, 10.2.3."""
        text = response.header("Retry-After").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            when: float = parsedate_to_datetime(text).timestamp()
            return max(0.0, when - self._clock.now())
        except (ValueError, OverflowError):
            return -1

    # --- again and again

    def ask(
        self,
        what: str,
        remote: Remote,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        most_bytes: int = _ERROR_BYTES_MAX,
        push: bool = False,
        accept: Sequence[int] = (),
    ) -> Answer:
        """As `open`, tried again, and the body read as a whole."""

        def once() -> Answer:
            with self.open(what, remote, method, url, headers, body, push=push, accept=accept) as response:
                return Answer(response, response.read(most_bytes))

        return self.retry(what, once, attempts=2 if remote.mirror else 0)

    def retry(
        self, what: str, attempt: Callable[[], T], *, attempts: int = 0, progress: Callable[[], int] | None = None,
        note: Callable[[], object] | None = None,
    ) -> T:  # fmt: skip
        """What `attempt` returns, tried again while it raises Unavailable; in the end that is raised, with `what`.

        `progress` counts bytes: when more of them came, the tries are counted anew. `note` is told of each new try.
        """
        most, tries, before = attempts or self._timing.attempts, 0, progress() if progress else 0
        while True:
            try:
                return attempt()
            except Stopped:
                raise
            except Unavailable as e:
                if progress and progress() - before >= self._timing.progress_bytes:
                    tries, before = 0, progress()
                tries += 1
                wait_s = self._wait_s(tries, e)
                if tries >= most or wait_s > self._timing.retry_after_most_s:
                    raise self._given_up(what, e, tries, wait_s) from e
            if note:
                note()
            self._clock.wait(self.transport.stop, wait_s)
            if self.transport.stop.is_set():
                raise Stopped("stopped")

    def _wait_s(self, tries: int, error: Unavailable) -> float:
        own = min(self._timing.backoff_s * float(2 ** (tries - 1)), self._timing.backoff_most_s) * self._clock.jitter()
        return max(own, error.retry_after_s)

    def _given_up(self, what: str, error: Unavailable, tries: int, wait_s: float) -> Unavailable:
        why = error.why if error.what == what else f"{error.what}: {error.why}".removesuffix(": ")
        if wait_s > self._timing.retry_after_most_s:
            why += f"; it asks to wait {wait_s:.0f} seconds"
        elif tries > 1:
            why += f"; tried {tries} times"
        return Unavailable(what, why=why, next=error.next, code=error.code, retry_after_s=error.retry_after_s)
