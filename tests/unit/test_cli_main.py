"""What people see: texts, streams, exit codes. Never a traceback for a user's mistake."""

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from kist.errors import KistError, Refused
from kist.faces.cli import __main__ as cli
from kist.faces.cli.help import WIDTH, command_help, overview
from kist.faces.cli.verbs import VERBS, verb_module

KIST = [sys.executable, "-I", "-m", "kist.faces.cli"]
Verb = Callable[[list[str]], int]


def replace_verb(monkeypatch: pytest.MonkeyPatch, verb: Verb) -> None:
    monkeypatch.setattr(cli, "verb_main", lambda _name: verb)


def raising(error: BaseException) -> Verb:
    def verb(_argv: list[str]) -> int:
        raise error

    return verb


def test_the_verbs_status_is_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def verb(argv: list[str]) -> int:
        seen.append(argv)
        return 42

    replace_verb(monkeypatch, verb)
    assert cli.run(["run", "--rm", "host"]) == 42
    assert seen == [["--rm", "host"]]


def test_a_mistake_is_explained_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["run", "--memory", "64q", "host"]) == 125
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kist: --memory: cannot use '64q'\n  why:  'q' is not a unit\n  next: write ")
    assert err.endswith("[invalid-input]\nSee 'kist run --help'.\n")


def test_an_errors_own_exit_code_is_used(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replace_verb(monkeypatch, raising(KistError("no such command", exit_code=127)))
    assert cli.run(["run"]) == 127
    assert capsys.readouterr().err == "kist: no such command  [error]\n"
    replace_verb(monkeypatch, raising(Refused("no")))
    assert cli.run(["run"]) == 125


@pytest.mark.parametrize(
    ("verb", "hint"), [("rnu", "'kist run'"), ("xyzzy", "--help"), ("--rm", "--help"), ("", "--help")]
)
def test_unknown_verbs(verb: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb]) == 125
    err = capsys.readouterr().err
    assert "is not a verb" in err
    assert hint in err


def test_dockers_other_verbs_come_later(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compose"]) == 125
    assert "kist compose: comes later" in capsys.readouterr().err


def test_a_bug_is_short_and_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("KIST_DEBUG", raising=False)
    replace_verb(monkeypatch, raising(ValueError("a\nb")))
    assert cli.run(["run"]) == 125
    err = capsys.readouterr().err
    assert err.startswith("kist: run: ValueError: a b\n")
    assert "KIST_DEBUG=1" in err
    assert "Traceback" not in err


def test_a_bug_shows_its_traceback_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KIST_DEBUG", "1")
    replace_verb(monkeypatch, raising(ValueError("a")))
    assert cli.run(["run"]) == 125
    assert "Traceback" in capsys.readouterr().err


def test_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    replace_verb(monkeypatch, raising(KeyboardInterrupt()))
    assert cli.run(["run"]) == 130
    assert capsys.readouterr().err == ""


def test_main_leaves_with_the_status_and_what_was_said() -> None:
    kist = subprocess.run([*KIST, "xyzzy"], capture_output=True)
    assert (kist.returncode, b"xyzzy" in kist.stderr) == (125, True)
    with open("/dev/full", "wb") as full:
        assert subprocess.run([*KIST, "run", "--help"], stdout=full, stderr=subprocess.PIPE).returncode == cli.FAILED


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        kist = subprocess.run([*KIST, "run", "--help"], stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (kist.returncode, kist.stderr) == (cli.BROKEN_PIPE, b"")


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    words = " ".join(f"'{word}'" for word in KIST)
    for arguments, status in (("run --help", 0), ("run --memory x host", 125)):
        shell = subprocess.run(["sh", "-c", f"{words} {arguments} {closed}"], capture_output=True, text=True)
        assert shell.returncode == status, shell.stderr
        assert "Traceback" not in shell.stderr
        assert "2>&-" not in closed or shell.stdout == "" or status == 0  # errors don't move to stdout


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_lists_every_verb(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(argv) == 0
    out = capsys.readouterr().out
    assert out == overview(VERBS)
    assert all(re.search(rf"^  {verb} ", out, re.MULTILINE) for verb in {verb.partition(" ")[0] for verb in VERBS})


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*verb.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert out == command_help(verb_module(verb).COMMAND)
    assert out.startswith(f"Usage: kist {verb}")
    assert max(map(len, out.splitlines())) <= WIDTH
    assert cli.run(["help", verb]) == 0
    assert capsys.readouterr().out == out


def test_help_shows_every_flag() -> None:
    text = command_help(verb_module("run").COMMAND)
    for _, flags in verb_module("run").COMMAND.groups:
        for flag in flags:
            assert re.search(rf"(-{flag.short}, )?--{flag.name} ?{re.escape(flag.metavar)}", text)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert re.match(r"kist \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+, Linux \d", capsys.readouterr().out)
