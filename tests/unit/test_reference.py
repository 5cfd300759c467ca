"""Names of images, as Docker reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput
from kist.spec.reference import parse_reference

DIGEST = "sha256:" + "a1" * 32
GOOD = {
    "debian": ("docker.io", "library/debian", "latest", ""),
    "debian:12": ("docker.io", "library/debian", "12", ""),
    "team/app": ("docker.io", "team/app", "latest", ""),
    "docker.io/debian": ("docker.io", "library/debian", "latest", ""),
    "docker.io/library/debian": ("docker.io", "library/debian", "latest", ""),
    "index.docker.io/team/app": ("docker.io", "team/app", "latest", ""),
    "quay.io/app": ("quay.io", "app", "latest", ""),
    "localhost/app": ("localhost", "app", "latest", ""),
    "localhost:5000": ("docker.io", "library/localhost", "5000", ""),
    "localhost:5000/app": ("localhost:5000", "app", "latest", ""),
    "localhost:5000/a/b/c:T.1-x_y": ("localhost:5000", "a/b/c", "T.1-x_y", ""),
    "127.0.0.1:5000/app:1": ("127.0.0.1:5000", "app", "1", ""),
    "[::1]:5000/app": ("[::1]:5000", "app", "latest", ""),
    "[fe80::1]/app": ("[fe80::1]", "app", "latest", ""),
    "Registry/app": ("Registry", "app", "latest", ""),
    f"debian@{DIGEST}": ("docker.io", "library/debian", "", DIGEST),
    f"debian:12@{DIGEST}": ("docker.io", "library/debian", "12", DIGEST),
    f"a.b:1/c@{DIGEST}": ("a.b:1", "c", "", DIGEST),
    "a__b/c--d/e.f": ("docker.io", "a__b/c--d/e.f", "latest", ""),
}
BAD = [
    "", ":", "@", "/", "a:", "a//b", "/a", "a/", "A", "a/B", "-a", "a-", "a..b", "a___b", "a_.b", "a b", "a\nb", "é",
    "a:-x", "a:.x", "a:" + "x" * 129, "x" * 256, "a@", "a@sha256:12", f"a@{DIGEST}0", f"a@{DIGEST.upper()}",
    "a@md5:" + "0" * 32, f"a@{DIGEST}@{DIGEST}", "a:1:2", "localhost:99999/a", "localhost:/a", "a.b:x/c", "a..b.c/d",
    "-a.b/c", "https://docker.io/debian", "docker://debian", "[::1/app", "[]/app", "[zz::]/app", "a" * 64, "../a.b/c",
    "a.b/../c", "a.b", "a\x00", "a.b:80:80/c", "0" * 64,
]  # fmt: skip
BAD.remove("a.b")  # a repository's name may have dots


@pytest.mark.parametrize("text", GOOD)
def test_a_name_is_completed(text: str) -> None:
    found = parse_reference(text)
    assert (found.domain, found.path, found.tag, found.digest) == GOOD[text]
    assert parse_reference(str(found)) == found
    assert parse_reference(found.familiar) == found


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_name_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(InvalidInput) as e:
        parse_reference(text)
    assert e.value.code in ("bad-reference", "bad-digest") and (e.value.why or e.value.path)
    assert len(str(e.value)) < 600


def test_the_error_says_which_part_is_wrong() -> None:
    with pytest.raises(InvalidInput, match="'Debian'"):
        parse_reference("team/Debian:12")
    with pytest.raises(InvalidInput, match="write quay"):
        parse_reference("https://quay.io/app")


def test_docker_s_short_forms() -> None:
    assert parse_reference("docker.io/library/debian").familiar == "debian:latest"
    assert parse_reference("docker.io/team/app:1").familiar == "team/app:1"
    assert parse_reference("quay.io/library/app:1").familiar == "quay.io/library/app:1"


@given(st.text(st.sampled_from("aB1:/@.-_[]é%\n "), max_size=30))
def test_any_text_is_a_name_that_reads_back_or_is_refused(text: str) -> None:
    try:
        found = parse_reference(text)
    except InvalidInput:
        return
    assert parse_reference(str(found)) == found
    assert ".." not in str(found) and str(found).isascii()
