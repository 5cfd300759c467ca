"""create, start, stop, kill, restart, wait, rm, rename, pause, restart policies."""

import re

import pytest
from rivals import CLI

from containers import needs_limits


def test_run_in_the_background_prints_the_id(cli, box):
    id = cli.ok("run", "-d", box, "sleep", "60")
    assert re.fullmatch(r"[0-9a-f]{64}", id)
    assert cli.ok("ps", "-q", "--no-trunc") == id


def test_stop_ends_it_and_start_goes_on_with_its_files(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "echo x >>/f; exec sleep 60")
    cli.until(lambda: cli.status("web").startswith("Up"))
    assert cli.ok("stop", "-t", "1", "web") == "web"
    assert "Exited" in cli.status("web")
    assert cli.ok("start", "web") == "web"
    assert cli.status("web").startswith("Up")


def test_created_is_not_started(cli, box):
    cli.ok("create", "--name", "web", box, "true")
    assert cli.status("web") == "Created"
    assert cli.ok("ps", "-q") == ""
    cli.ok("start", "web")
    assert cli.ok("wait", "web") == "0"
    assert cli.status("web").startswith("Exited (0)")


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_wait_gives_the_exit_status(cli, box, code):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", f"exit {code}")
    assert cli.ok("wait", "web") == str(code)
    assert f"Exited ({code})" in cli.status("web")


