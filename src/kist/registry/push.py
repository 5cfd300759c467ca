"""From a source into a registry: blobs first, then manifests, the name last.

Source: OCI distribution-spec 1.1, "Push". Small blobs go in one PUT; others as streams by PATCH, and continue
where the registry says that a broken one ended.
"""

from __future__ import annotations

import os
from functools import partial
from urllib.parse import quote, urljoin

from kist.errors import KistError, NotFound, RegistryError, Unavailable
from kist.registry.content import Source, digest_of
from kist.registry.group import run_all
from kist.registry.hosts import Remote
from kist.registry.origin import origin_of
from kist.registry.session import Session
from kist.registry.transport import FileBody, Response
from kist.spec.image import INDEX, INDEXES, MANIFESTS, Descriptor, Index, Manifest
from kist.spec.manifests import MANIFEST_BYTES_MAX, parse_manifest
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kist.registry.content import Progress

_MONOLITHIC_BYTES = 1 << 20
_PART_BYTES = 64 << 20  # of a blob between two reports of how much is there; registries take any
_ERROR_BYTES_MAX = 64 << 10


class Pusher:
    """One push to one repository. `mounts`: other repositories of the registry that may have some blobs already."""

    def __init__(
        self,
        session: Session,
        remote: Remote,
        name: str,
        source: Source,
        progress: Progress,
        mounts: Sequence[str] = (),
        part_bytes: int = _PART_BYTES,
    ) -> None:
        self._session = session
        self._remote = remote
        self._name = name
        self._source = source
        self._progress = progress
        self._mounts = [repository for repository in mounts if repository != remote.repository]
        self._part_bytes = part_bytes

    @property
    def _what(self) -> str:
        return f"cannot push {self._name}"

    def push(self, root: Descriptor, target: str, workers: int) -> None:
        """All of an image or index, under a tag or its digest. Raises NotFound (no-blob) for what the source lacks."""
        manifests: list[tuple[Descriptor, bytes]] = []
        blobs: dict[str, Descriptor] = {}
        self._gather(root, manifests, blobs)
        tasks = [partial(self.blob, blob) for blob in blobs.values()]
        run_all(tasks, self._session.transport, workers)
        for descriptor, data in manifests:
            self.manifest(descriptor, data, target if descriptor.digest == root.digest else descriptor.digest)

    def _gather(
        self, root: Descriptor, manifests: list[tuple[Descriptor, bytes]], blobs: dict[str, Descriptor]
    ) -> None:
        """Manifests, those that others refer to first; and all that these refer to."""
        if not self._source.has(root):
            raise NotFound(f"{self._what}: {root.digest} is not here", next="push one platform of it", code="no-blob")
        data = self._source.read(root, MANIFEST_BYTES_MAX)
        parsed = parse_manifest(root.media_type, data)
        if isinstance(parsed, Index):
            for child in parsed.manifests:
                if child.media_type in (*INDEXES, *MANIFESTS):
                    if all(known.digest != child.digest for known, _ in manifests):
                        self._gather(child, manifests, blobs)
                else:
                    blobs[child.digest] = child
        else:
            blobs.update({blob.digest: blob for blob in (parsed.config, *parsed.layers)})
        manifests.append((root, data))

    # --- manifests

    def manifest(self, descriptor: Descriptor, data: bytes, target: str) -> None:
        """Put a manifest under a tag or its digest. With a subject, the registry, or else we, note it as a referrer."""
        url = self._session.url(self._remote, f"manifests/{target}")
        headers = {"Content-Type": descriptor.media_type}
        answer = self._session.ask(self._what, self._remote, "PUT", url, headers, data, push=True)
        said = answer.header("Docker-Content-Digest")
        if said.startswith(descriptor.digest.partition(":")[0]) and said != descriptor.digest:
            why = f"{self._remote.host} kept {said} in place of {descriptor.digest}"
            raise RegistryError(self._what, why=why, code="digest-mismatch")
        parsed = parse_manifest(descriptor.media_type, data)
        if parsed.subject is not None and not answer.header("OCI-Subject"):
            self._refer(descriptor, parsed, parsed.subject)

    def _refer(self, descriptor: Descriptor, parsed: Index | Manifest, subject: Descriptor) -> None:
        """For registries without the referrers API: the index that the subject's tag stands for. Not atomic, as the
        specification says."""
        index, _ = referrers_tag(self._session, self._remote, self._what, subject.digest)
        if any(entry.digest == descriptor.digest for entry in index.manifests):
            return
        kind = parsed.artifact_type or (parsed.config.media_type if isinstance(parsed, Manifest) else "")
        entry = replace(descriptor, artifact_type=kind, annotations=parsed.annotations)
        from kist.codec import dumps

        data = dumps(replace(index, manifests=(*index.manifests, entry))).encode()
        made = Descriptor(INDEX, digest_of(data), len(data))
        self.manifest(made, data, _tag(subject.digest))

    # --- blobs

    def blob(self, descriptor: Descriptor) -> None:
        """One blob, unless it is there, or in another repository from where the registry takes it."""
        what = f"{self._what}: {descriptor.digest[:19]}"
        url = self._session.url(self._remote, f"blobs/{descriptor.digest}")
        answer = self._session.ask(what, self._remote, "HEAD", url, push=True, accept=(404,))
        if answer.status == 200:
            self._progress(descriptor, "exists", descriptor.size)
            return
        if not self._source.has(descriptor):
            raise NotFound(f"{what}: it is not here", next="pull or load the image again", code="no-blob")
        location = self._mount(what, descriptor)
        if location is None:
            self._progress(descriptor, "mounted", descriptor.size)
            return
        fd = self._source.open(descriptor.digest)
        try:
            _Upload(self._session, self._remote, what, descriptor, fd, location, self._progress, self._part_bytes).run()
        finally:
            os.close(fd)
        self._progress(descriptor, "pushed", descriptor.size)

    def _mount(self, what: str, descriptor: Descriptor) -> str | None:
        """None: it was mounted. Else "", or where an upload has begun."""
        for repository in self._mounts:
            query = f"?mount={quote(descriptor.digest, safe='')}&from={quote(repository, safe='')}"
            url = self._session.url(self._remote, f"blobs/uploads/{query}")
            try:
                answer = self._session.ask(what, self._remote, "POST", url, push=True)
            except KistError as e:
                if isinstance(e, Unavailable):
                    raise
                continue  # not allowed to read from there, or no such repository
            if answer.status == 201:
                return None
            if answer.status == 202 and answer.header("Location"):
                return urljoin(answer.url, answer.header("Location"))
        return ""


