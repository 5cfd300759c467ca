"""Whatever a registry or the way to it does: success, or one clear error; and nothing in the sink that is not whole."""

from collections.abc import Iterator

import pytest

import faults
from faults import Action, Rule, proxy, status
from kist.errors import KistError
from kist.registry.timing import Timing
from kist.spec.image import Descriptor, Platform
from kist.spec.reference import parse_reference
from kist.value import replace
from registries import QUICK, Blobs, TestClock, client, docker_registry, make_image, needs_registry

pytestmark = needs_registry
AMD64 = Platform("amd64", "linux")
BLOB, MANIFEST, MANIFEST_HEAD = "GET .*/blobs/", "GET .*/manifests/", "HEAD .*/manifests/"
PATIENT = replace(QUICK, attempts=3, idle_s=20, document_s=30, rate_window_s=30)
# Where the other side is slow: a fast one may be too slow for this on a loaded machine, so it gets more tries.
IMPATIENT = replace(QUICK, attempts=2, idle_s=0.3, document_s=0.5, rate_window_s=0.4)
IMPATIENT_AND_STUBBORN = replace(IMPATIENT, attempts=20)
_SLOW = ("stall", "drip", "endless 100")


class Setting:
    def __init__(self, host: str, blobs: Blobs, root: Descriptor) -> None:
        self.host, self.blobs, self.root = host, blobs, root


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with docker_registry(tmp_path_factory.mktemp("faults")) as host:
        blobs = Blobs()
        root = make_image(blobs, 100_000, 1_500_000, 1000)
        with client() as c:
            c.push(parse_reference(f"{host}/app"), blobs, root)
        yield Setting(host, blobs, root)


def timing(name: str, slow: Timing) -> Timing:
    return slow if name.startswith(_SLOW) else PATIENT


def pull(setting: Setting, got: Blobs, *rules: Rule, timing: Timing = PATIENT) -> list[float]:
    """The waits between tries."""
    clock = TestClock()
    with proxy(setting.host, *rules) as host, client(timing=timing, clock=clock, workers=2) as c:
        assert c.pull(parse_reference(f"{host}/app"), got, AMD64).root == setting.root
    return clock.waits


RECOVER: dict[str, tuple[str, Action]] = {
    "500": (BLOB, status(500)), "503 manifest": (MANIFEST, status(503)), "502 head": (MANIFEST_HEAD, status(502)),
    "429": (BLOB, status(429)), "429 with Retry-After": (MANIFEST, status(429, Retry_After="7")),
    "hang up": (BLOB, faults.hang_up), "hang up manifest": (MANIFEST, faults.hang_up), "cut": (BLOB, faults.cut),
    "cut manifest": (MANIFEST, faults.cut), "end early": (BLOB, faults.end_early), "shorter": (BLOB, faults.shorter),
    "longer": (BLOB, faults.longer), "corrupt": (BLOB, faults.corrupt), "corrupt manifest": (MANIFEST, faults.corrupt),
    "wrong digest": (BLOB, faults.wrong_digest), "stall": (BLOB, faults.stall), "stall half": (BLOB, faults.stall_half),
    "stall manifest": (MANIFEST, faults.stall), "drip": (BLOB, faults.drip), "drip manifest": (MANIFEST, faults.drip),
    "drip headers": (BLOB, faults.drip_headers), "garbage": (BLOB, faults.garbage),
}  # fmt: skip


@pytest.mark.parametrize("name", RECOVER)
def test_a_fault_that_passes_is_survived(setting: Setting, name: str) -> None:
    pattern, action = RECOVER[name]
    rule, got = Rule(pattern, action, times=1), Blobs()
    waits = pull(setting, got, rule, timing=timing(name, IMPATIENT_AND_STUBBORN))
    assert rule.hits == 1
    assert got.whole == setting.blobs.whole
    if "Retry-After" in name:
        assert waits == [7]


