"""The client against a registry in this process: tokens, redirects, mirrors, limits."""

import base64
import json
import threading
from urllib.parse import parse_qs, urlsplit

import pytest

from kist.errors import InvalidInput, KistError, NotFound, RegistryError, Unsupported
from kist.registry.client import Credentials, Keychain
from kist.registry.hosts import Hosts, Rule
from kist.spec.image import INDEX, MANIFEST, Descriptor, Platform
from kist.spec.reference import parse_reference
from kist.value import replace
from registries import (
    QUICK,
    Blobs,
    FakeRegistry,
    Handler,
    TestClock,
    client,
    make_image,
    make_index,
    server,
)

AMD64 = Platform("amd64", "linux")
ANNA = Credentials("anna", "s3cret")


def registry() -> tuple[FakeRegistry, Descriptor]:
    blobs = Blobs()
    root = make_image(blobs, 1000, 2000)
    fake = FakeRegistry(blobs)
    fake.tag("latest", root)
    return fake, root


class TokenServer:
    """Gives tokens, and a registry that wants them."""

    def __init__(self, behind: FakeRegistry) -> None:
        self.behind = behind
        self.asked: list[dict[str, list[str]]] = []
        self.auth: list[str] = []
        self.extra: dict[str, object] = {}
        self.valid = True

    def answer(self, handler: Handler) -> None:
        url = urlsplit(handler.path)
        if url.path == "/token":
            query = parse_qs(url.query) | parse_qs(handler.body().decode())
            self.asked.append(query)
            self.auth.append(handler.headers.get("Authorization", ""))
            token = f"t{len(self.asked)}"
            handler.reply(200, json.dumps({"token": token, "expires_in": 300, **self.extra}).encode())
        elif self.valid and handler.headers.get("Authorization", "") == f"Bearer t{len(self.asked)}":
            self.behind.answer(handler)
        else:
            realm = f"http://{handler.headers['Host']}/token"
            scope = "repository:app:pull"
            challenge = f'Bearer realm="{realm}",service="tests",scope="{scope}"'
            handler.reply(401, b"{}", WWW_Authenticate=challenge)


def test_one_token_does_for_a_whole_pull() -> None:
    fake, root = registry()
    tokens = TokenServer(fake)
    with server(tokens.answer) as host, client(credentials=ANNA) as c:
        assert c.pull(parse_reference(f"{host}/app"), Blobs(), AMD64).root == root
    assert tokens.asked == [
        {"service": ["tests"], "scope": ["repository:app:pull"], "account": ["anna"], "client_id": ["kist"]}
    ]
    assert tokens.auth == ["Basic " + base64.b64encode(b"anna:s3cret").decode()]


def test_a_name_is_not_needed_for_a_token() -> None:
    fake, root = registry()
    tokens = TokenServer(fake)
    with server(tokens.answer) as host, client() as c:
        assert c.resolve(parse_reference(f"{host}/app")) == root
    assert tokens.auth == [""] and "account" not in tokens.asked[0]


def test_an_identity_token_gives_others() -> None:
    fake, _ = registry()
    tokens = TokenServer(fake)
    with server(tokens.answer) as host, client(credentials=Credentials("anna", "", "tok")) as c:
        c.resolve(parse_reference(f"{host}/app"))
    assert tokens.asked[0]["grant_type"] == ["refresh_token"] and tokens.asked[0]["refresh_token"] == ["tok"]
    assert tokens.auth == [""]


def test_a_token_that_ends_is_replaced() -> None:
    fake, _ = registry()
    tokens = TokenServer(fake)
    with server(tokens.answer) as host, client() as c:
        c.resolve(parse_reference(f"{host}/app"))
        tokens.asked.append({})  # the registry wants another from now on
        c.resolve(parse_reference(f"{host}/app"))
    assert len(tokens.asked) == 3


def test_a_token_that_does_not_do_is_not_asked_for_for_ever() -> None:
    tokens = TokenServer(registry()[0])
    tokens.valid = False
    with server(tokens.answer) as host, client(credentials=ANNA) as c, pytest.raises(RegistryError) as e:
        c.resolve(parse_reference(f"{host}/app"))
    assert e.value.code == "unauthorized" and len(tokens.asked) == 2
    assert "s3cret" not in str(e.value) and "t1" not in str(e.value)


@pytest.mark.parametrize("token", ["", None, 5, "a\r\nX: y", "x" * 70_000, "é"])
def test_a_token_that_cannot_be_sent_is_refused(token: object) -> None:
    tokens = TokenServer(registry()[0])
    tokens.extra = {"token": token}
    with server(tokens.answer) as host, client() as c, pytest.raises(RegistryError) as e:
        c.resolve(parse_reference(f"{host}/app"))
    assert e.value.code == "bad-answer"


def test_login_keeps_the_identity_token_instead_of_the_password(tmp_path) -> None:
    tokens = TokenServer(registry()[0])
    tokens.extra = {"refresh_token": "forever"}
    chain = Keychain([str(tmp_path / "c")])
    with server(tokens.answer) as host, client(keychain=chain) as c:
        c.login(f"http://{host}/v2/", ANNA)
        assert chain.find(host) == Credentials("anna", "", "forever")
    assert tokens.asked[0]["offline_token"] == ["true"] and "scope" in tokens.asked[0]