def test_kill_is_137(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sleep", "60")
    assert cli.ok("kill", "web") == "web"
    assert cli.ok("wait", "web") == "137"


def test_kill_sends_the_signal_that_is_asked_for(cli, box):
    cli.ok(
        "run", "-d", "--name", "web", box, "sh", "-c", "trap 'exit 9' USR1; touch /ready; while :; do sleep 0.1; done"
    )
    cli.until(lambda: "Up" in cli.status("web"))
    cli.until(lambda: (cli("kill", "-s", "USR1", "web").returncode != 0) or "Exited" in cli.status("web"))
    assert cli.ok("wait", "web") == "9"


def test_kill_of_one_that_does_not_run_fails(cli, box):
    cli.ok("create", "--name", "web", box, "true")
    cli.fails("kill", "web")


def test_rm_refuses_one_that_runs(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sleep", "60")
    cli.fails("rm", "web")
    assert cli.status("web").startswith("Up")
    assert cli.ok("rm", "-f", "web") == "web"
    assert cli.ok("ps", "-aq") == ""


def test_a_name_is_taken_until_it_is_removed(cli, box):
    cli.ok("create", "--name", "web", box, "true")
    cli.fails("create", "--name", "web", box, "true")
    cli.fails("run", "--name", "web", box, "true", status=125)
    cli.ok("rm", "web")
    cli.ok("create", "--name", "web", box, "true")


def test_rename(cli, box):
    cli.ok("create", "--name", "old", box, "true")
    cli.ok("rename", "old", "new")
    assert cli.ok("ps", "-a", "--format", "{{.Names}}") == "new"
    cli.fails("rename", "old", "x")
    cli.ok("create", "--name", "old", box, "true")


def test_restart(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "echo x >>/f; [ $(wc -l </f) -lt 2 ] || exit 7; sleep 60")
    cli.until(lambda: cli.status("web").startswith("Up"))
    cli.ok("restart", "-t", "1", "web")
    assert cli.ok("wait", "web") == "7"


@pytest.mark.skipif(CLI != "kist", reason="podman 4.3 and docker 20.10 have no restart --signal")
def test_restart_with_a_signal(cli, box):
    script = "trap 'echo x >>/f; exit' USR1; trap 'exit 9' TERM; touch /ready; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", f"[ ! -e /f ] || exit 7; {script}")
    cli.until(lambda: cli("exec", "web", "test", "-e", "/ready").returncode == 0)
    cli.ok("restart", "--signal", "USR1", "web")
    assert cli.ok("wait", "web") == "7"


@needs_limits
def test_pause_and_unpause(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sleep", "60")
    cli.ok("pause", "web")
    assert "Paused" in cli.status("web") or cli.name == "podman"
    cli.fails("pause", "web")
    cli.ok("unpause", "web")
    assert cli.status("web").startswith("Up")
    cli.fails("unpause", "web")


@needs_limits
def test_a_paused_one_can_be_removed(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sleep", "60")
    cli.ok("pause", "web")
    cli.ok("rm", "-f", "web")


def test_rm_with_d_is_gone_at_its_end(cli, box):
    cli.ok("run", "-d", "--rm", "--name", "web", box, "sleep", "60")
    cli.ok("stop", "-t", "0", "web")
    cli.until(lambda: not cli.ok("ps", "-aq"))


def test_an_unknown_command_is_127(cli, box):
    cli.fails("run", "-d", "--name", "web", box, "nothing-there", status=127)


def test_a_command_that_is_no_program_is_126(cli, box):
    cli.fails("run", "-d", "--name", "web", box, "/etc", status=126)


def test_on_failure_starts_it_again_so_often(cli, box):
    cli.ok("run", "-d", "--name", "web", "--restart", "on-failure:2", box, "sh", "-c", "echo x >>/f; exit $(wc -l </f)")
    cli.until(lambda: "Exited (3)" in cli.status("web"))


def test_always_starts_it_again_until_it_is_stopped(cli, box):
    script = "echo x >>/f; [ $(wc -l </f) -lt 3 ] || sleep 60"
    cli.ok("run", "-d", "--name", "web", "--restart", "always", box, "sh", "-c", script)
    cli.until(lambda: cli("exec", "web", "cat", "/f").stdout.count("x") == 3)
    cli.ok("stop", "-t", "0", "web")
    assert "Exited" in cli.status("web")


def test_rm_and_restart_contradict(cli, box):
    cli.fails("run", "-d", "--rm", "--restart", "always", box, "true", status=125)


def test_run_in_the_foreground_is_kept_without_rm(cli, box):
    done = cli("run", "--name", "web", box, "sh", "-c", "echo out; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert "Exited (3)" in cli.status("web")


def test_run_with_rm_is_not_kept(cli, box):
    cli.ok("run", "--rm", "--name", "web", box, "true")
    assert cli.ok("ps", "-aq") == ""


def test_an_id_can_be_shortened(cli, box):
    id = cli.ok("create", box, "true")
    assert cli.ok("rm", id[:8]) == id[:8]


def test_several_at_once_and_one_is_missing(cli, box):
    cli.ok("create", "--name", "web", box, "true")
    cli.ok("create", "--name", "db", box, "true")
    done = cli("rm", "web", "nobody", "db")
    assert done.returncode == 1
    assert cli.ok("ps", "-aq") == "" or cli.name == "podman"


def test_rm_force_of_nobody_is_fine(cli):
    assert cli("rm", "-f", "nobody").returncode == 0


def test_every_container_has_a_name(cli, box):
    cli.ok("create", box, "true")
    assert re.fullmatch(r"[a-z]+_[a-z]+\d*", cli.ok("ps", "-a", "--format", "{{.Names}}"))


def test_stop_signal(cli, box):
    cli.ok("run", "-d", "--name", "web", "--stop-signal", "USR2", box, "sh", "-c",
           "trap 'exit 12' USR2; touch /tmp/ready; while :; do sleep 0.05; done")  # fmt: skip
    cli.until(lambda: cli.status("web").startswith("Up"))
    import time

    time.sleep(0.3)  # the shell has no way to say that its trap is set, but by exec
    cli.ok("stop", "-t", "5", "web")
    assert cli.ok("wait", "web") == "12"


def test_timeout_of_stop_kills(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    cli.until(lambda: cli.status("web").startswith("Up"))
    cli.ok("stop", "-t", "1", "web")
    assert cli.ok("wait", "web") == "137"


def test_cidfile(cli, box, tmp_path):
    path = tmp_path / "id"
    id = cli.ok("create", "--cidfile", str(path), box, "true")
    assert path.read_text().strip() == id
    cli.fails("run", "--cidfile", str(path), box, "true", status=125)


def test_one_that_cannot_be_started_says_why(cli, box):
    """What it was before, it is: created, or exited."""
    cli.fails("run", "-d", "--name", "web", box, "/nosuch")
    code, error = cli.ok("inspect", "--format", "{{.State.ExitCode}} {{.State.Error}}", "web").partition(" ")[::2]
    assert (code, bool(error.strip())) == ("127", True) or cli.name == "podman"
    assert cli.status("web").startswith("Created")


def test_one_that_cannot_be_started_again_has_exited(cli, box, tmp_path):
    (tmp_path / "here").mkdir()
    cli.ok("run", "--name", "web", "--mount", f"type=bind,source={tmp_path}/here,target=/mnt", box, "true")
    (tmp_path / "here").rmdir()
    cli.fails("start", "web")
    assert cli.ok("inspect", "--format", "{{.State.Status}}", "web") == "exited"
    if cli.name == "kist":
        assert cli.ok("inspect", "--format", "{{.State.Error}}", "web").strip()
    (tmp_path / "here").mkdir()
    cli.ok("start", "web")
    assert cli.ok("wait", "web") == "0"
    assert cli.ok("inspect", "--format", "{{.State.Error}}", "web").strip() == ""


def test_restart_with_another_signal(cli, box):
    if cli.name == "podman":
        pytest.skip("it has no such flag")
    script = "trap 'echo told; exit' USR1; echo up; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "web", box, "sh", "-c", script)
    cli.until(lambda: "up" in cli.ok("logs", "web"))
    cli.ok("restart", "-s", "USR1", "web")
    assert cli.ok("logs", "web").splitlines()[:2] == ["up", "told"]
    assert cli.status("web").startswith("Up")
