"""The grammar of the command line: Go's pflag, as docker run has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput, KistError, Unsupported
from kist.faces.cli.command import Command
from kist.faces.cli.flags import LATER, LATER_SHORT
from kist.faces.cli.ns import COMMAND as NS
from kist.faces.cli.parse import HelpAsked, Parsed, flags_of, parse
from kist.faces.cli.run import COMMAND as RUN


def run(line: str) -> Parsed:
    return parse(RUN, line.split())


@pytest.mark.parametrize(
    ("line", "given_", "arguments"),
    [
        ("host", {}, ("host",)),
        ("--rm host ls -l --rm", {"rm": ["true"]}, ("host", "ls", "-l", "--rm")),
        ("--rm=false host", {"rm": ["false"]}, ("host",)),
        ("--rm false host", {"rm": ["true"]}, ("false", "host")),
        ("--name a host", {"name": ["a"]}, ("host",)),
        ("--name=a=b host", {"name": ["a=b"]}, ("host",)),
        ("--name= host", {"name": [""]}, ("host",)),
        ("--name --rm host", {"name": ["--rm"]}, ("host",)),
        ("-it host", {"interactive": ["true"], "tty": ["true"]}, ("host",)),
        ("-i=false host", {"interactive": ["false"]}, ("host",)),
        ("-e A=1 -eB=2 -e=C host", {"env": ["A=1", "B=2", "C"]}, ("host",)),
        ("-itv /a:/b host", {"interactive": ["true"], "tty": ["true"], "volume": ["/a:/b"]}, ("host",)),
        ("-itv/a:/b host", {"interactive": ["true"], "tty": ["true"], "volume": ["/a:/b"]}, ("host",)),
        ("-h web host", {"hostname": ["web"]}, ("host",)),
        ("--net host host", {"network": ["host"]}, ("host",)),
        ("--network none --net=host host", {"network": ["none", "host"]}, ("host",)),
        ("-- host --rm", {}, ("host", "--rm")),
        ("--rm -- --rm", {"rm": ["true"]}, ("--rm",)),
        ("host --", {}, ("host", "--")),
        ("- -i", {}, ("-", "-i")),
        ("", {}, ()),
    ],
)
def test_run(line: str, given_: dict[str, list[str]], arguments: tuple[str, ...]) -> None:
    assert run(line) == Parsed(given_, arguments)


def test_other_verbs_take_flags_after_arguments() -> None:
    assert parse(NS, ["web", "--format", "json"]) == Parsed({"format": ["json"]}, ("web",))
    assert parse(NS, ["--", "--format"]).arguments == ("--format",)


@pytest.mark.parametrize(
    ("line", "path", "code", "hint"),
    [
        ("--memry 1g host", "--memry", "unknown-flag", "--memory"),
        ("--xyzzy host", "--xyzzy", "unknown-flag", ""),
        ("-Z host", "-Z", "unknown-flag", ""),
        ("-iZ host", "-Z", "unknown-flag", ""),
        ("--name", "--name", "missing-value", "--name NAME"),
        ("-e", "-e", "missing-value", "-e KEY"),
        ("-ite", "-e", "missing-value", ""),
        ("-h", "-h", "missing-value", "--help"),
    ],
)
def test_errors_name_the_flag(line: str, path: str, code: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        run(line)
    assert (caught.value.path, caught.value.code, caught.value.exit_code) == (path, code, 125)
    assert hint in caught.value.next


@pytest.mark.parametrize("line", [*(f"--{name} x host" for name in LATER), *(f"-{s} host" for s in LATER_SHORT)])
def test_docker_flags_that_kist_lacks_are_called_so(line: str) -> None:
    with pytest.raises(Unsupported) as caught:
        run(line)
    assert caught.value.why


@pytest.mark.parametrize("line", ["--help", "--rm --help --xyzzy", "-it --help"])
def test_help_is_asked(line: str) -> None:
    with pytest.raises(HelpAsked):
        run(line)


def test_help_of_the_command_inside_is_not_ours() -> None:
    assert run("host ls --help").arguments == ("host", "ls", "--help")


def test_counts_arguments() -> None:
    with pytest.raises(InvalidInput, match="too many"):
        parse(NS, ["a", "b"])
    with pytest.raises(InvalidInput, match="missing"):
        parse(Command(name="x", usage=("A",), summary="", least=1, most=1), [])


@pytest.mark.parametrize("word", ["a\0b", "\udcff", "--name=\udcff"])
def test_refuses_what_no_plan_can_hold(word: str) -> None:
    with pytest.raises(InvalidInput):
        parse(RUN, [word])


WORDS = st.sampled_from(
    ["--", "-", "-it", "--rm", "host", "-e", "--name", "=", "-h", *(f"--{flag.name}" for flag in flags_of(RUN))]
) | st.text(max_size=8)


@given(st.lists(WORDS, max_size=8))
def test_any_line_ends_in_a_result_or_an_error_of_ours(argv: list[str]) -> None:
    try:
        parsed = parse(RUN, argv)
    except (KistError, HelpAsked):
        return
    assert set(parsed.given) <= {flag.name for flag in flags_of(RUN)}
    assert list(parsed.arguments) == argv[len(argv) - len(parsed.arguments) :]
