"""Limits of cgroup v1 on the real kernel: values read back, each limit bites, without it the same program works."""

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
    return needs(1)


def test_values_are_what_was_asked(facts):
    disk = next(name for name in sorted(os.listdir("/sys/block")) if read(f"/sys/block/{name}/size") != "0")
    major, minor = map(int, read(f"/sys/block/{disk}/dev").split(":"))
    resources = Resources(
        memory=Memory(limit=64 * MIB, reservation=32 * MIB, swappiness=10),
        pids=Pids(limit=7),
        cpu=Cpu(shares=512, quota=150000, period=50000, burst=1000, cpus="0"),
        block_io=BlockIO(throttle_read_bps_device=(ThrottleDevice(major=major, minor=minor, rate=MIB),)),
        devices=(DENY, DeviceCgroup(allow=True, type="c", major=1, minor=3, access="rw")),
    )
    if facts.cgroup.swap_accounting:
        resources = replace(resources, memory=replace(resources.memory, swap=96 * MIB))
    with made(resources, facts) as cgroup:
        assert cgroup.read("memory.limit_in_bytes") == str(64 * MIB)
        assert cgroup.read("memory.soft_limit_in_bytes") == str(32 * MIB)
        assert cgroup.read("memory.swappiness") == "10"
        if facts.cgroup.swap_accounting:
            assert cgroup.read("memory.memsw.limit_in_bytes") == str(96 * MIB)
        assert cgroup.read("pids.max") == "7"
        assert cgroup.read("cpu.shares") == "512"
        assert cgroup.read("cpu.cfs_quota_us") == "150000"
        assert cgroup.read("cpu.cfs_period_us") == "50000"
        assert cgroup.read("cpu.cfs_burst_us") == "1000"
        assert cgroup.read("cpuset.cpus") == "0"
        assert cgroup.read("cpuset.mems") == facts.cgroup.cpuset_mems
        assert cgroup.read("blkio.throttle.read_bps_device") == f"{major}:{minor} {MIB}"
        assert cgroup.read("devices.list") == "c 1:3 rw"
        status, out = cgroup.run("import os; print(os.sched_getaffinity(0))")
        assert (status, out.strip()) == (0, "{0}")


def test_io_weight(facts):
    if not facts.cgroup.io_weight:
        pytest.skip("needs an I/O scheduler that weighs cgroups (BFQ)")
    with made(Resources(block_io=BlockIO(weight=500)), facts) as cgroup:
        assert cgroup.read(facts.cgroup.io_weight) == "500"


def test_idle_after_shares(facts):
    with made(Resources(cpu=Cpu(shares=2, idle=1)), facts) as cgroup:
        assert cgroup.read("cpu.idle") == "1"


def test_all_joined_and_left_nowhere_else(facts):
    with made(Resources(pids=Pids(limit=50)), facts) as cgroup:
        status, out = cgroup.run("print(open('/proc/self/cgroup').read())")
        assert status == 0
        inside = {line.split(":")[1] for line in out.splitlines() if "/kist-test-" in line}
        assert inside == {"memory", "pids", "cpuacct", "freezer"} & facts.cgroup.v1.keys()


def test_memory_limit_kills(facts):
    with made(Resources(memory=Memory(limit=24 * MIB)), facts) as cgroup:
        assert cgroup.run(EAT, "96")[0] == -signal.SIGKILL
        usage = cgroup.usage()
        assert usage.oom_kills == 1
        assert usage.memory_limit_hits
        assert 16 * MIB < usage.memory_peak_bytes <= 24 * MIB
    with made(None, facts) as cgroup:  # control
        assert cgroup.run(EAT, "96") == (0, f"{96 * MIB}\n")
        usage = cgroup.usage()
        assert (usage.oom_kills, usage.memory_limit_hits) == (0, 0)
        assert usage.memory_peak_bytes > 96 * MIB
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
            write(cgroup.plan.freezer, "FROZEN")
            while read(cgroup.plan.freezer) != "FROZEN":
                pass
            write(cgroup.plan.freezer, "THAWED")
            assert process.communicate("\n", timeout=60)[0] == "down\n"


def test_oom_killer_can_be_switched_off(facts):
    with made(Resources(memory=Memory(limit=24 * MIB, disable_oom_killer=True)), facts) as cgroup:
        assert "oom_kill_disable 1" in cgroup.read("memory.oom_control")
