"""Manifests that are not what they say, and the choice of a platform."""

import json

import pytest

from kist.errors import InvalidInput, NotFound, Unsupported
from kist.spec.image import DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor, Index, Manifest, Platform
from kist.spec.manifests import choose_platform, parse_manifest, parse_platform, platform_words

DIGEST = "sha256:" + "a1" * 32
BLOB = {"mediaType": "x", "digest": DIGEST, "size": 3}
GOOD: dict[str, object] = {"schemaVersion": 2, "mediaType": MANIFEST, "config": BLOB, "layers": [BLOB]}


def test_documents() -> None:
    assert isinstance(parse_manifest(MANIFEST, json.dumps(GOOD).encode()), Manifest)
    index = {"schemaVersion": 2, "manifests": [BLOB]}
    assert isinstance(parse_manifest(INDEX, json.dumps(index).encode()), Index)


@pytest.mark.parametrize(
    "change",
    [
        {"manifests": []}, {"mediaType": DOCKER_MANIFEST}, {"mediaType": 5}, {"fsLayers": []}, {"layers": None},
        {"config": {**BLOB, "digest": "sha256:../../etc/passwd"}}, {"layers": [{**BLOB, "size": -1}]},
        {"layers": [BLOB] * 1001}, {"layers": "x"}, {"config": []},
    ],
)  # fmt: skip
def test_what_is_ambiguous_or_malformed_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        parse_manifest(MANIFEST, json.dumps(GOOD | change).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_manifest(MANIFEST, data)


def test_other_types_are_no_images() -> None:
    with pytest.raises(Unsupported):
        parse_manifest("application/vnd.docker.distribution.manifest.v1+json", b"{}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("linux/amd64", "linux/amd64"), ("amd64", "linux/amd64"), ("linux/arm/v7", "linux/arm/v7"),
        ("linux/aarch64", "linux/arm64"), ("LINUX/X86_64", "linux/amd64"), ("linux/armhf", "linux/arm/v7"),
    ],
)  # fmt: skip
def test_platforms(text: str, words: str) -> None:
    assert platform_words(parse_platform(text)) == words


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/a b", "linux/../x"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_platform(text)


def entry(platform: str, digit: str) -> Descriptor:
    os, architecture, *variant = platform.split("/") if platform else ("", "")
    has = Platform(architecture, os, *variant) if platform else None
    return Descriptor(MANIFEST, "sha256:" + digit * 64, 3, platform=has)


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"], 2),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64/v8", ["linux/arm64/v9", "linux/arm64"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], 1),
        ("linux/arm", ["linux/arm/v5", "linux/arm/v7"], 1),
        ("linux/s390x", ["", "linux/amd64"], 0),
        ("linux/amd64", ["", "linux/amd64"], 1),
        ("linux/amd64", ["unknown/unknown", "windows/amd64"], None),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/amd64", [], None),
    ],
)
def test_the_best_variant_that_the_machine_runs(wanted: str, there: list[str], chosen: int | None) -> None:
    entries = [entry(text, str(i)) for i, text in enumerate(there)]
    if chosen is None:
        with pytest.raises(NotFound) as e:
            choose_platform(entries, parse_platform(wanted))
        assert e.value.code == "no-platform" and "unknown" not in str(e.value)
    else:
        assert choose_platform(entries, parse_platform(wanted)) == entries[chosen]
