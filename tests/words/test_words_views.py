"""ps, inspect, port, top, stats, update, events."""

import json
import re
import time

import pytest
from rivals import CLI, needs_timers

from containers import needs_limits


def ps(cli, *words):
    """Of those of `two`: podman sorts them in its own way, and others may be there."""
    return sorted({"up", "ended"}.intersection(cli.ok("ps", "-a", "--format", "{{.Names}}", *words).split()))


@pytest.fixture
def two(cli, box):
    """`up` runs, `ended` has ended with 3."""
    cli.ok("run", "-d", "--name", "up", "--label", "k=v", box, "sleep", "60")
    cli.ok("run", "-d", "--name", "ended", "-v", "/etc:/mnt:ro", box, "sh", "-c", "exit 3")
    assert cli.ok("wait", "ended") == "3"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["name=up"], ["up"]), (["name=^(up|ended)$"], ["ended", "up"]), (["label=k"], ["up"]), (["label=k=w"], []),
        (["status=exited"], ["ended"]), (["status=exited", "status=running"], ["ended", "up"]),
        (["exited=3"], ["ended"]), (["exited=0"], []), (["before=ended"], ["up"]), (["since=up"], ["ended"]),
        (["name=up", "status=exited"], []),
    ],
)  # fmt: skip
def test_ps_filters(cli, two, filters, found):
    assert ps(cli, *(word for one in filters for word in ("--filter", one))) == found


def test_ps_filters_by_image(cli, two, box):
    assert ps(cli, "--filter", f"ancestor={box}") == ["ended", "up"]


@pytest.mark.skipif(CLI == "podman", reason="podman 4 knows no volume by its place, and no .Label")
def test_ps_finds_a_volume_and_a_label(cli, two):
    assert ps(cli, "--filter", "volume=/mnt") == ["ended"]
    assert cli.ok("ps", "--format", '{{.Label "k"}}') == "v"


def test_ps_refuses_a_filter_that_it_does_not_know(cli):
    cli.fails("ps", "--filter", "colour=red")
    cli.fails("ps", "--filter", "status=happy")


def test_ps_shows_the_last_ones(cli, two):
    assert ps(cli, "-n", "1") == ["ended"]
    assert ps(cli, "-l") == ["ended"]
    assert cli.ok("ps", "--format", "{{.Names}}") == "up"


def test_ps_has_headings(cli, two):
    head, *lines = cli.ok("ps", "-a").splitlines()
    assert head.split("  ")[0] == "CONTAINER ID"
    assert [word for word in ("IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES") if word not in head] == []
    assert sum(line.endswith((" up", " ended")) for line in lines) == 2


def test_inspect_of_one_that_runs(cli, two):
    (found,) = json.loads(cli.ok("inspect", "up"))
    assert found["Id"] == cli.ok("ps", "-q", "--no-trunc")
    assert found["Name"].lstrip("/") == "up"
    assert found["State"]["Status"] == "running"
    assert found["State"]["Running"] is True
    assert found["State"]["Pid"] > 1
    assert (found["Path"], found["Args"]) == ("sleep", ["60"])
    assert found["Config"]["Labels"]["k"] == "v"


def test_inspect_of_one_that_has_ended(cli, two):
    format = "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}} {{.State.Pid}} {{.State.OOMKilled}}"
    assert cli.ok("inspect", "--format", format, "ended") == "exited 3 false 0 false"
    (mount,) = json.loads(cli.ok("inspect", "--format", "{{json .Mounts}}", "ended"))
    assert (mount["Type"], mount["Source"], mount["Destination"], mount["RW"]) == ("bind", "/etc", "/mnt", False)


def test_inspect_finds_images_too(cli, box):
    assert json.loads(cli.ok("inspect", box))[0]["RepoTags"]
    cli.fails("inspect", "--type", "container", box)


def test_inspect_prints_what_it_finds(cli, two):
    done = cli("inspect", "up", "no-such-thing")
    assert done.returncode != 0
    assert [one["Name"].lstrip("/") for one in json.loads(done.stdout)] == ["up"]


def test_inspect_container(cli, two):
    assert cli.ok("container", "inspect", "--format", "{{.Name}}", "up").lstrip("/") == "up"


@needs_limits
def test_limits_are_seen(cli, box):
    cli.ok("create", "--name", "c1", "--memory", "64m", "--pids-limit", "33", "--cpu-shares", "512", box, "true")
    format = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpuShares}}"
    assert cli.ok("inspect", "--format", format, "c1") == f"{64 << 20} 33 512"


def test_top_shows_processes(cli, two):
    assert "sleep 60" in cli.ok("top", "up") or "sleep" in cli.ok("top", "up")
    cli.fails("top", "ended")


def test_stats_once(cli, two):
    line = cli.ok("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "up")
    assert re.fullmatch(r"up [\d.]+[kKM]?i?B / [\d.]+[KMGT]i?B 1", line), line


@pytest.mark.skipif(CLI == "podman", reason="podman 4.3 with runc says yes and changes nothing")
@needs_limits
def test_update_holds_at_once_and_is_kept(cli, box):
    cli.ok("run", "-d", "--name", "c1", "--memory", "64m", box, "sleep", "60")
    cli.ok("update", "--memory", "128m", "--memory-swap", "256m", "--cpu-shares", "300", "c1")
    format = "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}}"
    assert cli.ok("inspect", "--format", format, "c1") == f"{128 << 20} 300"
    usage = cli.ok("stats", "--no-stream", "--format", "{{.MemUsage}}", "c1")
    assert re.search(r"/ (128MiB|134\.2MB)$", usage)


def test_events_tell_of_a_life(cli, box):
    id = cli.ok("run", "-d", "--name", "short-life", box, "sh", "-c", "exit 4")
    cli.ok("wait", "short-life")
    cli.ok("rm", "short-life")
    format = "{{.Action}}" if cli.name != "podman" else "{{.Status}}"
    until = str(int(time.time()) + 1)
    words = ("events", "--since", "1m", "--until", until) if cli.name != "podman" else ("events", "--stream=false")
    found = cli.ok(*words, "--filter", f"container={id}", "--format", format).split()
    died, removed = ("die", "destroy") if cli.name != "podman" else ("died", "remove")
    wanted = ["create", "start", died, removed]
    assert [word for word in found if word in wanted] == wanted


def test_port_of_one_without_ports_is_nothing(cli, two):
    assert cli.ok("port", "up") == ""


@needs_timers
def test_health_is_shown(cli, box):
    cli.ok("run", "-d", "--name", "c1", "--health-cmd", "true", "--health-interval", "1s", box, "sleep", "60")
    cli.until(lambda: cli.ok("inspect", "--format", "{{.State.Health.Status}}", "c1") == "healthy")
    assert cli.ok("ps", "--filter", "health=healthy", "--format", "{{.Names}}") == "c1"


def test_version_by_a_template(cli):
    assert re.fullmatch(r"\d+\.\d+\S* linux", cli.ok("version", "--format", "{{.Client.Version}} {{.Client.Os}}"))
    cli.fails("version", "--format", "{{")
