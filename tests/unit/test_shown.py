"""How containers are shown: tables, sizes, ports, completion, units, events."""

import os

import pytest

from kist.engine import events
from kist.engine.containers import Config, Container, Containers, Ended, Started
from kist.engine.inspect import described, time_text
from kist.engine.state import StateDirectory
from kist.engine.units import quoted, unit
from kist.engine.usage import Sample
from kist.engine.why import why
from kist.errors import InvalidInput, NotFound, Unsupported
from kist.faces.cli import columns, completion
from kist.faces.cli.parse import parse
from kist.faces.cli.ps import COMMAND, ports_words
from kist.faces.cli.stats import binary, decimal
from kist.faces.cli.template import compile_template
from kist.network.places import Place
from kist.plan.ports import Port
from kist.plan.request import Publish, Restart, RunRequest

ID = "ab" * 32


@pytest.fixture
def containers(tmp_path, monkeypatch):
    monkeypatch.setenv("KIST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("KIST_RUN_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    found = Containers(str(tmp_path / "data"), StateDirectory(str(tmp_path / "run")))
    found.prepare()
    return found


def made(containers: Containers, **fields: object) -> Container:
    request = RunRequest(image="box", command=("sleep", "1"), **fields)  # type: ignore[arg-type]
    return containers.add(Config(ID, "web", 10**9, request))


def ended(container: Container, **fields: object) -> Container:
    container.write("started", Started(2 * 10**9))
    container.write("ended", Ended(**{"code": 0, "ended_ns": 3 * 10**9, **fields}))  # type: ignore[arg-type]
    return container


def test_a_table_is_cut_where_it_must_fit(capsys):
    columns.print_table([["A", "B"], ["x" * 30, "y" * 90]], 80)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) == 80
    assert lines[1] == "x" * 30 + "  " + "y" * 47 + "…"


def test_a_table_for_programs_is_whole(capsys):
    columns.print_table([["x" * 90, "y" * 90]])
    assert capsys.readouterr().out == "x" * 90 + "   " + "y" * 90 + "\n"


def test_a_row_may_have_functions(capsys):
    rows = [{"Name": "a", "Label": {"k": "v"}.get}]
    columns.print_rows(rows, {"Name": "NAME"}, ["Name"], 'table {{.Name}}\t{{.Label "k"}}')
    assert capsys.readouterr().out == "NAME   k\na      v\n"
    columns.print_rows(rows, {"Name": "NAME"}, ["Name"], "json")
    assert capsys.readouterr().out == '{"Name":"a"}\n'
    with pytest.raises(InvalidInput):
        compile_template('{{.Name "k"}}')(rows[0])


def test_json_is_a_format():
    assert parse(COMMAND, ["--json"]).last("format") == "json"
    with pytest.raises(InvalidInput):
        parse(completion.COMMAND, ["--json", "bash"])


@pytest.mark.parametrize(
    ("size", "two", "ten"),
    [(0, "0B", "0B"), (1023, "1023B", "1.02kB"), (1536, "1.5KiB", "1.54kB"), (64 << 20, "64MiB", "67.1MB"),
     (1023 << 20, "1023MiB", "1.07GB"), (10**9, "954MiB", "1GB")],
)  # fmt: skip
def test_sizes(size, two, ten):
    assert (binary(size), decimal(size)) == (two, ten)


def test_cpu_is_of_one_cpu():
    before, now = Sample(at_ns=0, cpu_ns=0), Sample(at_ns=10**9, cpu_ns=15 * 10**8)
    assert now.cpu_percent(before) == 150
    assert before.cpu_percent(now) == 0
    assert Sample(0, memory_bytes=1, memory_limit_bytes=4).memory_percent == 25


def test_ports_are_told_as_ranges():
    class Up:
        status = "running"
        config = Config(ID, "web", 0, RunRequest(image="box", expose=(Publish("tcp", 80, 81), Publish("udp", 5, 5))))

    any4, any6, target = bytes(4), bytes(16), bytes(4)
    ports = [Port("tcp", any4, 8000 + i, target, 80 + i) for i in range(2)] + [Port("tcp", any6, 8000, bytes(16), 80)]
    words = ports_words(Up(), Place((), tuple(ports)))  # type: ignore[arg-type]
    assert words == "0.0.0.0:8000-8001->80-81/tcp, [::]:8000->80/tcp, 5/udp"


def test_inspect_of_one_that_never_ran(containers):
    found = described(made(containers, memory_bytes=1 << 30), None, size=True)
    assert found["State"]["StartedAt"] == "0001-01-01T00:00:00Z"  # type: ignore[index]
    assert (found["Path"], found["Args"], found["SizeRw"] != 0) == ("sleep", ["1"], True)
    assert found["HostConfig"]["MemorySwap"] == 2 << 30  # type: ignore[index]


