"""OCI images: descriptors, indexes, manifests and configs, as values. Docker's media types are read as the same things.

What a document is follows from its media type alone (CVE-2021-41190). Source: opencontainers/image-spec 1.1:
descriptor.md, image-index.md, manifest.md, config.md.
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = (INDEX, DOCKER_INDEX)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
_HEX = {"sha256": 64, "sha384": 96, "sha512": 128}
_LOWER_HEX = frozenset("0123456789abcdef")


def check_digest(text: str, path: str = "digest") -> str:
    """`ALGORITHM:HEX`, of an algorithm we know; safe as a file name after this. Raises InvalidInput (CVE-2024-3727)."""
    if not is_digest(text):
        raise InvalidInput(
            f"{text[:80]!r} is no digest", path=path, next="sha256: and 64 hexadecimal digits", code="bad-digest"
        )
    return text


def is_digest(text: str) -> bool:
    algorithm, colon, value = text.partition(":")
    return bool(colon) and len(value) == _HEX.get(algorithm) and _LOWER_HEX.issuperset(value)


class _Camel(Value):
    case: ClassVar[str] = "camel"


class Platform(_Camel):
    """`architecture` and `os` as Go names them: amd64, arm64, linux."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    json_names: ClassVar[dict[str, str]] = {"os_version": "os.version", "os_features": "os.features"}


class Descriptor(_Camel):
    """Points to content by its digest. `urls` are read and never followed (CVE-2020-15157)."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
    data: str = ""  # the content itself, in base64
    artifact_type: str = ""
    platform: Platform | None = None


class Index(_Camel):
    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = {}


class Manifest(_Camel):
    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = {}


class _Pascal(Value):
    case: ClassVar[str] = "pascal"


class Healthcheck(_Pascal):
    """`test`: ("NONE",), ("CMD", ...) or ("CMD-SHELL", line). Times in nanoseconds; 0: inherited."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class SavedImage(_Pascal):
    """An image in the manifest.json of `docker save`; paths are members of the archive."""

    config: str
    repo_tags: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


class Empty(Value):
    """The value of a set's keys, as Go writes sets."""


class ContainerConfig(_Pascal):
    """How a container of the image runs. Healthcheck, Shell, OnBuild and ArgsEscaped are Docker's."""

    user: str = ""
    exposed_ports: Mapping[str, Empty] = {}
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: Mapping[str, Empty] = {}
    working_dir: str = ""
    labels: Mapping[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    args_escaped: bool = False


class RootFs(Value):
    """`diff_ids`: digests of the uncompressed layers, the lowest first."""

    type: str
    diff_ids: tuple[str, ...]


class History(Value):
    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(Value):
    architecture: str
    os: str
    rootfs: RootFs
    created: str = ""
    author: str = ""
    variant: str = ""
    config: ContainerConfig | None = None
    history: tuple[History, ...] = ()
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    json_names: ClassVar[dict[str, str]] = {"os_version": "os.version", "os_features": "os.features"}