class _Upload:
    """One blob on its way out. `location` changes with every answer, `offset` is what the registry has."""

    def __init__(
        self,
        session: Session,
        remote: Remote,
        what: str,
        descriptor: Descriptor,
        fd: int,
        location: str,
        progress: Progress,
        part_bytes: int,
    ) -> None:
        self._session = session
        self._remote = remote
        self._what = what
        self._descriptor = descriptor
        self._fd = fd
        self._location = location
        self._progress = progress
        self._part_bytes = part_bytes
        self._offset = 0
        self._begun = bool(location)
        self._broken = False  # we do not know what the registry has

    def run(self) -> None:
        self._session.retry(
            self._what,
            self._attempt,
            progress=lambda: self._offset,
            note=lambda: self._progress(self._descriptor, "retrying", self._offset),
        )

    def _attempt(self) -> None:
        try:
            if not self._begun:
                self._begin()
            elif self._broken:
                self._look()
            self._broken = True
            self._send()
        except NotFound as e:  # the registry forgot the upload
            self._begun = False
            raise Unavailable(self._what, why=e.why) from e
        except RegistryError as e:
            if e.code == "upload-range":
                self._begun = False
                raise Unavailable(self._what, why=e.why) from e
            raise

    def _begin(self) -> None:
        self._offset = 0
        url = self._session.url(self._remote, "blobs/uploads/")
        with self._open("POST", url) as response:
            self._follow(response)
        self._begun, self._broken = True, False

    def _look(self) -> None:
        """Ask how much is there."""
        with self._open("GET", self._location) as response:
            self._offset = self._there(response)
            self._follow(response)
        self._broken = False

    def _send(self) -> None:
        size = self._descriptor.size
        rest = b"" if size > _MONOLITHIC_BYTES or self._offset else FileBody(self._fd, 0, size)
        while rest == b"" and self._offset < size:
            part = min(self._part_bytes, size - self._offset)
            headers = {"Content-Type": "application/octet-stream"}
            if self._offset or part < size:
                headers["Content-Range"] = f"{self._offset}-{self._offset + part - 1}"
            body = _Counted(self._fd, self._offset, part, self._sent)
            with self._open("PATCH", self._location, headers, body) as response:
                there = self._there(response, self._offset + part)
                self._follow(response)
            if there <= self._offset:
                raise Unavailable(self._what, why=f"{self._remote.host} took none of it")
            self._offset = there
        joint = "&" if "?" in self._location else "?"
        url = f"{self._location}{joint}digest={quote(self._descriptor.digest, safe='')}"
        headers = {"Content-Type": "application/octet-stream"}
        with self._open("PUT", url, headers, rest) as response:
            response.read(_ERROR_BYTES_MAX)

    def _sent(self, count: int) -> None:
        self._progress(self._descriptor, "uploading", count)

    def _open(self, method: str, url: str, headers: dict[str, str] | None = None,
              body: bytes | FileBody = b"") -> Response:  # fmt: skip
        response = self._session.open(self._what, self._remote, method, url, headers, body, push=True, accept=(416,))
        if response.status == 416:
            response.close()
            raise RegistryError(self._what, why=f"{self._remote.host} has another part of it", code="upload-range")
        return response

    def _follow(self, response: Response) -> None:
        location = response.header("Location")
        if location:
            moved = urljoin(response.url, location)
            if response.origin.scheme == "https" and origin_of(moved).scheme != "https":
                raise RegistryError(self._what, why="the upload goes on without encryption", code="bad-redirect")
            self._location = moved
        elif not self._location:
            raise RegistryError(self._what, why=f"{self._remote.host} does not say where to", code="bad-answer")
        response.read(_ERROR_BYTES_MAX)

    def _there(self, response: Response, default: int = 0) -> int:
        """`Range: 0-499`: 500 bytes are there. Registries say 0-0 for none, and for one byte."""
        first, _, last = response.header("Range").removeprefix("bytes=").partition("-")
        if first != "0" or not (last.isascii() and last.isdigit()) or len(last) > 18:
            return default
        found = int(last) + 1 if int(last) else 0
        return found if found <= self._descriptor.size else 0


class _Counted(FileBody):
    """A body that says how far into the file it is."""

    tell: Callable[[int], object]

    def pieces(self) -> Iterator[bytes]:
        at = self.offset
        for piece in super().pieces():
            yield piece
            at += len(piece)
            self.tell(at)


# --- referrers


def _tag(digest: str) -> str:
    """Source: distribution-spec, "Referrers Tag Schema"."""
    algorithm, _, value = digest.partition(":")
    return f"{algorithm[:32]}-{value[:64]}"


def referrers_tag(session: Session, remote: Remote, what: str, digest: str) -> tuple[Index, bool]:
    """The index that notes who refers to a digest, kept under a tag; and whether it is there."""
    url = session.url(remote, f"manifests/{_tag(digest)}")
    answer = session.ask(what, remote, "GET", url, {"Accept": INDEX}, most_bytes=MANIFEST_BYTES_MAX, accept=(404,))
    if answer.status == 404:
        return Index(2, (), INDEX), False
    parsed = parse_manifest(answer.header("Content-Type").partition(";")[0].strip(), answer.body)
    if not isinstance(parsed, Index):
        raise RegistryError(what, why=f"{_tag(digest)} is not an index", code="bad-answer")
    return parsed, True
