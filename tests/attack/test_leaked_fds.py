"""CVE-2016-9962, CVE-2024-21626: a directory of the host that the command inherits, or goes to by /proc/self/fd."""

import os

import pytest

from containers import inside, kist
from kist.engine.making import make
from kist.engine.state import StateDirectory, run_directory
from kist.errors import StepFailed
from kist.faces.cli.request import run_request, this_process
from kist.kernel.launcher import Launcher
from kist.kernel.program import open_program
from kist.plan.setting import Stdio
from kist.plan.steps import INIT, Chdir, Entry, Open, PivotRoot, Slots


def test_only_standard_input_and_output_are_open(tmp_path):
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        names = inside("host", "sh", "-c", "cd /proc/self/fd; echo *", close_fds=False).split()
    finally:
        os.close(fd)
    assert names in (["0", "1", "2"], ["0", "1", "2", "3"])  # 3: the shell reads the directory


@pytest.mark.parametrize("number", range(3, 24))
def test_no_working_directory_leads_out(number):
    done = kist("run", "--rm", "-w", f"/proc/self/fd/{number}", "host", "pwd")
    assert done.returncode == 125
    assert done.stdout == ""


def plan_with_a_leak(rootfs, path: str, *, to: str):
    """The plan of a launcher that forgot about a directory of the host, opened just before the root was left."""
    request = run_request({"rootfs": [str(rootfs)]}, ("sh", "-c", "pwd; ls"), this_process(), captured=True)
    container = make(request, Stdio(), StateDirectory(run_directory(os.environ)), attached=False)
    plan = list(container.compiled.plan)
    pivot = next(i for i, entry in enumerate(plan) if isinstance(entry.step, PivotRoot))
    plan.insert(pivot, Entry(Open(path, os.O_RDONLY | os.O_DIRECTORY, Slots.START), INIT, "rootfs", "a leak"))
    chdir = next(i for i, entry in enumerate(plan) if isinstance(entry.step, Chdir))
    plan[chdir] = Entry(Chdir(to), INIT, "rootfs", "an attack")
    return container, tuple(plan)


def outcome(rootfs, path: str, *, to: str) -> str:
    container, plan = plan_with_a_leak(rootfs, path, to=to)
    program = open_program()
    null = os.open("/dev/null", os.O_RDWR)
    launcher = Launcher(plan, program, (null, null, null), container.kept_fds)
    container.close(remove=False)
    try:
        launcher.wait()
        return "ran"
    except StepFailed as e:
        return str(e)
    finally:
        os.close(null)
        os.close(program)


def test_a_leaked_directory_is_noticed(rootfs):
    """Whatever number the leak has: one of these is it, and none gets through."""
    results = [outcome(rootfs, "/", to=f"/proc/self/fd/{number}") for number in range(3, 24)]
    assert "ran" not in results
    assert any("EXDEV" in result for result in results)  # the control: the attack was possible, and was seen
    assert outcome(rootfs, "/", to="/") == "ran"
