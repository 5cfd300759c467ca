"""`kist.run()`: subprocess semantics, and the command line's flags as keywords."""

import inspect
import threading
import time

import pytest

import kist
from containers import needs_limits
from kist.errors import InvalidInput, KistError, ProcessFailed
from kist.faces.cli.flags import RUN_GROUPS


def test_result():
    result = kist.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert result.args == ("sh", "-c", "echo out; echo err >&2; exit 3")
    assert not (result.oom_killed or result.timed_out or result.truncated)
    assert result.usage.wall_s > 0


def test_every_flag_is_a_keyword():
    flags = {flag.keyword for _, group in RUN_GROUPS for flag in group}
    terminal = {"interactive", "tty", "attach", "sig_proxy", "detach_keys", "rm", "cidfile", "label_file", "quiet"}
    kept = {"detach", "restart", "log_driver", "log_opt"}  # of containers that live on
    kept |= {flag for flag in flags if "health" in flag}
    own = {"argv", "image", "input", "check", "output_limit"}
    assert set(inspect.signature(kist.run).parameters) == flags - terminal - kept | own


def test_keywords_mean_what_the_flags_mean(tmp_path):
    result = kist.run(
        ["sh", "-c", "id -u; pwd; uname -n; echo $A $B; umask; ulimit -n; cat /data/file; touch /x 2>&1"],
        workdir="/tmp", hostname="kevin", env={"A": "1", "B": "2 3"}, umask=0o27, ulimits={"nofile": "64"},
        volumes=[f"{tmp_path}:/data:ro"], read_only=True, tmpfs=["/tmp"], user=0, network=False,
    ) if (tmp_path / "file").write_text("data\n") else None  # fmt: skip
    assert result.stdout.splitlines()[:7] == ["0", "/tmp", "kevin", "1 2 3", "0027", "64", "data"]
    assert "Read-only" in result.stdout


def test_check():
    with pytest.raises(ProcessFailed) as caught:
        kist.run(["sh", "-c", "echo no >&2; exit 4"], check=True)
    assert caught.value.result.returncode == 4
    assert "no" in str(caught.value)


def test_timeout():
    began = time.monotonic()
    result = kist.run(["sleep", "600"], timeout=0.3)
    assert result.timed_out
    assert result.returncode == 137
    assert time.monotonic() - began < 20


def test_input_and_output_are_bytes_or_text():
    data = bytes(range(256)) * 4000
    assert kist.run(["cat"], input=data).stdout_bytes == data
    assert kist.run(["cat"], input="ä").stdout == "ä"


def test_input_that_nobody_reads():
    assert kist.run(["true"], input="x" * 10_000_000).returncode == 0


def test_output_is_bounded():
    result = kist.run(["sh", "-c", "yes | head -c 3000000; echo end >&2"], output_limit=1000)
    assert (len(result.stdout), result.truncated, result.returncode) == (1000, True, 0)


@pytest.mark.parametrize("argv", ["sh -c true", b"true"])
def test_a_string_is_no_list(argv):
    with pytest.raises(InvalidInput):
        kist.run(argv)


def test_errors_are_exceptions():
    with pytest.raises(KistError) as caught:
        kist.run(["no-such-command"])
    assert caught.value.code == "command-not-found"
    assert caught.value.exit_code == 127


def test_what_was_not_enforced_is_named():
    result = kist.run(["true"], memory="64m", allow_unenforced=True)
    assert result.not_enforced in ((), ("memory.limit", "memory.swap"), ("memory.limit",))


def test_from_several_threads(rootfs):
    results: list[kist.Result] = []

    def work(number: int) -> None:
        for i in range(5):
            word = f"{number}-{i}"
            results.append(kist.run(["sh", "-c", "echo $WORD"], rootfs=str(rootfs), env={"WORD": word}))
            assert results[-1].stdout == f"{word}\n" or any(r.stdout == f"{word}\n" for r in results)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(r.stdout for r in results) == sorted(f"{n}-{i}\n" for n in range(8) for i in range(5))


def test_an_interrupt_kills_the_container(monkeypatch):
    from kist.engine import run as engine

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kist.run(["sleep", "600"])


@needs_limits
def test_memory_words_and_numbers():
    script = "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
    for memory in ("32m", 32 << 20):
        assert kist.run(["sh", "-c", script], memory=memory).stdout.strip() == str(32 << 20)
