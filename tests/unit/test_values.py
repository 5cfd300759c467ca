"""Texts to values: Docker's grammars, and an error that helps for everything else."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kist.errors import InvalidInput, KistError, Unsupported
from kist.plan import values as v
from kist.plan.request import PROTECTIONS, Publish, RunRequest, SecurityOpt, TimeOffset, Ulimit

MIB = 1 << 20

ACCEPTED = [
    # sizes: docker/go-units RAMInBytes
    (v.size, "0", 0),
    (v.size, "32", 32),
    (v.size, "32b", 32),
    (v.size, "32B", 32),
    (v.size, "32k", 32 << 10),
    (v.size, "32K", 32 << 10),
    (v.size, "32kb", 32 << 10),
    (v.size, "32Kib", 32 << 10),
    (v.size, "64m", 64 * MIB),
    (v.size, "64 MiB", 64 * MIB),
    (v.size, "1.5G", 3 << 29),
    (v.size, ".5k", 512),
    (v.size, "5.", 5),
    (v.size, "32 ", 32),
    (v.size, "2t", 2 << 40),
    (v.size, "1p", 1 << 50),
    (v.size, "1.0001b", 1),
    (v.size_or_unset, "0", None),
    (v.memory, "6m", 6 * MIB),
    (v.memory, "0", None),
    (v.memory_swap, "-1", -1),
    (v.memory_swap, "0", None),
    (v.memory_swap, "1g", 1 << 30),
    # numbers
    (v.number(0, 100, unset=-1), "-1", None),
    (v.number(0, 100), "+7", 7),
    (v.number(0, 100, unlimited=True), "-1", -1),
    (v.pids_limit, "0", -1),
    (v.pids_limit, "-1", -1),
    (v.pids_limit, "100", 100),
    (v.cpus, "1.5", 1.5),
    (v.cpus, "0.01", 0.01),
    (v.cpus, "0", None),
    (v.cpus, ".5", 0.5),
    (v.cpu_list, "0-3,5", (0, 1, 2, 3, 5)),
    (v.cpu_list, "5,0-1,1", (0, 1, 5)),
    (v.cpu_list, "", ()),
    (v.umask, "027", 0o27),
    (v.umask, "0", 0),
    (v.umask, "0777", 0o777),
    # durations: Go's, or plain seconds
    (v.seconds, "90", 90.0),
    (v.seconds, "0.5", 0.5),
    (v.seconds, "-90", -90.0),
    (v.seconds, "1m30s", 90.0),
    (v.seconds, "1h", 3600.0),
    (v.seconds, "1.5h", 5400.0),
    (v.seconds, "300ms", 0.3),
    (v.seconds, "2us", 2e-06),
    (v.seconds, "-1h1s", -3601.0),
    (v.timeout, "1ms", 0.001),
    (v.time_offset, "1h", TimeOffset(3600, 3600)),
    (v.time_offset, "-10", TimeOffset(-10, -10)),
    (v.time_offset, "monotonic=1h", TimeOffset(3600, 0)),
    (v.time_offset, "boottime=2,monotonic=1", TimeOffset(1, 2)),
    # names
    (v.container_name, "web-1", "web-1"),
    (v.container_name, "0_.", "0_."),
    (v.hostname, "a.b-c", "a.b-c"),
    (v.hostname, "h" * 64, "h" * 64),
    (v.user, "0", "0"),
    (v.user, "ann:staff", "ann:staff"),
    (v.user, "4294967294:4294967294", "4294967294:4294967294"),
    (v.group, "wheel", "wheel"),
    (v.capability, "net_raw", "CAP_NET_RAW"),
    (v.capability, "CAP_SYS_ADMIN", "CAP_SYS_ADMIN"),
    (v.capability, "all", "ALL"),
    (v.signal_number, "TERM", 15),
    (v.signal_number, "sigusr1", 10),
    (v.signal_number, "9", 9),
    (v.signal_number, "SYS", 31),
    (v.signal_number, "SIGRTMIN", 34),
    (v.signal_number, "RTMIN+3", 37),
    (v.signal_number, "SIGRTMAX-1", 63),
    (v.without, "pidns,netns", ("pidns", "netns")),
    (v.image, "host", "host"),
    (v.image, "example.org:5000/team/app:1@sha256:00", "example.org:5000/team/app:1@sha256:00"),
    # key and value
    (v.ulimit, "nofile=1024:2048", Ulimit("nofile", 1024, 2048)),
    (v.ulimit, "nproc=5", Ulimit("nproc", 5, 5)),
    (v.ulimit, "core=0:-1", Ulimit("core", 0, -1)),
    (v.ulimit, "stack=unlimited", Ulimit("stack", -1, -1)),
    (v.sysctl, "net.ipv4.ip_forward=1", ("net.ipv4.ip_forward", "1")),
    (v.sysctl, "net.ipv4.ping_group_range=0 1", ("net.ipv4.ping_group_range", "0 1")),
    (v.sysctl, "kernel.sem=250\t32000=x", ("kernel.sem", "250\t32000=x")),
    (v.label, "a=b=c", ("a", "b=c")),
    (v.label, "a", ("a", "")),
    (v.storage_size, "size=1g", 1 << 30),
    (v.dns, "192.0.2.1", "192.0.2.1"),
    (v.dns, "fe80::1%eth0", "fe80::1%eth0"),
    (v.add_host, "db:192.0.2.7", ("db", "192.0.2.7")),
    (v.add_host, "db:::1", ("db", "::1")),
    (v.add_host, "db=[::1]", ("db", "::1")),
    (v.dns_search, ".", "."),
    (v.dns_search, "example.org", "example.org"),
    (v.dns_option, "ndots:2", "ndots:2"),
    (v.network, "host", "host"),
    (v.network, "default", "bridge"),
    (v.network, "web-1", "web-1"),
    (v.network, "container:web", "container:web"),
    (v.network, "ns:/run/netns/x", "ns:/run/netns/x"),
    (v.mac_address, "02-42-AC-11-00-02", bytes.fromhex("0242ac110002")),
    (v.publish, "80", Publish("tcp", 80, 80)),
    (v.publish, "8080:80/UDP", Publish("udp", 80, 80, b"", 8080, 8080)),
    (v.publish, "1.2.3.4::80", Publish("tcp", 80, 80, bytes((1, 2, 3, 4)))),
    (v.publish, "[::1]:8080:80", Publish("tcp", 80, 80, bytes(15) + b"\1", 8080, 8080)),
    (v.publish, ":8000-8001:80-81/sctp", Publish("sctp", 80, 81, b"", 8000, 8001)),
    (v.publish, "8000-8005:80", Publish("tcp", 80, 80, b"", 8000, 8005)),
    (v.ipv4, "10.1.0.2", bytes((10, 1, 0, 2))),
    (v.ipv6, "fd00::2", bytes.fromhex("fd00" + "0" * 27 + "2")),
    (v.namespace("host"), "", ""),
    (v.stream, "STDIN", "stdin"),
    (v.detach_keys, "ctrl-p,ctrl-q", b"\x10\x11"),
    (v.detach_keys, "a,ctrl-[,ctrl-@,ctrl-_", b"a\x1b\x00\x1f"),
    (v.boolean, "T", True),
    (v.boolean, "0", False),
]

REFUSED = [
    (v.publish, ["", "0", "65536", "80-79", "a", "1:2:3:4", "8000-8002:80-81", "80/icmp", "1.2.3:8080:80", "[::1]80"]),
    (v.expose, ["8080:80"]),
    (v.ipv4, ["1.2.3", "::1", ""]),
    (v.mac_address, ["", "02:00", "01:00:00:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00:0g"]),
    (v.network, ["", "a b", "../x", "container:", "ns:x"]),
    (
        v.size,
        ["", "b", "m", "-1", "-5m", "1e3", "0x10", "1_000", "٣", "hello", "32mm", "32bb", "32kic", "32ki b", " 32"],
    ),
    (v.size, ["32  k", "1.2.3k", ".", "1,5g", "9999999p", "9" * 50, "inf", "nan", "32bib", "32kk", "k32"]),
    (v.memory, ["5m", "6291455", "1"]),
    (v.memory_swap, ["-2", ""]),
    (v.number(1, 9), ["0", "10", "x", "", "1.0", "-", "+", "1_0", " 1", "9" * 5000]),
    (v.number(1, 9, unlimited=True), ["-2"]),
    (v.pids_limit, ["-2", "4194305", ""]),
    (v.cpus, ["-1", "", "1/2", "0.001", "9000", "1.0000000001", "1e1", "one"]),
    (v.cpu_list, [",", "0-", "-1", "3-1", "a", "0,,1", "8192", "0-99999999999", "+1", "1--2", "0:1"]),
    (v.umask, ["", "8", "1000", "0o22", "00022", "-1"]),
    (v.seconds, ["", "s", "-", "1h30", "1d", "1.2.3", "1 s", "1sm", "9999999h", "--1", "1e3", "."]),
    (v.timeout, ["0", "-1", "1us"]),
    (v.time_offset, ["", "0.5", "realtime=1", "monotonic=1,monotonic=2", "1,2", "monotonic=", "monotonic=1,"]),
    (v.container_name, ["", "-ab", ".ab", "a/b", "../x", "a b", "ä1", "a\n", "a" * 129]),
    (v.hostname, ["", "-a", ".a", "a b", "a\nb", "h" * 65, "a/b", "ä"]),
    (v.user, ["", ":", "a:", ":a", "a:b:c", "-1", "+1", "4294967295", "99999999999999999999", "a b", "a\n", "0:-1"]),
    (v.group, ["", "-5", "4294967295", "a:b"]),
    (v.capability, ["", "NET_RAWR", "CAP_", "CAP_ALL_OF_THEM", "CAP_CAP_CHOWN"]),
    (v.signal_number, ["", "0", "65", "-9", "+9", "TERMINATE", "RTMIN-1", "RTMAX+1", "RTMIN+31", "RTMIN5", "SIG9"]),
    (v.without, ["", "pids", "pidns,", "pidns,x"]),
    (v.image, ["", "./dir", "/srv", "~/x", "a b", "a\n"]),
    (v.ulimit, ["", "nofile", "nofile=", "nofile=a", "nofile=2:1", "nofile=-1:5", "nofiles=1", "nofile=1:2:3"]),
    (v.ulimit, ["nofile=-2", "nofile=1:", "=1", "nofile=99999999999999999999"]),
    (v.sysctl, ["", "a", "a=1", "=1", "net..x=1", "net/../kernel.x=1", "../kernel.x=1", "net.ipv4/x=1", "net.a=1\n2"]),
    (v.label, ["", "=b", "a b=c", "\t"]),
    (v.dns, ["", "localhost", "1.2.3", "1.2.3.4.5", "::1\n", "fe80::1%a\nb", "fe80::1%a b"]),
    (v.add_host, ["", "a", "a:", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a\nb:1.2.3.4", "a=1.2.3.4 x", "a:[]"]),
    (v.dns_search, ["", "a b", "-a", "a\nb", "a" * 255]),
    (v.dns_option, ["", "a b", "a\n"]),
    (v.namespace("host"), ["hots", "x"]),
    (v.stream, ["", "in"]),
    (v.detach_keys, ["", "ctrl-", "ctrl-1", "ctrl-P", "ab", "a,", "ä", "a,,b"]),
    (v.boolean, ["", "yes", "TrUe", "2"]),
    (v.choice("a", "b"), ["", "c", "A"]),
]

LATER = [
    (v.namespace("host"), "container:web"),
    (v.storage_size, "inodes=5"),
]


@pytest.mark.parametrize(("parse", "text", "value"), ACCEPTED)
def test_accepts(parse: Callable[[str, str], object], text: str, value: object) -> None:
    parsed = parse("--flag", text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(("parse", "text"), [(p, t) for p, texts in REFUSED for t in texts])
def test_refuses_and_says_why(parse: Callable[[str, str], object], text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse("--flag", text)
    error = caught.value
    assert error.path == "--flag"
    assert error.what.startswith("--flag: cannot use '")
    assert error.why and error.next


@pytest.mark.parametrize(("parse", "text"), LATER)
def test_what_comes_later_is_not_called_wrong(parse: Callable[[str, str], object], text: str) -> None:
    with pytest.raises(Unsupported, match="--flag"):
        parse("--flag", text)


def test_errors_fit_a_terminal() -> None:
    with pytest.raises(InvalidInput) as caught:
        v.size("--memory", "\x1b[2J\n" * 100)
    assert str(caught.value).isascii()
    assert "\x1b" not in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) < 160


def test_without_lists_the_protections() -> None:
    with pytest.raises(InvalidInput) as caught:
        v.without("--without", "pids")
    assert all(name in caught.value.next for name in PROTECTIONS)


def test_the_nearest_capability_is_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        v.capability("--cap-add", "NET_ADMN")
    assert caught.value.next.endswith("NET_ADMIN")


PARSERS = sorted({parse for parse, _, _ in ACCEPTED} | {parse for parse, _ in LATER}, key=lambda p: p.__qualname__)


@given(st.sampled_from(PARSERS), st.text(max_size=30) | st.text("0123456789.-+:=,/kmgihsn[]%cpu_ \0", max_size=20))
@example(v.number(1, 9), "9" * 5000)
def test_parsers_end_in_a_value_or_an_error_of_ours(parse: Callable[[str, str], object], text: str) -> None:
    try:
        parse("--flag", text)
    except KistError as e:
        assert "--flag" in str(e)


@given(st.integers(0, 2**63 - 1), st.sampled_from(["", "b", "B"]))
def test_whole_sizes_are_exact(size_bytes: int, unit: str) -> None:
    assert v.size("--memory", f"{size_bytes}{unit}") == size_bytes


@given(st.sets(st.integers(0, 8191), max_size=50))
def test_cpu_lists_round_trip(numbers: set[int]) -> None:
    assert v.cpu_list("--cpuset-cpus", ",".join(map(str, numbers))) == tuple(sorted(numbers))


# --- environment


def test_env_takes_the_callers_value_for_a_bare_name() -> None:
    environ = {"HOME": "/root", "EMPTY": ""}
    assert v.env("--env", "HOME", environ) == "HOME=/root"
    assert v.env("--env", "HOME=", environ) == "HOME="
    assert v.env("--env", "EMPTY", environ) == "EMPTY="
    assert v.env("--env", "NONE", environ) == "NONE"
    with pytest.raises(InvalidInput):
        v.env("--env", "=x", environ)


def test_env_file_is_read_as_docker_reads_it() -> None:
    content = "\ufeffA=1\r\n  # comment\n\n\tB = not a name\n".replace("B = not a name", "B='q' # no comment ")
    assert v.key_value_lines("--env-file", "f", content + "C\nD==\nE=x\x1fy") == (
        "A=1",
        "B='q' # no comment ",
        "C",
        "D==",
        "E=x\x1fy",
    )


@pytest.mark.parametrize("line", ["=x", "A B=x", "A =x", "A\t=x", "A=\0"])
def test_env_file_errors_name_the_file_and_line(line: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        v.key_value_lines("--env-file", "my.env", f"OK=1\n{line}")
    assert caught.value.path == "--env-file"
    assert "\0" in line or ("my.env" in caught.value.what and "line 2" in caught.value.why)


@given(st.text(max_size=200))
def test_env_files_end_in_lines_or_an_error(content: str) -> None:
    try:
        lines = v.key_value_lines("--env-file", "f", content)
    except InvalidInput:
        return
    assert all(line and "\n" not in line and line[0] not in "=#" for line in lines)


def test_the_last_value_of_a_key_wins() -> None:
    assert v.merge_env(["A=1", "B=2", "A=3", "B"]) == ("A=3", "B")


# --- security options


def no_file(flag: str, path: str) -> str:
    raise AssertionError(f"{path} was read for {flag}")


def security(*texts: str, content: str | None = None) -> SecurityOpt:
    return v.security_opt("--security-opt", texts, no_file if content is None else lambda _flag, _path: content)


def test_security_options() -> None:
    assert security() == SecurityOpt(seccomp="default", no_new_privileges=True)
    assert security("no-new-privileges=false").no_new_privileges is False
    assert security("no-new-privileges:false").no_new_privileges is False
    assert security("no-new-privileges=false", "no-new-privileges").no_new_privileges is True
    assert security("seccomp=unconfined").seccomp == "unconfined"
    assert security("seccomp:unconfined").seccomp == "unconfined"
    assert security("seccomp=builtin").seccomp == "default"
    assert security("seccomp=p.json", content=' {"x": 1}').seccomp == ' {"x": 1}'
    assert security("systempaths=unconfined").systempaths_unconfined is True
    assert security("apparmor=mine", "label=type:a", "label:disable") == SecurityOpt(
        apparmor="mine", label=("type:a", "disable")
    )


@pytest.mark.parametrize(
    "text",
    ["", "seccomp", "seccomp=", "secomp=x", "systempaths=no", "no-new-privileges=maybe", "apparmor", "apparmor="],
)
def test_security_options_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        security(text)


def test_a_profile_file_cannot_turn_the_filter_off() -> None:
    with pytest.raises(InvalidInput):
        security("seccomp=file", content="unconfined")


# --- flags together


@pytest.mark.parametrize(
    ("request_", "flag"),
    [
        (RunRequest(image="host", memory_swap_bytes=8 * MIB), "--memory-swap"),
        (RunRequest(image="host", memory_bytes=9 * MIB, memory_swap_bytes=8 * MIB), "--memory-swap"),
        (RunRequest(image="host", memory_bytes=8 * MIB, memory_reservation_bytes=9 * MIB), "--memory-reservation"),
        (RunRequest(image="host", cpus=1.0, cpu_quota_us=1000), "--cpus"),
        (RunRequest(image="host", cpus=1.0, cpu_period_us=1000), "--cpus"),
        (RunRequest(image="host", uts="host", hostname="x"), "--hostname"),
        (RunRequest(image="host", time_offset=TimeOffset(1, 1), without=("timens",)), "--time-offset"),
    ],
)
def test_contradictions_are_refused(request_: RunRequest, flag: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        v.check(request_)
    assert caught.value.path == flag


def test_what_does_not_contradict_is_accepted() -> None:
    v.check(RunRequest(image="host", memory_bytes=8 * MIB, memory_swap_bytes=8 * MIB, memory_reservation_bytes=8 * MIB))
    v.check(RunRequest(image="host", memory_swap_bytes=-1))
    v.check(RunRequest(image="host", memory_bytes=8 * MIB, memory_swap_bytes=-1, cpu_quota_us=-1, cpu_period_us=1000))
