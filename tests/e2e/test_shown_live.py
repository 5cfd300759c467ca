"""What is shown of containers, where it is kist's own: why, explain, the screen, units, completion, ports."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from containers import KIST, ROOT
from kist.engine.containers import Containers
from kist.engine.remove import remove
from kist.engine.state import StateDirectory
from netns import Namespace


def kist(*words: str, status: int = 0) -> str:
    done = subprocess.run([*KIST, *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def none_is_left(run_dir) -> Iterator[None]:
    yield
    remove_all()


def remove_all() -> None:
    containers = Containers()
    for container in list(containers.all()):
        remove(containers, container, force=True)


@pytest.fixture
def web() -> Iterator[str]:
    yield kist("run", "-d", "--name", "web", "host", "sleep", "60")


def test_why_a_shell_ended():
    kist("run", "-d", "--name", "web", "host", "sh", "-c", "exit 7")
    kist("wait", "web")
    assert kist("why", "web").startswith("web ended by itself with exit status 7\n")


def test_why_it_was_stopped(web):
    assert kist("why", "web") == "web has not ended: it is running"
    kist("kill", "web")
    kist("wait", "web")
    said = kist("why", "web")
    assert said.startswith("web was killed by SIGKILL (exit status 137)\n")
    assert "somebody stopped it" in said


@pytest.mark.skipif(not ROOT, reason="an ordinary user may have no limits")
def test_why_of_one_without_memory():
    words = ("python3", "-c", "x = bytearray(200 << 20)")
    kist("run", "-d", "--name", "web", "--memory", "24m", "--memory-swap", "24m", "host", *words)
    kist("wait", "web")
    said = kist("why", "web")
    assert said.startswith("web ran out of memory")
    assert "of 24.0 MiB" in said


def test_why_of_one_that_could_not_start():
    kist("create", "--name", "web", "host", "/no/such/program")
    kist("start", "web", status=1)
    assert kist("why", "web").startswith("web could not be started: ")


def test_explain_of_one_that_is_kept(web):
    steps = json.loads(kist("explain", "--json", "web"))
    assert web in json.dumps(steps)
    assert any("sleep" in json.dumps(step) for step in steps)


def test_explain_of_an_image_is_as_before(web):
    assert json.loads(kist("explain", "--json", "host", "true"))


def test_info_counts(web):
    found = json.loads(kist("info", "--json"))
    assert (found["Containers"], found["ContainersRunning"]) == (1, 1)
    assert kist("system", "info", "--format", "{{.ContainersStopped}}") == "0"


def test_df_counts_what_was_written():
    kist("run", "-d", "--name", "web", "host", "sh", "-c", "dd if=/dev/zero of=/tmp/f bs=1M count=3")
    kist("wait", "web")
    line = kist("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}").splitlines()[1]
    *counts, size, unit = line.split()
    assert (counts, unit) == (["Containers", "1", "0"], "MiB")
    assert 3.0 <= float(size) < 4.0  # with directories, whose blocks depend on the file system


@pytest.fixture
def machine(run_dir) -> Iterator[Namespace]:
    """A host's network of its own."""
    if not ROOT or not shutil.which("ip"):
        pytest.skip("needs root, and ip: apt-get install iproute2")
    here = Namespace()
    yield here
    remove_all()
    here.inside(StateDirectory(str(run_dir)).sweep)
    here.close()
    shutil.rmtree(run_dir / ".network", ignore_errors=True)


def test_ports_are_shown(machine):
    words = ("--network", "bridge", "-p", "127.0.0.1:18099:80", "host", "sleep", "60")
    subprocess.run(machine.argv(*KIST, "run", "-d", "--name", "web", *words), check=True, capture_output=True)
    assert kist("port", "web", "80") == "127.0.0.1:18099"
    assert kist("port", "web") == "80/tcp -> 127.0.0.1:18099"
    kist("port", "web", "81", status=125)
    assert kist("ps", "--format", "{{.Ports}} {{.Networks}}") == "127.0.0.1:18099->80/tcp bridge"
    assert kist("ps", "-q", "--filter", "publish=18099", "--filter", "network=bridge")
    assert not kist("ps", "-q", "--filter", "publish=18098")
    settings = json.loads(kist("inspect", "--format", "{{json .NetworkSettings}}", "web"))
    assert settings["Ports"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18099"}]}
    assert settings["IPAddress"] == settings["Networks"]["bridge"]["IPAddress"] != ""
    subprocess.run(machine.argv(*KIST, "stop", "-t", "0", "web"), check=True, capture_output=True)
    assert kist("ps", "-a", "--format", "{{.Ports}}") == ""


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_takes_the_unit(web, tmp_path):
    path = tmp_path / "kist-web.service"
    path.write_text(kist("generate", "systemd", "--stop-timeout", "3", "web") + "\n")
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "kist-web" in line]
    assert (done.returncode, complaints) == (0, [])
    assert "TimeoutStopSec=23" in path.read_text()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes(web, tmp_path):
    program = tmp_path / "kist"
    program.write_text("#!/bin/sh\nexec " + " ".join(f"'{word}'" for word in KIST) + ' "$@"\n')
    program.chmod(0o755)
    words = "COMP_WORDS=(kist stop w); COMP_CWORD=2"
    script = f'PATH={tmp_path}:$PATH; source <(kist completion bash); {words}; _kist; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "web\n"


def test_the_screen_shows_and_stops(web):
    pytest.importorskip("textual")
    from kist.faces.screen import screen

    containers = Containers()

    async def use() -> list[str]:
        app = screen(containers)
        async with app.run_test(size=(100, 20)) as pilot:
            shown = [str(app.query_one("DataTable").get_row_at(0)[0])]
            await pilot.press("s")
            while containers.find("web").status != "exited":
                await pilot.pause(0.05)
            await pilot.press("q")
        return shown

    assert asyncio.run(asyncio.wait_for(use(), 40)) == ["web"]


def test_the_screen_needs_a_terminal():
    kist("top", status=125)


def test_each_key_is_a_command_of_kist(web):
    from kist.faces.cli.verbs import GROUPS, VERBS
    from kist.faces.screen import KEYS, command

    container = Containers().find("web")
    assert command("n", container)[-2:] == ["ns", str(container.pid)]
    assert command("e", container)[-1] == "sh"
    assert {words[0] for _, words in KEYS.values() if words} - VERBS.keys() - GROUPS.keys() <= {"logs", "exec"}


@pytest.mark.skipif(not ROOT, reason="an ordinary user may have no limits")
def test_update_says_what_it_can_not_do(web):
    kist("update", "web", status=125)
    kist("update", "--memory", "1k", "web", status=125)
    kist("update", "--pids-limit", "50", "--restart", "always", "web")
    assert (
        kist("inspect", "--format", "{{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}", "web")
        == "50 always"
    )


def test_stats_of_processes_that_have_children():
    kist("run", "-d", "--name", "web", "host", "sh", "-c", "sleep 60 & sleep 60; true")
    format = "{{.PIDs}} {{.MemUsage}}"
    seen = []
    while not (seen and seen[-1].startswith("3 ")) and len(seen) < 10:
        seen.append(kist("stats", "--no-stream", "--format", format, "web"))
    assert seen[-1].startswith("3 "), seen
    assert not seen[-1].startswith("3 0B")
    assert kist("top", "web", "-eo", "pid,args").count("sleep 60") >= 2
