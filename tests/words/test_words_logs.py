"""logs: streams, following, choosing lines, rotation."""

import hashlib
import re
import subprocess
import time

import pytest


def test_logs_shows_both_streams_apart(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "echo out; echo err >&2")
    cli.ok("wait", "web")
    done = cli("logs", "web")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_logs_keeps_what_every_run_printed(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "echo", "once")
    cli.ok("wait", "web")
    cli.ok("start", "web")
    cli.ok("wait", "web")
    assert cli.ok("logs", "web") == "once\nonce"


def test_logs_of_the_foreground(cli, box):
    cli.ok("run", "--name", "web", box, "echo", "here")
    assert cli.ok("logs", "web") == "here"


def test_logs_of_one_that_never_ran_is_empty(cli, box):
    cli.ok("create", "--name", "web", box, "true")
    assert cli.ok("logs", "web") == ""
    cli.fails("logs", "nosuch")


def test_logs_follow_ends_with_the_container(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "for i in 1 2 3 4; do echo $i; sleep 0.2; done")
    assert cli.ok("logs", "-f", "web") == "1\n2\n3\n4"


@pytest.mark.parametrize(("count", "first"), [("0", None), ("3", 8), ("10", 1), ("99", 1), ("all", 1)])
def test_logs_tail(cli, box, count, first):
    cli.ok("run", "-d", "--name", "web", box, "seq", "10")
    cli.ok("wait", "web")
    expected = "\n".join(map(str, range(first, 11))) if first else ""
    if cli.name == "podman" and count == "all":
        count = "-1"
    assert cli.ok("logs", "--tail", count, "web") == expected
    if cli.name != "podman":  # there -n is --names
        assert cli.ok("logs", "-n", count, "web") == expected


def test_logs_timestamps(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "echo", "one")
    cli.ok("wait", "web")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) one", cli.ok("logs", "-t", "web"))


def test_logs_since_and_until(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "echo early; sleep 3; echo late")
    cli.ok("wait", "web")
    stamps = [line.split()[0] for line in cli.ok("logs", "-t", "web").splitlines()]
    second = re.sub(r"\.\d+", "", stamps[1])  # podman leaves out what was at that very moment
    assert cli.ok("logs", "--since", second, "web") == "late"
    assert cli.ok("logs", "--since", "1h", "web") == "early\nlate"
    if cli.name != "podman":  # there it is an hour from now
        assert cli.ok("logs", "--until", "1h", "web") == ""
    assert cli.ok("logs", "--since", str(int(time.time()) + 60), "web") == ""


def test_logs_of_a_long_line_and_of_one_without_an_end(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo; printf end")
    cli.ok("wait", "web")
    assert cli("logs", "web").stdout.rstrip("\n") == "x" * 300000 + "\nend"


def test_logs_show_the_end_of_a_line_when_it_comes(cli, box):
    """A prompt has no newline."""
    if cli.name != "kist":
        pytest.skip("others wait for the newline")
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "printf 'name? '; sleep 1000")
    cli.until(lambda: cli("logs", "web").stdout == "name? ")


def test_logs_follow_loses_and_repeats_nothing_through_rotation(cli, box):
    """75 MB in files of 1 MB of which two are kept, with a reader that stops now and then."""
    if cli.name != "kist":
        pytest.skip("others lose lines here: a follower that is slower than the rotation")
    script = "sleep 0.5; seq 1000000 | sed 's/$/ 0123456789012345678901234567890123456789012345678901234567890123/'"
    cli.ok("run", "-d", "--name", "web", "--log-opt", "max-size=1m", "--log-opt", "max-file=2", box, "sh", "-c",
           f"{script} | tr 0 a; sleep 0.5")  # fmt: skip
    reader = cli.popen("logs", "-f", "web", stdout=subprocess.PIPE)
    digest, expected, count = hashlib.sha256(), hashlib.sha256(), 0
    while data := reader.stdout.buffer.read1(1 << 20):
        digest.update(data)
        count += len(data)
        if count % 7 == 0:
            time.sleep(0.02)
    for start in range(1, 1000001, 100000):
        tail = " 0123456789012345678901234567890123456789012345678901234567890123\n"
        text = "".join([f"{i}{tail}" for i in range(start, start + 100000)])
        expected.update(text.replace("0", "a").encode())
    reader.stdout.close()
    assert reader.wait(20) == 0
    assert digest.hexdigest() == expected.hexdigest()


def test_a_dead_reader_holds_up_nobody(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "seq 2000000; touch /done; sleep 1000")
    reader = cli.popen("logs", "-f", "web", stdout=subprocess.PIPE)  # nobody reads that pipe
    cli.until(lambda: cli("exec", "web", "ls", "/done").returncode == 0, timeout_s=60)
    reader.kill()
    reader.wait()
    reader.stdout.close()
