"""Takes the steps of a cgroup plan as the launcher would, below a parent directory that ends with the test."""

import ctypes
import os
import platform
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kist.kernel.cgroup import Usage, parse_usage, remove_cgroups
from kist.kernel.probe import probe
from kist.plan.cgroup import CgroupPlan, cgroup_paths, plan_cgroup
from kist.plan.facts import HostFacts
from kist.plan.steps import (
    CgroupDevices,
    CgroupInherit,
    CgroupJoin,
    CgroupMake,
    Mkdir,
    Open,
    ReportFile,
    Step,
    WriteFile,
)
from kist.spec.runtime import Resources

BPF_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280}.get(platform.machine(), 0)
BPF_PROG_LOAD, BPF_PROG_ATTACH = 5, 8
BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE = 15, 6

# Programs to run inside: eat so many MiB, fork 20 times, open the devices named.
EAT = "import sys; print(len(bytearray(int(sys.argv[1]) << 20)))"
FORK = """
import os
r, w = os.pipe()
made = 0
try:
    while made < 20:
        if os.fork() == 0:
            os.close(w)
            os.read(r, 1)
            os._exit(0)
        made += 1
except BlockingIOError:
    pass
print(made)
"""
OPEN = """
import os, sys
for name in sys.argv[1:]:
    try:
        os.close(os.open(name, os.O_RDWR))
        print("opened")
    except PermissionError:
        print("refused")
"""


def needs(version: int) -> HostFacts:
    """This host's facts; skips when its controllers are not on cgroup v1 or v2, or when this is not root."""
    facts = probe()
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if facts.cgroup.version != version:
        pytest.skip(f"needs the controllers on cgroup v{version}, here they are on v{facts.cgroup.version}")
    return facts


def read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def write(path: str, data: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        assert os.write(fd, data.encode()) == len(data)
    finally:
        os.close(fd)


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(BPF_SYSCALL, command, attributes, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf {command}")
    return result


def attach_device_program(path: str, program: bytes) -> None:
    """bpf(2): load, which includes the kernel's verifier, and attach to a v2 cgroup."""
    code, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"Apache-2.0")
    load = struct.pack(
        "=IIQQIIQII",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
    )
    fd = _bpf(BPF_PROG_LOAD, load)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _bpf(BPF_PROG_ATTACH, struct.pack("=IIII", directory, fd, BPF_CGROUP_DEVICE, 0))
    finally:
        os.close(directory)
        os.close(fd)


def execute(step: Step) -> None:
    match step:
        case Mkdir(path=path, keep=1):
            os.makedirs(path, exist_ok=True)
        case CgroupMake(path=path):
            os.mkdir(path)
        case WriteFile(path=path, data=data):
            write(path, data)
        case CgroupInherit(path=path, file=file, nothing=nothing):
            if read(f"{path}/{file}") == nothing:
                write(f"{path}/{file}", read(f"{os.path.dirname(path)}/{file}"))
        case CgroupJoin(path=path):  # v1: through `tasks`, which takes no lock that waits for RCU
            write(f"{path}/tasks" if os.path.exists(f"{path}/tasks") else f"{path}/cgroup.procs", "0")
        case CgroupDevices(path=path, program=program):
            attach_device_program(path, program)
        case Open():
            pass
        case _:
            raise AssertionError(step)


class Made:
    """A cgroup whose `before` steps have been taken."""

    def __init__(self, plan: CgroupPlan) -> None:
        self.plan = plan

    def enter(self) -> None:
        for entry in self.plan.join:
            execute(entry.step)
        if self.plan.uses_clone_into:  # clone3 would do it; subprocess can't
            write(f"{self.plan.paths[0]}/cgroup.procs", "0")

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Python code in a process inside, with pipes."""
        argv = [sys.executable, "-I", "-S", "-c", script, *arguments]
        pipe = subprocess.PIPE
        enter = self.enter  # in the child, before exec: the tests have one thread
        return subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, preexec_fn=enter)  # noqa: PLW1509

    def run(self, script: str, *arguments: str) -> tuple[int, str]:
        """Exit status (negative: signal) and output."""
        with self.start(script, *arguments) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    def read(self, file: str) -> str:
        [path] = [f"{path}/{file}" for path in self.plan.paths if os.path.exists(f"{path}/{file}")]
        return read(path)

    def usage(self) -> Usage:
        steps = [entry.step for entry in self.plan.after]
        return parse_usage({step.label: read(step.path) for step in steps if isinstance(step, ReportFile)})


@contextmanager
def made(resources: Resources | None, facts: HostFacts) -> Iterator[Made]:
    parent = f"/kist-test-{uuid.uuid4().hex[:12]}"
    plan = plan_cgroup(resources, f"{parent}/one", facts, allow_unenforced=False)
    try:
        cpuset = facts.cgroup.v1.get("cpuset")
        if cpuset and f"{cpuset.mount}{parent}/one" in plan.paths:
            # kist fills the v1 parents that are its own; whoever makes another --cgroup-parent must do it.
            os.mkdir(f"{cpuset.mount}{parent}")
            write(f"{cpuset.mount}{parent}/cpuset.cpus", facts.cgroup.cpuset_cpus)
            write(f"{cpuset.mount}{parent}/cpuset.mems", facts.cgroup.cpuset_mems)
        for entry in plan.before:
            execute(entry.step)
        yield Made(plan)
    finally:
        remove_cgroups(cgroup_paths(f"{parent}/one", facts))
        remove_cgroups(cgroup_paths(parent, facts))
        assert not any(os.path.exists(path) for path in plan.paths)
