"""The registry client: resolve, pull, fetch, push, tags, referrers, login. What other rooms use of this one.

    with Client() as client:
        pulled = client.pull(parse_reference("debian:12"), BlobStore())

Every wait has an end (timing.py), every input a limit; credentials go to the registry that they are for and to the
token server that it names; only digests decide what content is.
"""

from __future__ import annotations

import os

from kist.errors import InvalidInput, RegistryError
from kist.registry.content import Sink, Source, no_progress
from kist.registry.credentials import Credentials, Keychain
from kist.registry.hosts import Hosts, Remote, read_hosts
from kist.registry.origin import origin_of
from kist.registry.pull import Pulled, Puller
from kist.registry.session import Answer, Session
from kist.registry.timing import Clock, Timing
from kist.registry.transport import Transport
from kist.spec.image import Descriptor, Index, Platform, check_digest
from kist.spec.manifests import MANIFEST_BYTES_MAX, parse_manifest, parse_platform
from kist.spec.reference import Reference, is_domain, is_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from kist.registry.content import Progress

__all__ = ["Client", "Credentials", "Keychain", "Pulled"]

_WORKERS = 4
_TAGS_MAX = 200_000
_PAGES_MAX = 2_000


def host_platform() -> Platform:
    """What this machine runs."""
    return parse_platform(f"linux/{os.uname().machine}")


