"""The v2 device program in the real kernel: its verifier takes it, and it decides. Needs no v2 controller."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from cgroups import BPF_SYSCALL, attach_device_program, write

from kist.kernel.cgroup import remove_cgroups
from kist.plan.cgroup_devices import device_program, device_rules
from kist.spec.runtime import DeviceCgroup

DENY = DeviceCgroup(allow=False, access="rwm")
TRY = """
import os, sys
for name, mode in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        if mode == "m":
            os.mknod(name, 0o020600, os.makedev(1, 7))
            os.unlink(name)
        else:
            os.close(os.open(name, {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}[mode]))
        print("yes")
    except PermissionError:
        print("no")
"""


@pytest.fixture
def cgroup() -> Iterator[str]:
    if os.geteuid() != 0 or not BPF_SYSCALL:
        pytest.skip("needs root, and a machine whose number of bpf(2) is known here")
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        trees = [line.split()[4] for line in mounts if " - cgroup2 " in line]
    if not trees:
        pytest.skip("needs a mounted cgroup2")
    path = f"{trees[0]}/kist-test-{uuid.uuid4().hex[:12]}"
    os.mkdir(path)
    yield path
    remove_cgroups([path])


def attempts(cgroup: str, *arguments: str) -> list[str]:
    argv = [sys.executable, "-I", "-S", "-c", TRY, *arguments]
    enter = lambda: write(f"{cgroup}/cgroup.procs", "0")  # noqa: E731
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, preexec_fn=enter)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def rule(allow: bool, kind: str, major: int | None, minor: int | None, access: str = "rwm") -> DeviceCgroup:
    return DeviceCgroup(allow=allow, type=kind, major=major, minor=minor, access=access)


def test_rules_decide(cgroup, tmp_path):
    node = str(tmp_path / "full")
    asked = ["/dev/null", "rw", "/dev/zero", "r", "/dev/zero", "rw", "/dev/urandom", "r", node, "m"]
    assert attempts(cgroup, *asked) == ["yes"] * 5  # control: without a program
    rules = [
        DENY,
        rule(True, "c", 1, None),
        rule(False, "c", 1, 5, "w"),
        rule(False, "c", 1, 9),
        rule(False, "a", 1, 7, "m"),
    ]
    attach_device_program(cgroup, device_program(device_rules(rules)))
    assert attempts(cgroup, *asked) == ["yes", "yes", "no", "no", "no"]


def test_default_allow(cgroup, tmp_path):
    rules = [rule(True, "a", None, None), rule(False, "c", 1, 5, "r")]
    attach_device_program(cgroup, device_program(device_rules(rules)))
    node = str(tmp_path / "full")
    assert attempts(cgroup, "/dev/null", "rw", "/dev/zero", "r", "/dev/zero", "w", node, "m") == [
        "yes",
        "no",
        "yes",
        "yes",
    ]


@pytest.mark.parametrize(
    "rules",
    [
        [DENY],
        [rule(True, "b", 8, 0, "r")],
        [rule(True, "c", 2**31 - 1, 2**31 - 1)],
        [DENY, rule(False, "c", 1, 3)],
        [rule(True, "a", None, None), rule(False, "a", None, None, "m"), rule(True, "b", None, 7, "m")],
        [DENY, *(rule(i % 2 == 0, "bc"[i % 2], i % 300, i, "r") for i in range(2047))],
    ],
)
def test_the_verifier_takes_it(cgroup, rules):
    attach_device_program(cgroup, device_program(device_rules(rules)))
