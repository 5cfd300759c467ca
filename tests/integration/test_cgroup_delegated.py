"""An ordinary user in a delegated v2 cgroup, as `systemd-run --user --scope -p Delegate=yes` makes one."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from cgroups import needs, write

from kist.kernel.cgroup import remove_cgroups

USER = 1000
# argv: the cgroup to live in. Everything is imported before the user is left with what 1000 may read.
SCRIPT = """
import os, signal, sys
from cgroups import execute, write
from kist.errors import Refused
from kist.kernel.cgroup import enter, remove_cgroups
from kist.kernel.probe import probe
from kist.plan.cgroup import plan_cgroup
from kist.spec.runtime import Memory, Pids, Resources

write(sys.argv[1] + "/cgroup.procs", "0")
os.setgroups([])
os.setgid(1000)
os.setuid(1000)
limits = Resources(memory=Memory(limit=24 << 20), pids=Pids(limit=10))
for time in ("first", "second"):
    try:
        plan = plan_cgroup(limits, "/kist/one", probe(), allow_unenforced=False)
    except Refused as e:
        sys.exit(e.why)
    if plan.leaf:
        enter(plan.leaf)
    for entry in plan.before:
        execute(entry.step)
    child = os.fork()
    if child == 0:
        write(plan.paths[0] + "/cgroup.procs", "0")
        bytearray(96 << 20)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(time, "leaf" if plan.leaf else "stay", "killed" if os.WTERMSIG(status) == signal.SIGKILL else status)
    remove_cgroups(plan.paths)
"""


@pytest.fixture
def scope() -> Iterator[str]:
    facts = needs(2)
    if not facts.cgroup.v2.base_is_root:
        pytest.skip("needs the root of the cgroup tree")
    path = f"{facts.cgroup.v2.mount}/kist-test-{uuid.uuid4().hex[:12]}"
    os.mkdir(path)
    yield path
    remove_cgroups([path])


def run(scope: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys\nsys.path[:] = {sys.path!r}\n{SCRIPT}"
    argv = [sys.executable, "-I", "-S", "-c", script, scope]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def delegate(scope: str) -> None:
    """As systemd does for Delegate=yes. Source: kernel cgroup-v2.rst, "Model of Delegation"."""
    for name in ("", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
        os.chown(f"{scope}/{name}", USER, USER)


def test_limits_hold_after_moving_to_the_leaf_and_nobody_moves_twice(scope):
    delegate(scope)
    done = run(scope)
    assert done.stdout == "first leaf killed\nsecond stay killed\n", done.stderr


def test_control_not_delegated(scope):
    done = run(scope)
    assert "is not delegated to this user" in done.stderr


def test_control_somebody_else_lives_there(scope):
    delegate(scope)
    enter = lambda: write(f"{scope}/cgroup.procs", "0")  # noqa: E731
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, preexec_fn=enter) as cat:  # noqa: PLW1509
        done = run(scope)
        cat.communicate()
    assert "other processes live in the cgroup" in done.stderr