class Client:
    """Exchanges with registries, for one user. One call at a time; each uses several connections. A context manager.

    Without arguments: the credentials, certificates, mirrors and proxies that Docker and podman would use.
    Every method raises RegistryError (unreachable, tls, timeout, rate-limit, registry-unavailable, unauthorized,
    digest-mismatch, bad-answer, ...), NotFound (not-in-registry), InvalidInput, Refused (registry-blocked).
    """

    def __init__(
        self,
        *,
        credentials: Credentials | None = None,
        keychain: Keychain | None = None,
        hosts: Hosts | None = None,
        environ: Mapping[str, str] | None = None,
        timing: Timing | None = None,
        clock: Clock | None = None,
        workers: int = _WORKERS,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._hosts = read_hosts(environ) if hosts is None else hosts
        self._keychain = keychain or Keychain.default(environ)
        self._credentials = credentials
        self._workers = workers
        self._timing, self._clock = timing or Timing(), clock or Clock()
        self._transport = Transport(self._hosts, environ, self._timing, self._clock)
        self._session = Session(self._transport, self._timing, self._clock, self._find)

    def _find(self, host: str, repository: str) -> Credentials | None:
        return self._credentials or self._keychain.find(host, repository)

    # --- pull

    def resolve(self, reference: Reference, platform: Platform | None = None) -> Descriptor:
        """What a name stands for now; with a platform, the manifest for it. Raises NotFound (no-platform)."""
        puller = self._puller(reference, no_progress)
        if platform is None:
            return puller.resolve(reference.target)
        return puller.choose(reference.target, platform)

    def manifest(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """The manifest or index itself, as the registry has it."""
        return self._puller(reference, no_progress).manifest(reference.target)

    def pull(
        self, reference: Reference, sink: Sink, platform: Platform | None = None, progress: Progress = no_progress
    ) -> Pulled:
        """All of an image into the sink, for one platform, by default this machine's; what the sink has is not fetched.

        Blobs come first and manifests last. Nothing gets a name: that is for the caller.
        """
        return self._puller(reference, progress).pull(
            reference.target, sink, platform or host_platform(), self._workers
        )

    def fetch(self, reference: Reference, descriptor: Descriptor, sink: Sink, progress: Progress = no_progress) -> None:
        """One blob of the repository into the sink."""
        self._puller(reference, progress).fetch(descriptor, sink)

    def _puller(self, reference: Reference, progress: Progress) -> Puller:
        return Puller(self._session, self._hosts.remotes(reference), reference.familiar, progress)

    # --- push

    def push(
        self,
        reference: Reference,
        source: Source,
        descriptor: Descriptor,
        progress: Progress = no_progress,
        mounts: Sequence[str] = (),
        part_bytes: int = 0,
    ) -> None:
        """All of a manifest or index from the source to the registry, then its name. What is there is not sent.

        `mounts`: repositories of the same registry, without its host, that may have some of the blobs.
        `part_bytes`: at most as many in one request; 0: kist chooses. Raises NotFound (no-blob).
        """
        from kist.registry.push import Pusher

        (remote,) = self._hosts.remotes(reference, push=True)
        given = {"part_bytes": part_bytes} if part_bytes else {}
        pusher = Pusher(self._session, remote, reference.familiar, source, progress, mounts, **given)
        pusher.push(descriptor, reference.target, self._workers)

    # --- lists

    def tags(self, reference: Reference) -> list[str]:
        """All tags of a repository, as the registry orders them; what is no tag is left out."""
        remote, what = self._own(reference), f"cannot list the tags of {reference.repository}"
        found: list[str] = []
        url = self._session.url(remote, "tags/list?n=1000")
        seen = set[str]()
        while url not in seen and len(seen) < _PAGES_MAX:
            seen.add(url)
            answer = self._session.ask(what, remote, "GET", url, most_bytes=MANIFEST_BYTES_MAX)
            tags = _object(answer, what).get("tags") or []
            if not isinstance(tags, list):
                raise RegistryError(what, why="what the registry sends is no list", code="bad-answer")
            found += [tag for tag in tags if isinstance(tag, str) and is_tag(tag)]
            url = _next(answer, what)
            if not url:
                return found
            if len(found) > _TAGS_MAX:
                break
        raise RegistryError(what, why="its pages turn in a circle, or there are too many", code="too-large")

    def referrers(self, reference: Reference, digest: str, artifact_type: str = "") -> list[Descriptor]:
        """What refers to a manifest (signatures, bills of material): by the referrers API, else by the tag for it."""
        check_digest(digest)
        remote, what = self._own(reference), f"cannot list what refers to {reference.repository}@{digest[:19]}"
        url = self._session.url(remote, f"referrers/{digest}")
        found: list[Descriptor] = []
        seen = set[str]()
        while url and url not in seen and len(seen) < _PAGES_MAX and len(found) <= _TAGS_MAX:
            seen.add(url)
            answer = self._session.ask(what, remote, "GET", url, most_bytes=MANIFEST_BYTES_MAX, accept=(404,))
            if answer.status == 404:
                from kist.registry.push import referrers_tag

                found = list(referrers_tag(self._session, remote, what, digest)[0].manifests)
                break
            parsed = parse_manifest(answer.header("Content-Type").partition(";")[0].strip(), answer.body)
            if not isinstance(parsed, Index):
                raise RegistryError(what, why="what the registry sends is no index", code="bad-answer")
            found += parsed.manifests
            url = _next(answer, what)
        return [entry for entry in found if not artifact_type or entry.artifact_type == artifact_type]

    def _own(self, reference: Reference) -> Remote:
        return self._hosts.remotes(reference, push=True)[0]

    # --- login

    def login(self, host: str, credentials: Credentials) -> str:
        """Try them, and keep them if the registry accepts them. Where they are kept. Raises Unauthorized."""
        host, remote = self._host(host)
        what = f"cannot log in to {host}"
        trial = Session(self._transport, self._timing, self._clock, lambda *_: credentials)
        authority = trial.authority(remote)
        authority.offline = True
        url = f"{trial.base(remote)}/v2/"
        answer = trial.ask(what, remote, "GET", url, accept=(404,))
        if answer.status == 404:
            raise RegistryError(what, why=f"{remote.host} has no registry's API", code="bad-answer")
        token = authority.identity_token
        kept = Credentials(credentials.user, identity_token=token) if token else credentials
        return self._keychain.store(host, kept)

    def logout(self, host: str) -> bool:
        """Forget the credentials; whether there were any."""
        return self._keychain.erase(self._host(host)[0])

    def _host(self, text: str) -> tuple[str, Remote]:
        host = text.partition("://")[2] if "://" in text else text
        host = host.rstrip("/").removesuffix("/v1").removesuffix("/v2") or "docker.io"
        if not is_domain(host):
            raise InvalidInput(f"{text[:100]!r} is not a registry", next="write HOST[:PORT]", code="bad-reference")
        return host, self._hosts.remote(host)

    # ---

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _object(answer: Answer, what: str) -> dict[str, object]:
    from kist.codec import loads

    document = loads(answer.body, "what the registry sends")
    if not isinstance(document, dict):
        raise RegistryError(what, why="what the registry sends is no JSON object", code="bad-answer")
    return document


def _next(answer: Answer, what: str) -> str:
    """The next page, of the same registry. Source: RFC 8288; distribution-spec, "Content Discovery"."""
    from urllib.parse import urljoin

    target, _, relation = answer.header("Link").partition(";")
    if not target.strip().startswith("<") or "next" not in relation:
        return ""
    url = urljoin(answer.url, target.strip().strip("<>"))
    if origin_of(url) != origin_of(answer.url):
        raise RegistryError(what, why="the next page of the list is at another host", code="bad-answer")
    return url