def test_login_wants_a_registry() -> None:
    with client() as c, pytest.raises(InvalidInput):
        c.login("not a host", ANNA)
    with server(lambda handler: handler.reply(404)) as host, client() as c, pytest.raises(RegistryError) as e:
        c.login(host, ANNA)
    assert "no registry" in e.value.why


# --- where credentials go


def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    fake, root = registry()
    seen: list[str] = []

    def elsewhere(handler: Handler) -> None:
        seen.append(handler.headers.get("Authorization", ""))
        fake.answer(handler)

    with server(elsewhere) as other:

        def answer(handler: Handler) -> None:
            if not handler.headers.get("Authorization"):
                handler.reply(401, WWW_Authenticate='Basic realm="x"')
            elif "/blobs/" in handler.path:
                handler.reply(307, Location=f"http://{other}{handler.path}")
            else:
                fake.answer(handler)

        with server(answer) as host, client(credentials=ANNA) as c:
            assert c.pull(parse_reference(f"{host}/app"), Blobs(), AMD64).root == root
    assert seen == [""] * 3


def test_another_host_that_wants_credentials_gets_none() -> None:
    seen: list[str] = []

    def elsewhere(handler: Handler) -> None:
        seen.append(handler.headers.get("Authorization", ""))
        handler.reply(401, WWW_Authenticate='Basic realm="x"')

    with server(elsewhere) as other:
        with server(lambda handler: handler.reply(307, Location=f"http://{other}/v2/")) as host:
            with client(credentials=ANNA) as c, pytest.raises(RegistryError) as e:
                c.resolve(parse_reference(f"{host}/app"))
    assert e.value.code == "unauthorized" and seen and set(seen) == {""}


def test_tags_come_in_pages_of_one_host() -> None:
    def answer(handler: Handler) -> None:
        if "last=b" in handler.path:
            handler.reply(200, b'{"tags": ["c", "../x", 5]}')
        elif "evil" in handler.path:
            handler.reply(200, b'{"tags": ["a"]}', Link='<http://localhost:1/v2/x>; rel="next"')
        elif "loop" in handler.path:
            handler.reply(200, b'{"tags": []}', Link=f'<{handler.path}>; rel="next"')
        else:
            handler.reply(200, b'{"tags": ["a", "b"]}', Link='</v2/app/tags/list?n=2&last=b>; rel="next"')

    with server(answer) as host, client() as c:
        assert c.tags(parse_reference(f"{host}/app")) == ["a", "b", "c"]
        with pytest.raises(RegistryError):
            c.tags(parse_reference(f"{host}/evil"))
        with pytest.raises(RegistryError, match="turn in a circle"):
            c.tags(parse_reference(f"{host}/loop"))


# --- mirrors


def test_a_mirror_is_asked_first_and_the_registry_when_that_fails() -> None:
    fake, root = registry()
    empty = FakeRegistry()
    with server(fake.answer) as host, server(empty.answer) as missing, server(fake.answer) as good:
        name = parse_reference(f"{host}/app")
        for mirror, hits in ((missing, True), (good, False), ("127.0.0.1:1", True)):
            fake.requests.clear()
            hosts = Hosts((Rule(host, host, mirrors=((f"{mirror}/copy", False, "all"),)),))
            with client(hosts=hosts) as c:
                assert c.pull(name, Blobs(), AMD64).root == root
            assert any(line.startswith("GET /v2/app/") for line in fake.requests) is hits
            assert any("/v2/copy/" in line for line in fake.requests) is (mirror == good)


# --- content


@pytest.mark.parametrize("media_type", [f"{MANIFEST}; charset=utf-8", "application/json", "", INDEX, "image/png",
                                        "application/vnd.docker.distribution.manifest.v1+prettyjws"])  # fmt: skip
def test_what_a_manifest_is_follows_from_its_media_type(media_type: str) -> None:
    fake, root = registry()

    def answer(handler: Handler) -> None:
        if "/manifests/" in handler.path:
            handler.reply(200, fake.blobs.whole[root.digest], Content_Type=media_type)
        else:
            fake.answer(handler)

    with server(answer) as host, client() as c:
        if media_type.startswith(MANIFEST) or media_type in ("application/json", ""):
            assert c.pull(parse_reference(f"{host}/app"), Blobs(), AMD64).root == root
        else:
            with pytest.raises((InvalidInput, Unsupported)) as e:
                c.pull(parse_reference(f"{host}/app"), Blobs(), AMD64)
            assert e.value.code in ("bad-image", "not-an-image") and "cannot pull" in e.value.what


