"""Limits of cgroup v2 on the real kernel: values read back, each limit bites, without it the same program works."""

import os
import signal

import pytest
from cgroups import EAT, FORK, OPEN, made, needs, read, write

from kist.plan.facts import HostFacts
from kist.spec.runtime import BlockIO, Cpu, DeviceCgroup, Memory, Pids, Resources, ThrottleDevice
from kist.value import replace

MIB = 1 << 20
DENY = DeviceCgroup(allow=False, access="rwm")


@pytest.fixture
def facts() -> HostFacts:
    return needs(2)


def test_values_are_what_was_asked(facts):
    disk = next(name for name in sorted(os.listdir("/sys/block")) if read(f"/sys/block/{name}/size") != "0")
    device = read(f"/sys/block/{disk}/dev")
    major, minor = map(int, device.split(":"))
    resources = Resources(
        memory=Memory(limit=64 * MIB, reservation=32 * MIB),
        pids=Pids(limit=7),
        cpu=Cpu(shares=512, quota=150000, period=50000, burst=1000, cpus="0"),
        block_io=BlockIO(throttle_read_bps_device=(ThrottleDevice(major=major, minor=minor, rate=MIB),)),
        unified={"memory.high": str(60 * MIB), "cgroup.max.depth": "3"},
    )
    if facts.cgroup.swap_accounting:
        resources = replace(resources, memory=replace(resources.memory, swap=96 * MIB))
    with made(resources, facts) as cgroup:
        assert cgroup.read("memory.max") == str(64 * MIB)
        assert cgroup.read("memory.low") == str(32 * MIB)
        assert cgroup.read("memory.high") == str(60 * MIB)
        if facts.cgroup.swap_accounting:
            assert cgroup.read("memory.swap.max") == str(32 * MIB)
        assert cgroup.read("pids.max") == "7"
        assert cgroup.read("cpu.weight") == "59"
        assert cgroup.read("cpu.max") == "150000 50000"
        assert cgroup.read("cpu.max.burst") == "1000"
        assert cgroup.read("cpuset.cpus") == "0"
        assert cgroup.read("io.max") == f"{device} rbps={MIB} wbps=max riops=max wiops=max"
        assert cgroup.read("cgroup.max.depth") == "3"
        status, out = cgroup.run("import os; print(os.sched_getaffinity(0))")
        assert (status, out.strip()) == (0, "{0}")


def test_io_weight(facts):
    if not facts.cgroup.io_weight:
        pytest.skip("needs an I/O scheduler that weighs cgroups (BFQ, or io.cost)")
    with made(Resources(block_io=BlockIO(weight=500)), facts) as cgroup:
        expected = {"io.bfq.weight": "default 500", "io.weight": "default 4950"}
        assert cgroup.read(facts.cgroup.io_weight) == expected[facts.cgroup.io_weight]


def test_idle_after_shares(facts):
    with made(Resources(cpu=Cpu(shares=2, idle=1)), facts) as cgroup:
        assert cgroup.read("cpu.idle") == "1"


def test_memory_limit_kills(facts):
    with made(Resources(memory=Memory(limit=24 * MIB)), facts) as cgroup:
        assert cgroup.run(EAT, "96")[0] == -signal.SIGKILL
        usage = cgroup.usage()
        assert usage.oom_kills == 1
        assert usage.memory_limit_hits
        assert usage.memory_peak_bytes is None or 16 * MIB < usage.memory_peak_bytes <= 24 * MIB
    with made(None, facts) as cgroup:  # control
        assert cgroup.run(EAT, "96") == (0, f"{96 * MIB}\n")
        usage = cgroup.usage()
        assert (usage.oom_kills, usage.memory_limit_hits) == (0, 0)
        assert usage.cpu_total_ns > 0


def test_pids_limit_refuses_forks(facts):
    with made(Resources(pids=Pids(limit=5)), facts) as cgroup:
        assert cgroup.run(FORK) == (0, "4\n")
        assert cgroup.usage().pids_limit_hits
    with made(None, facts) as cgroup:  # control
        assert cgroup.run(FORK) == (0, "20\n")
        usage = cgroup.usage()
        assert usage.pids_limit_hits == 0
        assert usage.pids_peak in (21, None)


def test_device_rules_refuse(facts):
    null = DeviceCgroup(allow=True, type="c", major=1, minor=3, access="rw")
    with made(Resources(devices=(DENY, null)), facts) as cgroup:
        assert cgroup.run(OPEN, "/dev/null", "/dev/zero") == (0, "opened\nrefused\n")
    with made(Resources(devices=(DeviceCgroup(allow=True, access="rwm"),)), facts) as cgroup:  # control
        assert cgroup.run(OPEN, "/dev/null", "/dev/zero") == (0, "opened\nopened\n")


def test_freezer_stops_and_thaws(facts):
    with made(None, facts) as cgroup:
        with cgroup.start("print('up', flush=True); input(); print('down')") as process:
            assert process.stdout.readline() == "up\n"
            write(cgroup.plan.freezer, "1")
            while "frozen 1" not in cgroup.read("cgroup.events"):
                pass
            write(cgroup.plan.freezer, "0")
            assert process.communicate("\n", timeout=60)[0] == "down\n"
