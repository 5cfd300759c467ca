"""registries.conf, certs.d, daemon.json, proxies, challenges."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput, Refused, Unsupported
from kist.registry.challenge import Challenge, parse_challenges
from kist.registry.hosts import Hosts, Remote, parse_daemon, parse_rules, plain_allowed, read_hosts
from kist.registry.proxies import Proxy, proxy_for
from kist.spec.reference import parse_reference

RULES = b"""
unqualified-search-registries = ["quay.io"]
[[registry]]
prefix = "docker.io"
location = "docker.io"
[[registry.mirror]]
location = "mirror.local:5000/hub"
insecure = true
[[registry.mirror]]
location = "digests.local"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "quay.io/team"
location = "inside.local/copies"
[[registry]]
location = "plain.local"
insecure = true
[[registry]]
prefix = "*.bad.org"
blocked = true
"""


def remotes(name: str, push: bool = False) -> list[str]:
    hosts = Hosts(tuple(parse_rules(RULES, "test")))
    return [f"{r.host}/{r.repository}" + "!" * r.insecure for r in hosts.remotes(parse_reference(name), push=push)]


def test_where_a_name_leads() -> None:
    digest = "@sha256:" + "0" * 64
    hub = "registry-1.docker.io/library/debian"
    assert remotes("debian") == ["mirror.local:5000/hub/library/debian!", hub]
    assert remotes("debian" + digest) == ["mirror.local:5000/hub/library/debian!", "digests.local/library/debian", hub]
    assert remotes("debian", push=True) == [hub]
    assert remotes("quay.io/team/app") == ["inside.local/copies/app"]
    assert remotes("quay.io/teams/app") == ["quay.io/teams/app"]
    assert remotes("plain.local/app") == ["plain.local/app!"]
    assert remotes("plain.local:5000/app") == ["plain.local:5000/app!"]
    with pytest.raises(Refused):
        remotes("x.bad.org/app")


@pytest.mark.parametrize("text", ["x", "[registry]\na = 1", "[[registry]]", '[[registry]]\nlocation = 1',
                                  '[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "a b"'])  # fmt: skip
def test_a_registries_conf_that_is_broken(text: str) -> None:
    with pytest.raises(InvalidInput, match="the-file"):
        parse_rules(text.encode(), "the-file")


def test_docker_s_daemon_json() -> None:
    text = b'{"registry-mirrors": ["https://m.local", "http://p.local:5000/", "a b"], "insecure-registries": ["i:1"]}'
    assert parse_daemon(text, "f") == ((("m.local", False, "all"), ("p.local:5000", True, "all")), frozenset(["i:1"]))


def test_the_files_of_a_user(tmp_path: Path) -> None:
    conf = tmp_path / ".config/containers/registries.conf"
    (tmp_path / ".config/containers/registries.conf.d").mkdir(parents=True)
    conf.write_text('[[registry]]\nlocation = "a.local"\n')
    (tmp_path / ".config/containers/registries.conf.d/1.conf").write_text(
        '[[registry]]\nlocation = "a.local"\ninsecure = true\n'
    )
    hosts = read_hosts({"HOME": str(tmp_path)})
    assert hosts.remote("a.local").insecure
    certificates = tmp_path / ".config/containers/certs.d/a.local:5000"
    certificates.mkdir(parents=True)
    for name in ("ca.crt", "client.cert", "client.key", "README"):
        (certificates / name).touch()
    trust = hosts.trust("a.local:5000")
    assert trust.authorities == (f"{certificates}/ca.crt",)
    assert trust.pairs == ((f"{certificates}/client.cert", f"{certificates}/client.key"),)
    assert hosts.trust("a.local").authorities == () and hosts.trust("../a").authorities == ()


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1:1", True), ("127.9.9.9", True), ("[::1]:5000", True),
        ("[::1]", True), ("10.0.0.1:5000", False), ("registry.local", False), ("localhost.evil.org", False),
        ("127.0.0.1.evil.org", False),
    ],
)  # fmt: skip
def test_plain_http_is_for_loopback(host: str, allowed: bool) -> None:
    assert plain_allowed(Remote(host, "")) is allowed


@pytest.mark.parametrize(
    ("environ", "host", "proxy"),
    [
        ({}, "quay.io", None), ({"HTTPS_PROXY": "http://p:3128"}, "quay.io", Proxy("p", 3128)),
        ({"https_proxy": "p:3128"}, "quay.io", Proxy("p", 3128)), ({"HTTP_PROXY": "p"}, "quay.io", None),
        ({"HTTPS_PROXY": "http://u:p%40ss@p"}, "quay.io", Proxy("p", 80, "u", "p@ss")),
        ({"HTTPS_PROXY": "p"}, "localhost", None), ({"HTTPS_PROXY": "p"}, "127.0.0.1", None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "quay.io"}, "quay.io", None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "quay.io"}, "cdn.quay.io", None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "quay.io"}, "notquay.io", Proxy("p", 80)),
        ({"HTTPS_PROXY": "p", "NO_PROXY": ".quay.io"}, "quay.io", Proxy("p", 80)),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "x, *.quay.io"}, "cdn.quay.io", None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "quay.io:444"}, "quay.io", Proxy("p", 80)),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "quay.io:443"}, "quay.io", None),
        ({"HTTPS_PROXY": "p", "NO_PROXY": "10.0.0.0/8"}, "10.1.2.3", None),
        ({"HTTPS_PROXY": "p", "no_proxy": "*"}, "quay.io", None),
    ],
)  # fmt: skip
def test_proxies(environ: dict[str, str], host: str, proxy: Proxy | None) -> None:
    assert proxy_for("https", host, 443, environ) == proxy


def test_proxies_that_cannot_be() -> None:
    with pytest.raises(Unsupported):
        proxy_for("https", "quay.io", 443, {"HTTPS_PROXY": "socks5://p"})
    with pytest.raises(InvalidInput) as e:
        proxy_for("https", "quay.io", 443, {"HTTPS_PROXY": "http://u:s3cret@p:port"})
    assert "s3cret" not in str(e.value)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (['Bearer realm="https://a/t",service="s",scope="repository:x:pull,push"'],
         [Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:x:pull,push"})]),
        (['Basic realm="a, b=\\"c\\""'], [Challenge("basic", {"realm": 'a, b="c"'})]),
        (['Bearer realm=x, Basic realm="y"'],
         [Challenge("bearer", {"realm": "x"}), Challenge("basic", {"realm": "y"})]),
        (["Negotiate", "BASIC Realm = r"], [Challenge("negotiate"), Challenge("basic", {"realm": "r"})]),
        (["Negotiate, Basic realm=r"], [Challenge("negotiate"), Challenge("basic", {"realm": "r"})]),
        (['Basic realm="open'], [Challenge("basic")]), ([""], []), (["=x"], []), ([], []),
        (['Bearer realm="1", realm="2"'], [Challenge("bearer", {"realm": "1"})]),
    ],
)  # fmt: skip
def test_challenges(headers: list[str], found: list[Challenge]) -> None:
    assert parse_challenges(headers) == found


@given(st.text(max_size=60))
def test_any_header_can_be_read(text: str) -> None:
    parse_challenges([text, f"Bearer {text}"])
