"""Image names, and what a word stands for among the images."""

import pytest

from kist.errors import Conflict, InvalidInput, NotFound
from kist.spec.image import Descriptor
from kist.store.layout import Named, find, named, unnamed
from kist.store.names import chosen_name, full_name, name_of, split_name


@pytest.mark.parametrize(
    ("text", "short", "full"),
    [
        ("debian", "debian:latest", "docker.io/library/debian:latest"),
        ("debian:bookworm", "debian:bookworm", "docker.io/library/debian:bookworm"),
        ("docker.io/library/debian", "debian:latest", "docker.io/library/debian:latest"),
        ("index.docker.io/team/app:1", "team/app:1", "docker.io/team/app:1"),
        ("team/app", "team/app:latest", "docker.io/team/app:latest"),
        ("quay.io/team/app:v1.0_x-y", "quay.io/team/app:v1.0_x-y", "quay.io/team/app:v1.0_x-y"),
        ("localhost/box", "localhost/box:latest", "localhost/box:latest"),
        ("localhost:5000/box", "localhost:5000/box:latest", "localhost:5000/box:latest"),
        ("127.0.0.1:5000/a/b/c:t", "127.0.0.1:5000/a/b/c:t", "127.0.0.1:5000/a/b/c:t"),
        ("Registry.Example/a", "Registry.Example/a:latest", "Registry.Example/a:latest"),
        ("a__b/c-d.e", "a__b/c-d.e:latest", "docker.io/a__b/c-d.e:latest"),
    ],
)
def test_names(text: str, short: str, full: str) -> None:
    assert chosen_name(text) == short
    assert full_name(short) == full
    assert chosen_name(short) == chosen_name(full) == short
    assert ":".join(split_name(short)) == short


def test_a_digest_counts_for_more_than_a_tag() -> None:
    digest = f"sha256:{'1' * 64}"
    assert name_of(f"docker.io/library/a:1@{digest}") == f"a@{digest}"
    assert split_name(f"localhost:5000/a@{digest}") == ("localhost:5000/a", "")


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", ":a", "A", "a b", "a//b", "/a", "a/", "-a", "a-", "a..b", "a:b:c", "a:-x", "a:" + "x" * 129,
     "a" * 256, "host", "host:1", "library/host", "a@sha256:" + "0" * 64, "../a", "a/../b", "a\n", "ä", "a/B",
     "a\tb", "docker.io/", "docker.io//a",
     "exa_mple.com:1/a", "e.com:99999999/a"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(InvalidInput):
        chosen_name(text)


def entry(name: str, number: int) -> Named:
    digest = f"sha256:{number:064x}"
    return Named(name, Descriptor("m", digest, 1), digest)


IDS = {entry("", n).manifest: f"sha256:{word}".ljust(71, "0") for n, word in enumerate(("abcdef12", "abc999", "fff"))}
ENTRIES = [entry("a:latest", 0), entry("b:1", 0), entry("c:latest", 1), entry("", 2)]
ENTRIES += [entry(f"d@{ENTRIES[0].manifest}", 0)]
FIRST = ["a:latest", "b:1", f"d@{ENTRIES[0].manifest}"]  # the names of one image


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a:latest"]), ("a:latest", ["a:latest"]), ("docker.io/library/b:1", ["b:1"]),
        ("abcd", FIRST), ("sha256:abcd", FIRST), ("fff", [""]), ("abc9", ["c:latest"]),
        (ENTRIES[2].manifest, ["c:latest"]), (f"c@{ENTRIES[2].manifest}", ["c:latest"]),
        (f"c:other@{ENTRIES[2].manifest}", ["c:latest"]), (f"d:1@{ENTRIES[4].manifest}", FIRST[2:]),
    ],
)  # fmt: skip
def test_what_a_word_stands_for(text: str, expected: list[str]) -> None:
    assert [found.name for found in find(ENTRIES, text, IDS.__getitem__)] == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [("abc", Conflict), ("nothing", NotFound), ("sha256:000", NotFound), (f"a@{ENTRIES[2].manifest}", NotFound)],
)
def test_what_it_does_not_stand_for(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        find(ENTRIES, text, IDS.__getitem__)


@pytest.mark.parametrize(
    ("text", "near"), [("aa", "a:latest"), ("b:2", "b:1"), ("cc:latest", "c:latest"), ("zzz", "kist images")]
)
def test_the_nearest_name(text: str, near: str) -> None:
    with pytest.raises(NotFound) as e:
        find(ENTRIES, text, IDS.__getitem__)
    assert near in e.value.next


def test_names_go_over_to_other_images() -> None:
    after = named(ENTRIES, entry("c:latest", 0))
    assert entry("c:latest", 0) in after
    assert entry("", 1) in after  # it has lost its only name, and stays
    assert len(named(ENTRIES, entry("a:latest", 0))) == len(ENTRIES)  # the same again
    assert entry("", 0) not in named(ENTRIES, entry("a:latest", 1))  # it has another one
    assert named(after, entry("z:1", 1)).count(entry("", 1)) == 0  # a name takes the place of none
    with pytest.raises(Conflict):
        named(ENTRIES, entry("c:latest", 0), replace=False)
    assert unnamed(ENTRIES, [ENTRIES[0]]) == ENTRIES[1:]
