"""From a registry into a sink: manifests and blobs, each verified before it counts.

Source: OCI distribution-spec 1.1, "Pull".
"""

from __future__ import annotations

from functools import partial

from kist.errors import InvalidInput, KistError, NotFound, RegistryError, Unavailable, Unsupported
from kist.registry.content import Sink, Writer, digest_of, keep
from kist.registry.errors import shown
from kist.registry.group import run_all
from kist.registry.hosts import Remote
from kist.registry.session import Answer, Session
from kist.registry.transport import Response
from kist.spec.image import INDEXES, MANIFESTS, Descriptor, Index, Manifest, Platform, check_digest
from kist.spec.manifests import MANIFEST_BYTES_MAX, choose_platform, parse_manifest
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from kist.registry.content import Progress

    T = TypeVar("T")

ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
_DEPTH_MAX = 3  # an index of indexes
_CONFIG_BYTES_MAX = 8 << 20
_DAMAGED_MAX = 2  # whole blobs that are not what they should be, until we give up
_VAGUE = ("", "application/json", "text/plain", "application/octet-stream")
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"


class Pulled(Value):
    """`root` is what the name stands for, `manifest` what was chosen from it. All of `manifest` is in the sink."""

    root: Descriptor
    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]


class Puller:
    """One pull of one repository, from its mirrors or from the registry itself, whichever has the manifest."""

    def __init__(self, session: Session, remotes: Sequence[Remote], name: str, progress: Progress) -> None:
        self._session = session
        self._remotes = list(remotes)
        self._name = name
        self._progress = progress

    @property
    def _what(self) -> str:
        return f"cannot pull {self._name}"

    # --- manifests

    def resolve(self, target: str) -> Descriptor:
        """The descriptor of a tag or digest, unverified: what the registry says. Costs Docker Hub's limit nothing."""
        return self._first(lambda remote: self._resolve(remote, target))

    def _resolve(self, remote: Remote, target: str) -> Descriptor:
        if ":" in target:
            return self._get(remote, target)[0]
        url = self._session.url(remote, f"manifests/{target}")
        try:
            answer = self._session.ask(self._what, remote, "HEAD", url, {"Accept": ACCEPT}, accept=(405, 501))
        except KistError as e:
            if e.code != "not-in-registry":
                raise
            answer = None  # an answer to GET says why
        if answer is not None and answer.status < 400:
            digest, size = answer.header("Docker-Content-Digest"), answer.header("Content-Length")
            media_type = _media_type(answer)
            if digest and size.isdigit() and int(size) and media_type in (*INDEXES, *MANIFESTS):
                return Descriptor(media_type, check_digest(digest), int(size))
        descriptor, _ = self._get(remote, target)
        return descriptor

    def manifest(self, target: str) -> tuple[Descriptor, bytes]:
        """A manifest or index by tag or digest, verified as far as can be."""
        return self._first(lambda remote: self._get(remote, target))

    def _get(self, remote: Remote, target: str) -> tuple[Descriptor, bytes]:
        url = self._session.url(remote, f"manifests/{target}")
        for damaged in range(_DAMAGED_MAX):
            answer = self._session.ask(
                self._what, remote, "GET", url, {"Accept": ACCEPT}, most_bytes=MANIFEST_BYTES_MAX
            )
            said = answer.header("Docker-Content-Digest")
            wanted = target if ":" in target else (check_digest(said) if said else "")
            digest = digest_of(answer.body, wanted.partition(":")[0] or "sha256")
            if not wanted or digest == wanted:
                return Descriptor(self._type(answer), digest, len(answer.body)), answer.body
            if damaged + 1 < _DAMAGED_MAX:
                continue
        raise RegistryError(
            self._what, why=f"{remote.host} sends {digest} in place of the manifest {wanted}", code="digest-mismatch"
        )

    def _type(self, answer: Answer) -> str:
        media_type = _media_type(answer)
        if media_type in _VAGUE:
            from kist.codec import loads

            document = loads(answer.body, "the manifest")
            found = document.get("mediaType") if isinstance(document, dict) else None
            media_type = found if isinstance(found, str) else media_type
        if media_type.startswith(_SCHEMA1) or media_type not in (*INDEXES, *MANIFESTS):
            old = "its manifest is of Docker's first schema, which has no digests of its content; push it anew"
            why = old if media_type.startswith(_SCHEMA1) else f"its type is {shown(media_type)!r}"
            raise Unsupported(self._what, why=why, code="not-an-image")
        return media_type

    # --- all of it

    def choose(self, target: str, platform: Platform) -> Descriptor:
        """The manifest for a platform. Raises NotFound (no-platform)."""
        return self._documents(target, platform, None)[0][-1][0]

    def pull(self, target: str, sink: Sink, platform: Platform, workers: int) -> Pulled:
        """Everything that an image needs, for one platform. The manifests come last, so what has one is whole."""
        documents, manifest = self._documents(target, platform, sink)
        self._content(manifest, sink, workers)
        for descriptor, data in reversed(documents):
            keep(sink, descriptor, data)
        return Pulled(documents[0][0], documents[-1][0], manifest.config, manifest.layers)

    def _documents(
        self, target: str, platform: Platform, sink: Sink | None
    ) -> tuple[list[tuple[Descriptor, bytes]], Manifest]:
        """What the name stands for and, of an index, what was chosen from it; the last one is the manifest."""
        known = None if ":" in target else self.resolve(target)
        if known and sink and sink.has(known):
            chosen, data = known, sink.read(known, MANIFEST_BYTES_MAX)
        else:
            chosen, data = self.manifest(known.digest if known else target)
        documents = [(chosen, data)]
        while isinstance(parsed := self._parsed(chosen, data), Index):
            if len(documents) > _DEPTH_MAX:
                raise InvalidInput(self._what, why="its indexes are nested too deeply", code="bad-image")
            try:
                entry = choose_platform(parsed.manifests, platform)
            except NotFound as e:
                raise NotFound(f"{self._what}: {e.what}", why=e.why, next=e.next, code=e.code) from e
            chosen = replace(entry, annotations={}, data="", platform=None, urls=())
            data = sink.read(chosen, MANIFEST_BYTES_MAX) if sink and sink.has(chosen) else self._verified(chosen)
            documents.append((chosen, data))
        return documents, parsed

    def _verified(self, expected: Descriptor) -> bytes:
        """The manifest that an index speaks of."""
        if not 0 < expected.size <= MANIFEST_BYTES_MAX:
            raise InvalidInput(self._what, why=f"its manifest has {expected.size} bytes", code="too-large")
        found, data = self.manifest(expected.digest)
        if found.size != expected.size or found.media_type != expected.media_type:
            why = f"the index says {expected.size} bytes of {expected.media_type}, it has {found.size}"
            raise InvalidInput(self._what, why=f"{why} of {found.media_type}", code="bad-image")
        return data

    def _parsed(self, descriptor: Descriptor, data: bytes) -> Index | Manifest:
        try:
            return parse_manifest(descriptor.media_type, data)
        except InvalidInput as e:
            raise InvalidInput(f"{self._what}: {e.what}", why=e.why, code=e.code) from e

    def _content(self, manifest: Manifest, sink: Sink, workers: int) -> None:
        """The configuration and the layers, each once."""
        if manifest.config.size > _CONFIG_BYTES_MAX:
            why = f"its configuration has {manifest.config.size} bytes"
            raise InvalidInput(self._what, why=why, code="too-large")
        blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}
        tasks = [partial(self.fetch, replace(blob, annotations={}, data="", urls=()), sink) for blob in blobs.values()]
        run_all(tasks, self._session.transport, workers)

    # --- blobs

    def fetch(self, descriptor: Descriptor, sink: Sink) -> None:
        """One blob: continued where an earlier try ended, verified as a whole.

        Raises RegistryError (digest-mismatch, blob-size) when that is repeatedly not what the digest says, Unavailable,
        NotFound (not-in-registry), Unauthorized, and what the sink raises.
        """
        check_digest(descriptor.digest)
        with sink.ingest(descriptor) as writer:
            if writer.done:
                self._progress(descriptor, "exists", descriptor.size)
                return
            self._first(lambda remote: self._fetch(remote, descriptor, writer))
        self._progress(descriptor, "pulled", descriptor.size)

    def _fetch(self, remote: Remote, descriptor: Descriptor, writer: Writer) -> None:
        what = f"{self._what}: {descriptor.digest[:19]}"
        damaged = 0

        def attempt() -> None:
            nonlocal damaged
            try:
                if writer.offset < descriptor.size or not descriptor.size:
                    self._continue(what, remote, descriptor, writer)
                writer.commit()
            except InvalidInput as e:
                if e.code not in ("digest-mismatch", "blob-size"):
                    raise
                damaged += 1
                writer.restart()
                if damaged >= _DAMAGED_MAX:
                    why = f"{remote.host} sends something else: {e.why}"
                    raise RegistryError(what, why=why, next="tell whoever runs it", code=e.code) from e
                raise Unavailable(what, why=e.why, code=e.code) from e

        self._session.retry(
            what,
            attempt,
            attempts=2 if remote.mirror else 0,
            progress=lambda: writer.offset,
            note=lambda: self._progress(descriptor, "retrying", writer.offset),
        )

    def _continue(self, what: str, remote: Remote, descriptor: Descriptor, writer: Writer) -> None:
        headers = {"Range": f"bytes={writer.offset}-"} if writer.offset else {}
        url = self._session.url(remote, f"blobs/{descriptor.digest}")
        with self._session.open(what, remote, "GET", url, headers, accept=(416,)) as response:
            if response.status == 416 and headers:
                writer.restart()
                raise Unavailable(what, why=f"{remote.host} does not continue where we ended")
            if response.status not in (200, 206):
                raise RegistryError(what, why=f"{remote.host} answers {response.status}", code="bad-answer")
            if response.status == 206 and _begins(response) != writer.offset:
                writer.restart()
                raise Unavailable(what, why=f"{remote.host} sends another part than the one that was asked for")
            if response.status == 200 and writer.offset:
                writer.restart()  # it ignores Range: from the beginning, then
            self._copy(response, descriptor, writer)
        if writer.offset < descriptor.size:
            missing = descriptor.size - writer.offset
            raise Unavailable(what, why=f"{response.origin.name} ended {missing} bytes too early", code="truncated")

    def _copy(self, response: Response, descriptor: Descriptor, writer: Writer) -> None:
        for piece in response.pieces():
            if writer.offset + len(piece) > descriptor.size:
                writer.write(piece)  # says so
                return
            writer.write(piece)
            self._progress(descriptor, "downloading", writer.offset)

    # ---

    def _first(self, ask: Callable[[Remote], T]) -> T:
        """From the first remote that answers well; a mirror that fails is not asked again."""
        while True:
            remote = self._remotes[0]
            try:
                return ask(remote)
            except RegistryError as e:
                if not remote.mirror or e.code == "stopped":
                    raise
            except (NotFound, Unsupported, InvalidInput):
                if not remote.mirror:
                    raise
            self._remotes = [r for r in self._remotes if r != remote]


def _media_type(answer: Answer) -> str:
    return answer.header("Content-Type").partition(";")[0].strip().lower()


def _begins(response: Response) -> int:
    """Where the part begins. Source: RFC 9110, 14.4: `bytes 5-9/10`."""
    unit, _, rest = response.header("Content-Range").strip().partition(" ")
    begin = rest.partition("-")[0].strip()
    return int(begin) if unit == "bytes" and begin.isascii() and begin.isdigit() and len(begin) < 19 else -1
