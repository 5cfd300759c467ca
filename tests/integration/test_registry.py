"""Against Debian's docker-registry, and skopeo on the other side."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kist.errors import KistError, NotFound, RegistryError
from kist.registry.client import Credentials, Keychain
from kist.registry.hosts import Hosts
from kist.spec.image import DOCKER_CONFIG, DOCKER_INDEX, DOCKER_LAYER, DOCKER_MANIFEST, MANIFEST, Descriptor, Platform
from kist.spec.reference import parse_reference
from registries import (
    Blobs,
    client,
    docker_registry,
    make_certificates,
    make_image,
    make_index,
    needs_registry,
    needs_skopeo,
    skopeo,
    write_layout,
)

pytestmark = needs_registry
DOCKER_TYPES = (DOCKER_MANIFEST, DOCKER_CONFIG, f"{DOCKER_LAYER}.gzip")
AMD64, ARM64 = Platform("amd64", "linux"), Platform("arm64", "linux", "v8")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def same(pushed: Blobs, pulled: Blobs) -> bool:
    return bool(pulled.whole) and pulled.whole.items() <= pushed.whole.items()


@pytest.mark.parametrize("types", [None, DOCKER_TYPES], ids=["oci", "docker"])
def test_an_image_comes_back_as_it_was(host: str, types: tuple[str, str, str] | None) -> None:
    blobs, got = Blobs(), Blobs()
    root = make_image(blobs, 100, 3_000_000, 0, types=types)
    name = parse_reference(f"{host}/team/{'docker' if types else 'oci'}")
    states: dict[str, set[str]] = {}
    with client() as c:
        c.push(name, blobs, root, lambda d, state, _: states.setdefault(d.digest, set()).add(state))
        pulled = c.pull(name, got, AMD64)
        assert c.resolve(name) == root
    assert (pulled.root, pulled.manifest) == (root, root)
    assert got.whole == blobs.whole
    assert all("pushed" in seen for seen in states.values())


def test_an_index_gives_the_manifest_of_a_platform(host: str) -> None:
    blobs = Blobs()
    amd64, arm64 = make_image(blobs, 10), make_image(blobs, 20, architecture="arm64", variant="v8", types=DOCKER_TYPES)
    root = make_index(blobs, (amd64, AMD64), (arm64, ARM64), media_type=DOCKER_INDEX)
    name = parse_reference(f"{host}/team/index")
    with client() as c:
        c.push(name, blobs, root)
        got = Blobs()
        pulled = c.pull(name, got, ARM64)
        assert (pulled.root, pulled.manifest) == (root, arm64)
        assert amd64.digest not in got.whole and {root.digest, arm64.digest} <= got.whole.keys()
        assert c.resolve(name, AMD64) == amd64
        with pytest.raises(NotFound) as e:
            c.pull(name, Blobs(), Platform("s390x", "linux"))
        assert e.value.code == "no-platform" and "linux/arm64/v8" in e.value.why
        by_digest = parse_reference(f"{host}/team/index@{arm64.digest}")
        assert c.pull(by_digest, Blobs(), AMD64).manifest == arm64


@needs_skopeo
def test_skopeo_pulls_what_kist_pushed_and_pushes_what_kist_pulls(host: str, tmp_path: Path) -> None:
    blobs = Blobs()
    root = make_image(blobs, 1000, 2_000_000)
    with client() as c:
        c.push(parse_reference(f"{host}/a:kist"), blobs, root)
        skopeo("copy", "--src-tls-verify=false", f"docker://{host}/a:kist", f"oci:{tmp_path}/out:a")
        index = json.loads((tmp_path / "out/index.json").read_text())
        assert index["manifests"][0]["digest"] == root.digest
        skopeo("copy", "--dest-tls-verify=false", f"oci:{tmp_path}/out:a", f"docker://{host}/b:skopeo")
        got = Blobs()
        assert c.pull(parse_reference(f"{host}/b:skopeo"), got, AMD64).root == root
    assert got.whole == blobs.whole


@needs_skopeo
def test_an_index_from_skopeo(host: str, tmp_path: Path) -> None:
    blobs, got = Blobs(), Blobs()
    root = make_index(blobs, (make_image(blobs, 10), AMD64), (make_image(blobs, 20, architecture="arm64"), ARM64))
    write_layout(tmp_path / "in", blobs, root, "x")
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{tmp_path}/in:x", f"docker://{host}/c:index")
    with client() as c:
        assert c.pull(parse_reference(f"{host}/c:index"), got, ARM64).root == root
    assert same(blobs, got)


def test_what_is_there_is_not_sent_again_and_what_another_repository_has_is_mounted(host: str) -> None:
    blobs = Blobs()
    root = make_image(blobs, 50_000, 60_000)
    with client() as c:
        c.push(parse_reference(f"{host}/first"), blobs, root)
        again: dict[str, str] = {}
        c.push(parse_reference(f"{host}/first:again"), blobs, root, lambda d, s, _: again.update({d.digest: s}))
        mounted: dict[str, str] = {}
        c.push(parse_reference(f"{host}/second"), blobs, root, lambda d, s, _: mounted.update({d.digest: s}), ["first"])
        sent: dict[str, str] = {}
        c.push(parse_reference(f"{host}/third"), blobs, root, lambda d, s, _: sent.update({d.digest: s}), ["nowhere"])
    assert (set(again.values()), set(mounted.values()), set(sent.values())) == ({"exists"}, {"mounted"}, {"pushed"})


def test_what_the_sink_has_is_not_fetched_again(host: str) -> None:
    blobs, got = Blobs(), Blobs()
    name = parse_reference(f"{host}/twice")
    with client() as c:
        c.push(name, blobs, make_image(blobs, 1000, 2000))
        c.pull(name, got, AMD64)
        states: list[str] = []
        c.pull(name, got, AMD64, lambda d, state, _: states.append(state))
    assert states == ["exists"] * 3


def test_a_blob_goes_in_parts(host: str) -> None:
    blobs, got = Blobs(), Blobs()
    name = parse_reference(f"{host}/parts")
    root = make_image(blobs, 3_000_001)
    with client() as c:
        c.push(name, blobs, root, part_bytes=1 << 20)
        assert c.pull(name, got, AMD64).root == root
    assert got.whole == blobs.whole


def test_tags_and_referrers(host: str) -> None:
    blobs = Blobs()
    root = make_image(blobs, 10)
    with client() as c:
        for tag in ("one", "two"):
            c.push(parse_reference(f"{host}/tags:{tag}"), blobs, root)
        assert sorted(c.tags(parse_reference(f"{host}/tags"))) == ["one", "two"]  # Debian's registry sorts nothing
        with pytest.raises(NotFound):
            c.tags(parse_reference(f"{host}/nothing"))
        assert c.referrers(parse_reference(f"{host}/tags"), root.digest) == []
        empty = blobs.put(b"{}", "application/vnd.oci.empty.v1+json")
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "text/sbom",
            "config": {"mediaType": empty.media_type, "digest": empty.digest, "size": 2}, "layers": [],
            "subject": {"mediaType": root.media_type, "digest": root.digest, "size": root.size},
        }  # fmt: skip
        note = blobs.put(json.dumps(document).encode(), MANIFEST)
        for _ in range(2):
            c.push(parse_reference(f"{host}/tags@{note.digest}"), blobs, note)
        (found,) = c.referrers(parse_reference(f"{host}/tags"), root.digest, "text/sbom")
        assert found.digest == note.digest
        assert c.referrers(parse_reference(f"{host}/tags"), root.digest, "text/other") == []


def test_what_is_not_there(host: str) -> None:
    with client() as c:
        for name in ("none", "team/none:tag", f"none@sha256:{'0' * 64}"):
            with pytest.raises(NotFound) as e:
                c.pull(parse_reference(f"{host}/{name}"), Blobs(), AMD64)
            assert e.value.code == "not-in-registry" and "cannot pull" in e.value.what
        with pytest.raises(NotFound) as e:
            c.push(parse_reference(f"{host}/x"), Blobs(), Descriptor(MANIFEST, f"sha256:{'1' * 64}", 10))
        assert e.value.code == "no-blob"


# --- passwords


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("guarded")
    made = subprocess.run(["htpasswd", "-Bbn", "anna", "s3cret"], capture_output=True, check=True)
    (directory / "htpasswd").write_bytes(made.stdout)
    auth = f"auth:\n  htpasswd:\n    realm: tests\n    path: {directory}/htpasswd"
    with docker_registry(directory, auth) as running:
        yield running


def test_a_password_is_wanted(guarded: str, tmp_path: Path) -> None:
    blobs = Blobs()
    root = make_image(blobs, 2_000_000)
    name = parse_reference(f"{guarded}/app")
    keychain = Keychain([str(tmp_path / "config.json")])
    with client(keychain=keychain) as c:
        with pytest.raises(RegistryError) as e:
            c.pull(name, Blobs(), AMD64)
        assert (e.value.code, e.value.next) == ("unauthorized", f"kist login {guarded}")
        with pytest.raises(RegistryError) as e:
            c.login(guarded, Credentials("anna", "wrong"))
        assert e.value.code == "unauthorized" and "wrong" not in str(e.value)
        assert not (tmp_path / "config.json").exists()
        assert c.login(guarded, Credentials("anna", "s3cret")) == str(tmp_path / "config.json")
    with client(keychain=keychain) as c:
        c.push(name, blobs, root)
        assert c.pull(name, Blobs(), AMD64).root == root
        assert c.logout(guarded) and not c.logout(guarded)
    with client(keychain=keychain) as c, pytest.raises(RegistryError):
        c.pull(name, Blobs(), AMD64)


@needs_skopeo
def test_skopeo_and_kist_read_one_file(guarded: str, tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {guarded: {"auth": base64.b64encode(b"anna:s3cret").decode()}}}))
    blobs = Blobs()
    root = make_image(blobs, 10)
    with client(keychain=Keychain([str(file)])) as c:
        c.push(parse_reference(f"{guarded}/shared"), blobs, root)
    skopeo("copy", "--authfile", str(file), "--src-tls-verify=false", f"docker://{guarded}/shared",
           f"dir:{tmp_path}/out")  # fmt: skip
    with client(keychain=Keychain([str(tmp_path / "mine.json")])) as c:
        c.login(guarded, Credentials("anna", "s3cret"))
    skopeo("inspect", "--authfile", str(tmp_path / "mine.json"), "--tls-verify=false", f"docker://{guarded}/shared")


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def test_a_private_authority_is_trusted_where_certs_d_says_so(authority: Path, tmp_path: Path) -> None:
    blobs = Blobs()
    root = make_image(blobs, 2_000_000)
    tls = f"  tls:\n    certificate: {authority}/server.crt\n    key: {authority}/server.key"
    with docker_registry(tmp_path / "registry", tls) as host:
        name = parse_reference(f"{host}/app")
        with client() as c, pytest.raises(RegistryError) as e:
            c.push(name, blobs, root)
        assert e.value.code == "tls" and f"certs.d/{host}/ca.crt" in e.value.next
        directory = tmp_path / "certs.d" / host
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
        with client(hosts=Hosts(certificates=(str(tmp_path / "certs.d"),))) as c:
            c.push(name, blobs, root)
            assert c.pull(name, Blobs(), AMD64).root == root
        with client(hosts=Hosts(insecure=frozenset([host]))) as c:
            assert c.pull(name, Blobs(), AMD64).root == root


def test_a_client_certificate_is_shown(authority: Path, tmp_path: Path) -> None:
    tls = (
        f"  tls:\n    certificate: {authority}/server.crt\n    key: {authority}/server.key\n"
        f"    clientcas:\n      - {authority}/ca.crt"
    )
    blobs = Blobs()
    root = make_image(blobs, 10)
    with docker_registry(tmp_path / "registry", tls) as host:
        name = parse_reference(f"{host}/app")
        directory = tmp_path / "certs.d" / host
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
        hosts = Hosts(certificates=(str(tmp_path / "certs.d"),))
        with client(hosts=hosts) as c, pytest.raises(KistError) as e:
            c.push(name, blobs, root)
        assert e.value.code == "tls", e.value
        (directory / "client.cert").write_bytes((authority / "client.crt").read_bytes())
        with client(hosts=hosts) as c, pytest.raises(KistError) as e:
            c.push(name, blobs, root)
        assert "client.key" in e.value.next
        (directory / "client.key").write_bytes((authority / "client.key").read_bytes())
        with client(hosts=hosts) as c:
            c.push(name, blobs, root)
            assert c.pull(name, Blobs(), AMD64).root == root
