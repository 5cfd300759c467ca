"""podman, podman of an ordinary user, docker and containerd run their containers with kist-oci."""

import os
import shutil
from collections.abc import Iterator

import pytest

import engines
from bundles import wait_for
from containers import needs_root
from engines import IMAGE, Engine
from terminal import Terminal

pytestmark = needs_root
# As process 1 it dies of no signal that it has no handler for.
SERVICE = "trap 'echo bye; exit 7' TERM; echo up; echo err >&2; while :; do sleep 0.1; done"
LIMIT = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max"


def need(*programs: str) -> None:
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: Debian has packages")


@pytest.fixture(scope="module", params=["podman", "rootless podman", "docker"])
def engine(request: pytest.FixtureRequest, rootfs) -> Iterator[Engine]:
    """One engine for all tests, with an image."""
    if request.param == "docker":
        need("dockerd", "containerd", "docker")
        make = engines.docker
    else:
        need("podman", "conmon")
        make = engines.podman
    if request.param == "rootless podman":
        need("newuidmap", "useradd", "setpriv")
        if not engines.ordinary_python():
            pytest.skip("needs a Python 3.11 that every user may run: KIST_TEST_PYTHON")
        make = engines.rootless_podman
    with make(rootfs) as made:
        yield made


@pytest.fixture(scope="module")
def service(engine: Engine) -> Iterator[str]:
    """A container that runs all the time."""
    id = engine.run("--detach", IMAGE, "sh", "-c", SERVICE).stdout.strip()
    yield id
    pid = int(field(engine, id, "State.Pid"))
    engine("rm", "--force", id)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))


def field(engine: Engine, id: str, path: str) -> str:
    return engine("inspect", "--format", f"{{{{.{path}}}}}", id).stdout.strip()


def logs(engine: Engine, id: str) -> str:
    return engine("logs", id).stdout