def test_an_index_that_lies_about_a_manifest() -> None:
    blobs = Blobs()
    image = make_image(blobs, 10)
    fake = FakeRegistry(blobs)
    for change in (
        {"size": image.size + 1},
        {"size": 10**12},
        {"media_type": "application/vnd.oci.image.index.v1+json"},
    ):
        fake.tag("latest", make_index(blobs, (replace(image, **change), AMD64)))
        with server(fake.answer) as host, client() as c, pytest.raises(InvalidInput):
            c.pull(parse_reference(f"{host}/app"), Blobs(), AMD64)


def test_indexes_without_end() -> None:
    blobs = Blobs()
    root = make_image(blobs, 10)
    for _ in range(6):
        root = make_index(blobs, (root, AMD64))
    fake = FakeRegistry(blobs)
    fake.tag("latest", root)
    with server(fake.answer) as host, client() as c, pytest.raises(InvalidInput, match="too deeply"):
        c.pull(parse_reference(f"{host}/app"), Blobs(), AMD64)


def test_urls_of_layers_are_not_followed() -> None:
    blobs = Blobs()
    visited: list[str] = []
    with server(lambda handler: (visited.append(handler.path), handler.reply(200, b"x"))) as other:
        config = blobs.put(b"{}", "application/vnd.oci.image.config.v1+json")
        layer = {"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 1, "urls": [f"http://{other}/layer"]}
        document = {
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer],
            "config": {"mediaType": config.media_type, "digest": config.digest, "size": 2},
        }  # fmt: skip
        fake = FakeRegistry(blobs)
        fake.tag("latest", blobs.put(json.dumps(document).encode(), MANIFEST))
        with server(fake.answer) as host, client() as c, pytest.raises(NotFound):
            c.pull(parse_reference(f"{host}/app"), Blobs(), AMD64)
    assert visited == []


def test_two_pulls_at_once_fetch_each_blob_once() -> None:
    fake, _ = registry()
    got, errors = Blobs(), list[BaseException]()
    with server(fake.answer) as host:

        def pull() -> None:
            try:
                with client() as c:
                    c.pull(parse_reference(f"{host}/app"), got, AMD64)
            except BaseException as e:
                errors.append(e)

        threads = [threading.Thread(target=pull) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert sum("/blobs/" in line for line in fake.requests) == 3


def test_what_the_sink_raises_comes_through() -> None:
    fake, root = registry()

    class Full(Blobs):
        def ingest(self, descriptor: Descriptor) -> object:  # type: ignore[override]
            raise KistError("no space left", code="disk-full")

    with server(fake.answer) as host, client() as c:
        with pytest.raises(KistError, match="no space left"):
            c.pull(parse_reference(f"{host}/app"), Full(), AMD64)
        assert c.pull(parse_reference(f"{host}/app"), Blobs(), AMD64).root == root  # the client works on


# --- time


def test_retries_wait_longer_each_time_and_as_the_registry_says() -> None:
    clock, answers = TestClock(), iter([503, 503, 503, 503])
    fake, root = registry()

    def answer(handler: Handler) -> None:
        code = next(answers, 200)
        if code == 200 or handler.path == "/v2/":
            fake.answer(handler)
        else:
            handler.reply(code)

    with server(answer) as host, client(clock=clock, timing=replace(QUICK, backoff_s=0.5)) as c:
        assert c.resolve(parse_reference(f"{host}/app")) == root
    assert clock.waits == [0.5, 1, 2, 4]


@pytest.mark.parametrize(
    ("text", "waits"),
    [("5", [5.0]), ("Thu, 01 Jan 1970 00:16:45 GMT", [5.0]), ("Thu, 01 Jan 1970 00:00:00 GMT", [0.01]), ("x", [0.01])],
)
def test_retry_after(text: str, waits: list[float]) -> None:
    class At1000(TestClock):
        def now(self) -> float:
            return 1000

    clock, answers = At1000(), iter([429])
    fake, root = registry()

    def answer(handler: Handler) -> None:
        if next(answers, 0):
            handler.reply(429, Retry_After=text)
        else:
            fake.answer(handler)

    with server(answer) as host, client(clock=clock) as c:
        assert c.resolve(parse_reference(f"{host}/app")) == root
    assert clock.waits == waits


def test_a_registry_that_is_not_there() -> None:
    with client() as c, pytest.raises(RegistryError) as e:
        c.resolve(parse_reference("127.0.0.1:1/app"))
    assert e.value.code == "unreachable" and "127.0.0.1:1" in e.value.what


def test_a_proxy_is_used_for_other_hosts() -> None:
    lines: list[str] = []

    def answer(handler: Handler) -> None:
        lines.append(f"{handler.command} {handler.path} {handler.headers.get('Proxy-Authorization')}")
        handler.reply(502)

    hosts = Hosts(insecure=frozenset(["registry.invalid"]))
    with server(answer) as host:
        environ = {"HTTPS_PROXY": f"http://u:p@{host}", "HTTP_PROXY": f"http://u:p@{host}"}
        with client(environ=environ, hosts=hosts) as c, pytest.raises(RegistryError):
            c.resolve(parse_reference("registry.invalid/app"))
    assert lines and lines[0].startswith("CONNECT registry.invalid:443 Basic ")