def test_times_have_nine_digits():
    assert time_text(10**9 + 5) == "1970-01-01T00:00:01.000000005Z"


def test_an_end_is_told_once(containers):
    container = ended(made(containers), code=3)
    assert [e.action for e in events.history(containers)] == ["die"]
    events.note_end(container)
    assert [e.action for e in events.history(containers)] == ["die"]
    container.forget("ended")
    (event,) = events.history(containers)
    assert (event.time_ns, event.attributes["exitCode"]) == (3 * 10**9, "3")


def test_running_out_of_memory_is_an_event(containers):
    ended(made(containers), code=137, reports={"memory.events": "oom_kill 1\n"})
    assert [e.action for e in events.history(containers)] == ["die", "oom"]


def test_the_journal_goes_round(containers, monkeypatch):
    monkeypatch.setattr(events, "_FILE_BYTES", 200)
    container = made(containers)
    for i in range(50):
        events.note(container, f"event{i}")
    names = [name for name in os.listdir(containers.data_dir) if name.startswith("events.")]
    assert len(names) == 5
    assert [e.action for e in events.history(containers)][-1] == "event49"


def test_a_line_that_was_cut_off_is_passed_over(containers):
    container = made(containers)
    with open(f"{containers.data_dir}/events.1", "w") as file:
        file.write('{"time_ns":1,"act\n')
    events.note(container, "start")
    assert [e.action for e in events.history(containers)] == ["start"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"code": 0}, "ended by itself with exit status 0"),
        ({"code": 143, "signaled": True}, "was killed by SIGTERM (exit status 143)"),
        ({"code": 137, "signaled": True, "timed_out": True}, "longer than --timeout"),
        ({"code": 137, "signaled": True, "reports": {"memory.events": "oom_kill 1\n"}}, "ran out of memory"),
        ({"code": 127, "error": "no file x"}, "could not be started: no file x"),
    ],
)
def test_why(containers, fields, words):
    first, *_ = why(ended(made(containers), **fields))
    assert words in first


def test_why_of_one_that_was_lost(containers):
    container = made(containers)
    container.write("started", Started(2 * 10**9))
    assert "was lost" in next(why(container))


def test_why_tells_of_memory(containers):
    reports = {"memory.peak": str(64 << 20), "memory.events": "max 7\noom_kill 1\n"}
    lines = list(why(ended(made(containers, memory_bytes=64 << 20), code=137, signaled=True, reports=reports)))
    assert "memory: 64.0 MiB at most of 64.0 MiB; it met the limit 7 times" in lines


def test_a_unit(containers):
    text = unit(made(containers, restart=Restart("on-failure", 3)), ("/usr/bin/kist",), {"KIST_DATA_DIR": "/a b"})
    assert f"ExecStart=/usr/bin/kist start --attach {ID}" in text
    assert 'Environment="KIST_DATA_DIR=/a b"' in text
    assert "Restart=on-failure" in text
    assert "StartLimitBurst=3" in text


def test_words_of_units():
    assert [quoted(word) for word in ("a", "a b", "50%", "$x", 'a"b', "")] == [
        "a", '"a b"', "50%%", "$$x", '"a\\"b"', '""'
    ]  # fmt: skip


def test_one_is_found_by_the_beginning_of_its_id_but_not_by_itself(containers):
    made(containers)
    assert containers.find(ID[:1]).id == ID
    with pytest.raises(NotFound):
        containers.find(ID[:1], but=ID)


def test_completion_of_verbs_flags_and_names(containers):
    made(containers)
    assert completion.complete([], "insp") == ["inspect"]
    assert completion.complete(["image"], "in") == ["inspect"]
    assert completion.complete(["ps"], "--no") == ["--no-trunc"]
    assert completion.complete(["inspect"], "w") == ["web"]
    assert completion.complete(["container", "stop"], "") == ["web"]
    assert completion.complete(["ps", "--filter"], "") == []
    assert completion.complete(["no-such-verb"], "") == []


def test_the_screen_says_what_is_missing(monkeypatch):
    import sys

    from kist.faces.screen import screen

    for name in [name for name in sys.modules if name.split(".")[0] == "textual"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    with pytest.raises(Unsupported, match="textual"):
        screen(Containers())


def test_sparklines():
    from kist.faces.screen import sparkline

    assert sparkline([0, 50, 100]) == "▁▅█"
    assert sparkline([0, 0]) == "▁▁"