def test_run(engine: Engine):
    done = engine.run("--rm", "-i", IMAGE, "sh", "-c", "cat; echo err >&2; exit 5", ok=False, input="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (5, "in\n", "err\n")


def test_options_reach_the_container(engine: Engine):
    options = [
        "--hostname",
        "h",
        "--workdir",
        "/tmp",
        "--env",
        "A=b",
        "--user",
        "33:34",
        "--read-only",
        "--cap-drop",
        "ALL",
    ]
    script = "hostname; pwd; echo $A; id -u; id -g; touch /x 2>&1; grep CapBnd /proc/self/status"
    lines = engine.run("--rm", *options, IMAGE, "sh", "-c", script).stdout.splitlines()
    assert lines[:5] == ["h", "/tmp", "b", "33", "34"]
    assert "Read-only" in lines[5]
    assert lines[6].split() == ["CapBnd:", "0000000000000000"]


def test_what_cannot_be_executed(engine: Engine):
    for command, status in (("nosuch", 127), ("/etc", 126)):
        done = engine.run("--rm", IMAGE, command, ok=False)
        assert done.returncode == status, done.stderr
        assert command in done.stderr


def test_detached(engine: Engine):
    container = engine.run("--detach", IMAGE, "sh", "-c", SERVICE).stdout.strip()
    wait_for(lambda: "up" in logs(engine, container))
    assert field(engine, container, "State.Status") == "running"
    done = engine("exec", "-i", container, "sh", "-c", "cat; cat /proc/1/comm; exit 4", ok=False, input="in\n")
    assert (done.returncode, done.stdout) == (4, "in\nsh\n")
    assert engine("exec", container, "nosuch", ok=False).returncode == (126 if engine.name == "docker" else 127)
    assert "sh -c" in engine("top", container).stdout
    engine("stop", "--time", "60", container)
    assert field(engine, container, "State.ExitCode") == "7"
    assert logs(engine, container) == "up\nbye\n"
    assert engine("logs", container).stderr == "err\n"
    engine("start", container)
    assert field(engine, container, "State.Running") == "true"
    engine("kill", "--signal", "KILL", container)
    assert engine("wait", container).stdout.strip() == "137"
    engine("rm", container)
    assert engine("inspect", container, ok=False).returncode != 0


def test_pause(engine: Engine, service):
    if not engine.limits:
        pytest.skip("an ordinary user has no freezer on cgroup v1")
    engine("pause", service)
    assert field(engine, service, "State.Status") == "paused"
    engine("unpause", service)
    assert field(engine, service, "State.Status") == "running"
    assert engine("exec", service, "echo", "on").stdout == "on\n"


def test_terminal(engine: Engine):
    argv = [*engine.prefix, *engine.argv, "run", *engine.run_options, "--rm", "-it", IMAGE, "sh"]
    with Terminal(argv, rows=33, columns=99) as terminal:
        terminal.expect("# ")
        terminal.type("until stty size | grep '33 99'; do sleep 0.1; done; tty; exit 6\n")
        terminal.expect(r"\n33 99\s+/dev/pts/0")
        assert terminal.wait() == 6


def test_terminal_of_an_exec(engine: Engine, service):
    with Terminal([*engine.prefix, *engine.argv, "exec", "-it", service, "sh"]) as terminal:
        terminal.expect("# ")
        terminal.type("tty; exit 8\n")
        terminal.expect(r"/dev/pts/\d")
        assert terminal.wait() == 8


def test_memory(engine: Engine):
    if not engine.limits:
        pytest.skip("an ordinary user sets no limits on cgroup v1")
    script = f"{LIMIT}; head -c 200m /dev/zero | tail > /dev/null; echo $?"
    done = engine.run("--rm", "--memory", "64m", "--memory-swap", "64m", IMAGE, "sh", "-c", script)
    assert done.stdout.split() == [str(64 << 20), "137"]


def test_update(engine: Engine, service):
    if not engine.limits:
        pytest.skip("an ordinary user sets no limits on cgroup v1")
    engine("update", "--memory", "48m", "--memory-swap", "96m", service)
    assert engine("exec", service, "sh", "-c", LIMIT).stdout.strip() == str(48 << 20)


def test_build(engine: Engine):
    """buildah asks for ambient capabilities without inheritable ones: one warning, not one for each of them."""
    if engine.name == "docker":
        pytest.skip("docker builds with a runc of its own")
    file = f"FROM {IMAGE}\nRUN echo built > /made && grep CapAmb /proc/self/status\n"
    # buildah gives the container the parent itself as its cgroup, where others' processes may still be
    options = [f"{option}/build" if option.startswith("/kist-podman") else option for option in engine.run_options]
    done = engine("build", "--isolation", "oci", *options, "--tag", "made", "-", input=file)
    assert "CapAmb:\t0000000000000000" in done.stdout
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 1, done.stderr
    assert "can't raise ambient capability CAP_CHOWN, " in warnings[0]
    assert engine.run("--rm", "made", "cat", "/made").stdout == "built\n"
    engine("rmi", "made")


# --- containerd


@pytest.fixture(scope="module")
def ctr(rootfs) -> Iterator[Engine]:
    need("containerd", "ctr", "containerd-shim-runc-v2")
    with engines.containerd() as made:
        yield made


def test_ctr_run(ctr: Engine, rootfs):
    done = ctr.run(
        "--rm", str(rootfs), "one", "sh", "-c", "read x; echo $x; echo err >&2; exit 5", ok=False, input="in\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "in\n", "err\n")
    failed = ctr.run("--rm", str(rootfs), "two", "nosuch", ok=False)
    assert failed.returncode != 0
    assert 'exec: "nosuch": executable file not found in $PATH' in failed.stderr
    ctr("container", "rm", "two", ok=False)


def status(ctr: Engine, id: str) -> str:
    lines = [line.split() for line in ctr("tasks", "ls").stdout.splitlines()[1:]]
    return next((line[2] for line in lines if line[0] == id), "")


def test_ctr_tasks(ctr: Engine, rootfs):
    ctr.run("--detach", "--memory-limit", str(64 << 20), str(rootfs), "three", "sh", "-c", SERVICE)
    assert status(ctr, "three") == "RUNNING"
    done = ctr("tasks", "exec", "--exec-id", "e", "three", "sh", "-c", f"{LIMIT}; exit 4", ok=False)
    assert done.returncode == 4, done.stderr
    ctr("tasks", "pause", "three")
    assert status(ctr, "three") == "PAUSED"
    ctr("tasks", "resume", "three")
    assert status(ctr, "three") == "RUNNING"
    assert "three" in ctr("tasks", "metrics", "three").stdout
    assert len(ctr("tasks", "ps", "three").stdout.splitlines()) >= 2
    ctr("tasks", "kill", "--signal", "SIGTERM", "three")
    wait_for(lambda: status(ctr, "three") == "STOPPED")
    assert "exit code 7" in ctr("tasks", "rm", "three").stderr
    ctr("containers", "rm", "three")


def test_ctr_terminal(ctr: Engine, rootfs):
    argv = [*ctr.argv, "run", "--rm", "--tty", *ctr.run_options, str(rootfs), "four", "sh"]
    with Terminal(argv, rows=33, columns=99) as terminal:
        terminal.expect("# ")
        terminal.type("until stty size | grep '33 99'; do sleep 0.1; done; tty; exit 6\n")
        terminal.expect(r"\n33 99\s+/dev/pts/0")
        assert terminal.wait() == 6