LASTING: dict[str, tuple[str, Action, str]] = {
    "401": (BLOB, status(401), "unauthorized"),
    "401 basic": (MANIFEST_HEAD, status(401, WWW_Authenticate='Basic realm="x"'), "unauthorized"),
    "401 unknown": (MANIFEST_HEAD, status(401, WWW_Authenticate="Negotiate"), "unauthorized"),
    "403": (BLOB, status(403), "unauthorized"), "404": (BLOB, status(404), "not-in-registry"),
    "429": (BLOB, status(429), "rate-limit"), "429 long": (BLOB, status(429, Retry_After="86400"), "rate-limit"),
    "500": (BLOB, status(500), "registry-unavailable"),
    "500 head": (MANIFEST_HEAD, status(500), "registry-unavailable"),
    "418": (BLOB, status(418, b"\x1b[2Jteapot"), "registry"), "hang up": (BLOB, faults.hang_up, "registry-unavailable"),
    "end early": (BLOB, faults.shorter, "truncated"), "longer": (BLOB, faults.longer, "blob-size"),
    "corrupt": (BLOB, faults.corrupt, "digest-mismatch"),
    "corrupt manifest": (MANIFEST, faults.corrupt, "digest-mismatch"),
    "wrong digest": (MANIFEST_HEAD, faults.wrong_digest, "not-in-registry"),
    "stall": (BLOB, faults.stall, "timeout"), "stall manifest": (MANIFEST, faults.stall, "timeout"),
    "drip": (BLOB, faults.drip, "timeout"), "drip manifest": (MANIFEST, faults.drip, "timeout"),
    "drip headers": (MANIFEST_HEAD, faults.drip_headers, "timeout"),
    "garbage": (MANIFEST_HEAD, faults.garbage, "registry-unavailable"),
    "endless blob": (BLOB, faults.endless_body, "blob-size"),
    "endless manifest": (MANIFEST, faults.endless_body, "too-large"),
    "endless headers": (MANIFEST_HEAD, faults.endless_headers, "bad-answer"),
    "endless line": (MANIFEST_HEAD, faults.endless_line, "bad-answer"),
    "endless 100": (MANIFEST_HEAD, faults.endless_continue, "timeout"),
    "redirects": (BLOB, status(307, Location="/v2/app/blobs/again"), "bad-redirect"),
    "redirect to a file": (BLOB, status(307, Location="file:///etc/passwd"), "bad-url"),
    "redirect with a name": (BLOB, status(307, Location="http://a:b@127.0.0.1/"), "bad-url"),
    "redirect nowhere": (BLOB, status(302), "bad-redirect"),
}  # fmt: skip


@pytest.mark.parametrize("name", LASTING)
def test_a_fault_that_stays_is_one_clear_error(setting: Setting, name: str) -> None:
    pattern, action, code = LASTING[name]
    got = Blobs()
    with pytest.raises(KistError) as e:
        pull(setting, got, Rule(pattern, action), timing=timing(name, IMPATIENT))
    error = e.value
    assert error.code == code, error
    assert error.what.startswith("cannot "), error
    assert error.why and "\x1b" not in str(error) and len(str(error)) < 700
    assert setting.root.digest not in got.whole  # manifests come last


def test_a_download_continues_where_it_was_cut(setting: Setting) -> None:
    ranges: list[str] = []

    def note(e: faults.Exchange) -> None:
        ranges.append(e.handler.headers.get("Range", ""))
        e.send(e.forward())

    layer = max(setting.blobs.whole, key=lambda digest: len(setting.blobs.whole[digest]))
    got = Blobs()
    pull(setting, got, Rule(layer, faults.end_early, times=1), Rule(layer, note))
    assert got.whole == setting.blobs.whole
    assert len(ranges) == 1 and ranges[0].startswith("bytes=") and ranges[0] != "bytes=0-"


