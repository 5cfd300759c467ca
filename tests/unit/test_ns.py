"""`kist ns` and what it compares."""

import os
from pathlib import Path

import pytest

from kist.codec import loads
from kist.engine import ns
from kist.engine.containers import Config, Container, Containers
from kist.engine.ns import ISOLATES, Comparison, Namespace, compare, find_pid
from kist.errors import InvalidInput, NotFound
from kist.faces.cli import __main__ as cli
from kist.plan.request import RunRequest


def test_own_namespaces_are_the_kernels() -> None:
    comparison = compare(os.getpid())
    assert comparison.pid == os.getpid()
    for row in comparison.namespaces:
        link = f"/proc/self/ns/{row.name}"
        assert f"{row.name}:[{row.process}]" == (os.readlink(link) if os.path.lexists(link) else f"{row.name}:[0]")
    assert [row.name for row in comparison.namespaces] == list(ISOLATES)


def test_without_a_view_of_pid_1_the_own_namespaces_stand_for_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_pid_1(pid: str) -> dict[str, int]:
        if pid == "1":
            raise NotFound("hidden")
        return {"pid": 5}

    monkeypatch.setattr(ns, "_inodes", refuse_pid_1)
    comparison = compare(7)
    assert not comparison.host_is_pid_1
    assert {row.name: row.same for row in comparison.namespaces}["pid"]


def test_a_process_that_is_not_there() -> None:
    pid = int(Path("/proc/sys/kernel/pid_max").read_text())  # one more than the largest
    with pytest.raises(NotFound, match=str(pid)):
        compare(pid)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(self: Containers, name: str) -> Container:
        if name in ("web", "99"):
            return Container(Config("99", "web", 0, RunRequest()), "", self.states)
        raise NotFound(f"no container {name}")

    monkeypatch.setattr(Containers, "find", find)
    monkeypatch.setattr(Container, "pid", 4321)


@pytest.mark.usefixtures("records")
def test_a_container_comes_before_a_process() -> None:
    assert find_pid("web") == 4321
    assert find_pid("99") == 4321
    assert find_pid("98") == 98
    with pytest.raises(NotFound):
        find_pid("wbe")
    for text in ("0", "99999999999"):
        with pytest.raises(InvalidInput):
            find_pid(text)


SAMPLE = Comparison(
    7,
    False,
    (
        Namespace("pid", 4026531836, 4026532999, False, ISOLATES["pid"]),
        Namespace("net", 4026531833, 4026531833, True, ISOLATES["net"]),
    ),
)


def test_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ns, "compare", lambda _pid: SAMPLE)
    assert cli.run(["ns"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["pid", "4026531836", "4026532999", "different"]
    assert lines[2].split()[:4] == ["net", "4026531833", "4026531833", "same"]
    assert max(map(len, lines)) <= 80


def test_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ns, "compare", lambda _pid: SAMPLE)
    assert cli.run(["ns", "--format", "json"]) == 0
    decoded = loads(capsys.readouterr().out)
    assert [row["same"] for row in decoded["namespaces"]] == [False, True]
    assert decoded["namespaces"][0]["host"] == 4026531836


def test_the_table_fits_80_columns_with_every_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["ns"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
