"""Health checks: flags, the image's, ps, healthcheck run."""

from rivals import needs_timers


def health(cli, name):
    lines = cli.ok("ps", "-a", "--format", "{{.Names}} {{.Status}}").splitlines()
    status = next(line for line in lines if line.startswith(f"{name} "))
    return status.partition("(")[2].rstrip(")")


@needs_timers
def test_health_follows_the_command(cli, box):
    cli.ok("run", "-d", "--name", "web", "--health-cmd", "test -e /ok", "--health-interval", "1s", "--health-retries",
           "1", box, "sleep", "1000")  # fmt: skip
    assert health(cli, "web") in ("health: starting", "starting", "unhealthy")
    cli.until(lambda: health(cli, "web") == "unhealthy")
    cli.ok("exec", "web", "touch", "/ok")
    cli.until(lambda: health(cli, "web") == "healthy")


@needs_timers
def test_failures_do_not_count_while_it_starts(cli, box):
    cli.ok("run", "-d", "--name", "web", "--health-cmd", "echo x >>/n; exit 1", "--health-interval", "1s",
           "--health-retries", "1", "--health-start-period", "1h", box, "sleep", "1000")  # fmt: skip
    cli.until(lambda: cli("exec", "web", "cat", "/n").stdout.count("x") > 1)
    assert "starting" in health(cli, "web")


@needs_timers
def test_a_check_that_takes_too_long_has_failed(cli, box):
    cli.ok("run", "-d", "--name", "web", "--health-cmd", "sleep 1000", "--health-interval", "1s", "--health-timeout",
           "1s", "--health-retries", "1", box, "sleep", "1000")  # fmt: skip
    cli.until(lambda: health(cli, "web") == "unhealthy")


def test_no_health_without_a_check(cli, box):
    cli.ok("run", "-d", "--name", "web", box, "sleep", "1000")
    assert health(cli, "web") == ""
    if cli.name != "docker":
        cli.fails("healthcheck", "run", "web", status=125)


def test_healthcheck_run(cli, box):
    if cli.name == "docker":
        return
    cli.ok("run", "-d", "--name", "web", "--health-cmd", "test -e /ok", "--health-interval", "1h", box, "sleep", "1000")
    assert cli("healthcheck", "run", "web").returncode == 1
    cli.ok("exec", "web", "touch", "/ok")
    assert cli("healthcheck", "run", "web").returncode == 0
    assert health(cli, "web") == "healthy"
