"""Docker's config.json, podman's auth.json, credential helpers."""

import base64
import json
import os
from pathlib import Path

import pytest

from kist.errors import InvalidInput, KistError
from kist.registry.credentials import Credentials, Keychain
from kist.registry.helpers import Helper


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def keychain(path: Path, document: object) -> Keychain:
    path.write_text(json.dumps(document))
    return Keychain([str(path)])


HUB = "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    ("key", "host", "repository", "found"),
    [
        (HUB, "registry-1.docker.io", "library/debian", True), ("docker.io", "registry-1.docker.io", "a/b", True),
        ("index.docker.io", "docker.io", "a/b", True), ("quay.io", "quay.io", "a/b", True),
        ("https://quay.io", "quay.io", "a/b", True), ("https://quay.io/v2/", "quay.io", "", True),
        ("http://quay.io/v1/", "quay.io", "", True), ("quay.io/team", "quay.io", "team/app", True),
        ("quay.io/team/app", "quay.io", "team/app", True), ("quay.io/team", "quay.io", "teams/app", False),
        ("quay.io/team/app", "quay.io", "team", False), ("quay.io", "evilquay.io", "", False),
        ("quay.io", "quay.io:443", "", False), ("quay.io:5000", "quay.io", "", False),
        ("docker.io/team", "registry-1.docker.io", "team/x", True),
        ("docker.io/team", "registry-1.docker.io", "o", False),
    ],
)  # fmt: skip
def test_the_key_that_fits(tmp_path: Path, key: str, host: str, repository: str, found: bool) -> None:
    chain = keychain(tmp_path / "c", {"auths": {key: {"auth": b64("anna:pass:word")}, "other": {"auth": b64("x:y")}}})
    assert chain.find(host, repository) == (Credentials("anna", "pass:word") if found else None)


def test_the_most_specific_key_wins_and_files_come_in_their_order(tmp_path: Path) -> None:
    first = tmp_path / "1"
    first.write_text(json.dumps({"auths": {"q.io": {"auth": b64("a:1")}, "q.io/t": {"auth": b64("b:2")}}}))
    second = tmp_path / "2"
    second.write_text(json.dumps({"auths": {"q.io": {"auth": b64("c:3")}, "r.io": {"auth": b64("d:4")}}}))
    chain = Keychain([str(tmp_path / "none"), str(first), str(second)])
    assert chain.find("q.io", "t/x") == Credentials("b", "2")
    assert chain.find("q.io", "u") == Credentials("a", "1")
    assert chain.find("r.io", "u") == Credentials("d", "4")


def test_identity_tokens_and_plain_fields(tmp_path: Path) -> None:
    chain = keychain(tmp_path / "c", {"auths": {"a": {"auth": b64("u:"), "identitytoken": "tok"},
                                                "b": {"username": "u", "password": "p"}}})  # fmt: skip
    assert chain.find("a") == Credentials("u", "", "tok")
    assert chain.find("b") == Credentials("u", "p")


def test_secrets_are_not_printed() -> None:
    assert "s3cret" not in repr(Credentials("anna", "s3cret", "s3cret"))


@pytest.mark.parametrize("document", ["[]", "{", '{"auths": {"a": {"auth": "!s3cret"}}}', '{"auths": {"a": "s3cret"}}'])
def test_a_file_that_is_broken_is_an_error_without_its_content(tmp_path: Path, document: str) -> None:
    (tmp_path / "c").write_text(document)
    with pytest.raises(InvalidInput) as e:
        Keychain([str(tmp_path / "c")]).find("a")
    assert "s3cret" not in str(e.value) and str(tmp_path / "c") in str(e.value)