@pytest.mark.parametrize("answer", [faults.ignore_range, faults.wrong_part, status(416)])
def test_a_continued_download_is_not_trusted_to_continue(setting: Setting, answer: Action) -> None:
    layer = max(setting.blobs.whole, key=lambda digest: len(setting.blobs.whole[digest]))
    got, then = Blobs(), Rule(layer, answer, times=1)
    pull(setting, got, Rule(layer, faults.end_early, times=1), then)
    assert got.whole == setting.blobs.whole and then.hits == 1


def test_what_another_try_left_is_verified(setting: Setting) -> None:
    layer = max(setting.blobs.whole, key=lambda digest: len(setting.blobs.whole[digest]))
    got = Blobs()
    got.partial[layer] = b"rubbish" * 1000
    pull(setting, got)
    assert got.whole == setting.blobs.whole


UPLOAD: dict[str, tuple[str, Action]] = {
    "500 begin": ("POST ", status(500)), "429": ("POST ", status(429, Retry_After="3")),
    "500 patch": ("PATCH ", status(500)), "500 after patch": ("PATCH ", faults.forward_then(500)),
    "hang up after patch": ("PATCH ", faults.forward_then_hang_up), "cut patch": ("PATCH ", faults.hang_up_midway),
    "forgotten": ("PATCH ", status(404)), "other range": ("PATCH ", status(416)),
    "500 put": ("PUT .*uploads", status(500)), "500 after put": ("PUT .*uploads", faults.forward_then(500)),
    "hang up after put": ("PUT .*uploads", faults.forward_then_hang_up),
    "500 manifest": ("PUT .*manifests", status(500)),
    "hang up manifest": ("PUT .*manifests", faults.forward_then_hang_up), "hang up head": ("HEAD ", faults.hang_up),
    "stall patch": ("PATCH ", faults.stall), "stall put": ("PUT .*uploads", faults.stall),
}  # fmt: skip


@pytest.mark.parametrize("name", UPLOAD)
def test_an_upload_survives_a_fault_that_passes(setting: Setting, name: str) -> None:
    pattern, action = UPLOAD[name]
    rule, got = Rule(pattern, action, times=1), Blobs()
    repository = f"up/{name.replace(' ', '-')}"
    given = timing(name, IMPATIENT_AND_STUBBORN)
    with proxy(setting.host, rule) as host, client(timing=given, workers=1) as c:
        c.push(parse_reference(f"{host}/{repository}"), setting.blobs, setting.root)
    assert rule.hits == 1
    with client() as c:
        c.pull(parse_reference(f"{setting.host}/{repository}"), got, AMD64)
    assert got.whole == setting.blobs.whole


UPLOAD_LASTING: dict[str, tuple[str, Action, str]] = {
    "401": ("POST ", status(401), "unauthorized"), "403": ("POST ", status(403), "unauthorized"),
    "500": ("PATCH ", status(500), "registry-unavailable"), "413": ("PATCH ", faults.refuse_midway, "registry"),
    "404": ("PATCH ", status(404), "registry-unavailable"), "400": ("PUT .*manifests", status(400), "registry"),
    "redirect": ("PUT .*manifests", status(307, Location="/elsewhere"), "bad-answer"),
    "nowhere": ("POST ", status(202), "bad-answer"), "stall": ("PATCH ", faults.stall, "timeout"),
    "other digest": ("PUT .*manifests", status(201, Docker_Content_Digest="sha256:" + "0" * 64), "digest-mismatch"),
}  # fmt: skip


@pytest.mark.parametrize("name", UPLOAD_LASTING)
def test_an_upload_that_cannot_be_is_one_clear_error(setting: Setting, name: str) -> None:
    pattern, action, code = UPLOAD_LASTING[name]
    repository = f"down/{name.replace(' ', '-')}"
    given = timing(name, IMPATIENT)
    with proxy(setting.host, Rule(pattern, action)) as host, client(timing=given, workers=2) as c:
        with pytest.raises(KistError) as e:
            c.push(parse_reference(f"{host}/{repository}"), setting.blobs, setting.root)
    assert (e.value.code, e.value.what[:11]) == (code, "cannot push"), e.value
    assert e.value.why
