"""Removing cgroups with everything inside, on whatever hierarchies this host has."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from cgroups import read, write

from kist.errors import Conflict
from kist.kernel.cgroup import remove_cgroups

SLEEP = "import signal; print('up', flush=True); signal.pause()"
# Forks without end, every child ignoring what can be ignored.
BOMB = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def trees() -> list[str]:
    """A mount point of each kind: v1 hierarchies of use here, and the v2 tree."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        for line in mounts:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()
            wanted = {"pids", "freezer", "memory"} & set(options.split(","))
            if left.split()[3] == "/" and (kind == "cgroup2" or (kind == "cgroup" and wanted)):
                found.append(left.split()[4])
    return found


@pytest.fixture
def paths() -> Iterator[list[str]]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    made = [f"{tree}/kist-test-{uuid.uuid4().hex[:12]}" for tree in trees()]
    if not made:
        pytest.skip("needs a mounted cgroup file system")
    for path in made:
        os.mkdir(path)
    yield made
    remove_cgroups(made)


def start(paths: list[str], script: str = SLEEP) -> subprocess.Popen[str]:
    def enter() -> None:
        for path in paths:
            write(f"{path}/cgroup.procs", "0")

    argv = [sys.executable, "-I", "-S", "-c", script]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, preexec_fn=enter)  # noqa: PLW1509
    assert process.stdout.readline() == "up\n"
    return process


def test_kills_and_removes_nested_ones_and_nobody_else(paths):
    nested = [f"{path}/a/b" for path in paths]
    for path in nested:
        os.makedirs(path)
    sibling = [f"{path}-sibling" for path in paths]
    for path in sibling:
        os.mkdir(path)
    try:
        with start(paths) as outer, start(nested) as inner, start(sibling) as bystander:
            remove_cgroups(paths)
            assert outer.wait() == inner.wait() == -signal.SIGKILL
            assert not any(os.path.exists(path) for path in paths)
            assert bystander.poll() is None
            bystander.kill()
    finally:
        remove_cgroups(sibling)


def test_fork_bomb(paths):
    limited = [path for path in paths if os.path.exists(f"{path}/pids.max")]
    for path in limited:
        write(f"{path}/pids.max", "200")
    if not limited:
        pytest.skip("needs the pids controller")
    with start(paths, BOMB) as bomb:
        remove_cgroups(paths, timeout_s=60)
        assert bomb.wait() == -signal.SIGKILL
    assert not any(os.path.exists(path) for path in paths)


def test_frozen_ones(paths):
    states = {"freezer.state": "FROZEN", "cgroup.freeze": "1"}
    freezers = [(f"{path}/{file}", value) for path in paths for file, value in states.items()]
    with start(paths) as process:
        for file, value in freezers:
            if os.path.exists(file):
                write(file, value)
        remove_cgroups(paths)
        assert process.wait() == -signal.SIGKILL


def test_gone_already(paths):
    for path in paths:
        os.rmdir(path)
    remove_cgroups([*paths, "/nonexistent/kist"])


def test_deeper_than_a_path_can_say(paths):
    for path in paths:
        at = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(25):
            os.mkdir("x" * 200, dir_fd=at)
            below = os.open("x" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        os.close(at)
    remove_cgroups(paths)
    assert not any(os.path.exists(path) for path in paths)


def test_never_kills_itself(paths):
    script = f"""
import sys
sys.path[:] = {sys.path!r}
from kist.errors import Conflict
from kist.kernel.cgroup import remove_cgroups
print('up', flush=True)
try:
    remove_cgroups({paths!r})
except Conflict as e:
    print(e.why)
"""
    with start(paths, script) as process, start(paths) as other:
        assert process.stdout.read() == "kist itself runs in it\n"
        assert process.wait() == 0
        assert other.poll() is None
        other.kill()


def test_says_who_is_inside_when_time_is_up(paths):
    with start(paths) as process:
        with pytest.raises(Conflict) as e:
            remove_cgroups(paths, timeout_s=0)
        assert str(process.pid) in e.value.why
    remove_cgroups(paths)


def test_control_a_populated_cgroup_cannot_simply_be_removed(paths):
    with start(paths) as process:
        for path in paths:
            with pytest.raises(OSError, match="busy"):
                os.rmdir(path)
            assert str(process.pid) in read(f"{path}/cgroup.procs").split()
        process.kill()