def test_login_keeps_what_else_is_in_the_file(tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    real.write_text(json.dumps({"auths": {"x": {"auth": "eDp5"}}, "currentContext": "home"}))
    (tmp_path / "link").symlink_to(real)
    chain = Keychain([str(tmp_path / "link")])
    assert chain.store("quay.io", Credentials("anna", "s3cret")) == str(tmp_path / "link")
    document = json.loads(real.read_text())
    assert document == {
        "auths": {"x": {"auth": "eDp5"}, "quay.io": {"auth": b64("anna:s3cret")}}, "currentContext": "home",
    }  # fmt: skip
    assert (tmp_path / "link").is_symlink() and real.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) in (["link", "real.json"], ["real.json", "link"])
    chain.store("docker.io", Credentials("u", "", "tok"))
    assert json.loads(real.read_text())["auths"][HUB] == {"auth": b64("u:"), "identitytoken": "tok"}
    assert chain.find("registry-1.docker.io", "a/b") == Credentials("u", "", "tok")
    assert chain.erase("docker.io") and chain.erase("quay.io") and not chain.erase("quay.io")
    assert json.loads(real.read_text()) == {"auths": {"x": {"auth": "eDp5"}}, "currentContext": "home"}


def test_where_the_files_are() -> None:
    files = Keychain.default({"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/1"})._files
    assert files == ["/h/.docker/config.json", "/run/user/1/containers/auth.json", "/h/.config/containers/auth.json"]
    assert Keychain.default({"REGISTRY_AUTH_FILE": "/a", "HOME": "/h"})._files == ["/a"]
    assert Keychain.default({"DOCKER_CONFIG": "/d", "HOME": "/h"})._files[0] == "/d/config.json"
    with pytest.raises(KistError):
        Keychain.default({}).store("x", Credentials("a", "b"))


HELPER = """#!/bin/sh
case $1 in
get) read -r server
     case $server in
     *good*) cat "$STATE" || { echo "credentials not found"; exit 1; } ;;
     *token*) echo '{"ServerURL": "x", "Username": "<token>", "Secret": "tok"}' ;;
     *broken*) echo 's3cret, not JSON' ;;
     *large*) head -c 1000000 /dev/zero ;;
     *hang*) exec cat /dev/zero 3</dev/null >/dev/null ;;
     *) echo 'credentials not found in native keychain'; exit 1 ;;
     esac ;;
store) cat > "$STATE" ;;
erase) rm -f "$STATE" ;;
esac
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    program = tmp_path / "bin/docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(tmp_path / "state"))
    return "test"


def test_a_helper_keeps_the_secret(tmp_path: Path, helper: str) -> None:
    chain = keychain(tmp_path / "c", {"credHelpers": {"good.io": helper, "token.io": helper}})
    assert chain.store("good.io", Credentials("anna", 's3"cret')) == "docker-credential-test"
    assert json.loads((tmp_path / "c").read_text())["auths"] == {"good.io": {}}
    assert json.loads((tmp_path / "state").read_text()) == {
        "ServerURL": "good.io", "Username": "anna", "Secret": 's3"cret',
    }  # fmt: skip
    assert chain.find("good.io", "x") == Credentials("anna", 's3"cret')
    assert chain.find("token.io", "x") == Credentials(identity_token="tok")
    assert chain.find("other.io", "x") is None
    assert chain.erase("good.io")
    assert not (tmp_path / "state").exists()


def test_the_store_for_all_hosts(tmp_path: Path, helper: str) -> None:
    chain = keychain(tmp_path / "c", {"credsStore": helper, "auths": {"none.io": {}, "file.io": {"auth": b64("a:b")}}})
    assert chain.find("none.io") is None
    assert chain.find("file.io") == Credentials("a", "b")


@pytest.mark.parametrize("host", ["broken.io", "large.io", "hang.io"])
def test_a_helper_that_fails_is_an_error_without_the_secret(tmp_path: Path, helper: str, host: str) -> None:
    with pytest.raises(KistError) as e:
        Helper(helper, timeout_s=0.2 if "hang" in host else 60).get(host)
    assert e.value.code == "credential-helper" and "s3cret" not in str(e.value)


def test_a_helper_that_is_missing_or_no_name(tmp_path: Path) -> None:
    with pytest.raises(KistError) as e:
        Helper("surely-not-there").get("x")
    assert "not in PATH" in e.value.why
    for name in ("../x", "a b", "", "a/b"):
        with pytest.raises(InvalidInput):
            Helper(name)
