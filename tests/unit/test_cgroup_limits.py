"""OCI resources to file values: each limit on v1 and v2, and what is refused."""

import pytest
from facts import ROOT_V1, ROOT_V2
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput
from kist.plan.cgroup_limits import limits, v2_cpu_weight, v2_io_weight, v2_swap
from kist.spec.runtime import (
    BlockIO,
    Cpu,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Pids,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from kist.value import replace

CPUSET = {"cpuset_cpus": "0-3", "cpuset_mems": "0"}
V1 = replace(ROOT_V1, cgroup=replace(ROOT_V1.cgroup, io_weight="blkio.bfq.weight", realtime=True, **CPUSET))
V2 = replace(ROOT_V2, cgroup=replace(ROOT_V2.cgroup, io_weight="io.bfq.weight", **CPUSET))
IO_COST = replace(V2, cgroup=replace(V2.cgroup, io_weight="io.weight"))


def writes(resources: Resources, facts) -> list[str]:
    """ "file=data" of what can be written, "name!" of what this host lacks."""
    return [f"{x.name}!" if x.missing else f"{x.file}={x.data}" for x in limits(resources, facts)]


# (resources, v1, v2)
TABLE = [
    (Resources(), [], []),
    (Resources(memory=Memory(limit=1 << 20)), ["memory.limit_in_bytes=1048576"], ["memory.max=1048576"]),
    (
        Resources(memory=Memory(limit=100, swap=300)),
        ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=300"],  # in this order
        ["memory.max=100", "memory.swap.max=200"],
    ),
    (
        Resources(memory=Memory(limit=100, swap=100)),
        ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=100"],
        ["memory.max=100", "memory.swap.max=0"],
    ),
    (Resources(memory=Memory(limit=100, swap=-1)), ["memory.limit_in_bytes=100"], ["memory.max=100"]),
    (Resources(memory=Memory(limit=-1, swap=-1, reservation=-1)), [], []),
    (Resources(memory=Memory(limit=0, swap=0, reservation=0, kernel=1 << 20)), [], []),
    (Resources(memory=Memory(swap=0)), [], ["memory.swap.max=0"]),
    (Resources(memory=Memory(reservation=77)), ["memory.soft_limit_in_bytes=77"], ["memory.low=77"]),
    (Resources(memory=Memory(swappiness=0)), ["memory.swappiness=0"], ["memory.swappiness!"]),
    (Resources(memory=Memory(kernel_tcp=9)), ["memory.kmem.tcp.limit_in_bytes=9"], ["memory.kernelTCP!"]),
    (Resources(memory=Memory(kernel_tcp=0)), [], []),
    (Resources(memory=Memory(disable_oom_killer=True)), ["memory.oom_control=1"], ["memory.disableOOMKiller!"]),
    (Resources(memory=Memory(disable_oom_killer=False)), [], []),
    (Resources(pids=Pids(limit=100)), ["pids.max=100"], ["pids.max=100"]),
    (Resources(pids=Pids(limit=0)), ["pids.max=1"], ["pids.max=1"]),
    (Resources(pids=Pids(limit=-1)), [], []),
    (Resources(cpu=Cpu(shares=1024)), ["cpu.shares=1024"], ["cpu.weight=100"]),
    (Resources(cpu=Cpu(shares=0, quota=0, period=0)), [], []),
    (Resources(cpu=Cpu(quota=150000)), ["cpu.cfs_quota_us=150000"], ["cpu.max=150000 100000"]),
    (
        Resources(cpu=Cpu(quota=50000, period=25000, burst=1000)),
        ["cpu.cfs_period_us=25000", "cpu.cfs_quota_us=50000", "cpu.cfs_burst_us=1000"],
        ["cpu.max=50000 25000", "cpu.max.burst=1000"],
    ),
    (Resources(cpu=Cpu(quota=-9999)), [], []),
    (Resources(cpu=Cpu(quota=-1, period=25000)), ["cpu.cfs_period_us=25000"], ["cpu.max=max 25000"]),
    (Resources(cpu=Cpu(shares=2, idle=1)), ["cpu.shares=2", "cpu.idle=1"], ["cpu.weight=1", "cpu.idle=1"]),
    (
        Resources(cpu=Cpu(realtime_period=1000000, realtime_runtime=950000)),
        ["cpu.rt_period_us=1000000", "cpu.rt_runtime_us=950000"],
        ["cpu.realtimePeriod!", "cpu.realtimeRuntime!"],
    ),
    (Resources(cpu=Cpu(cpus="0,2-3")), ["cpuset.cpus=0,2-3"], ["cpuset.cpus=0,2-3"]),
    (Resources(cpu=Cpu(mems="0")), ["cpuset.mems=0"], ["cpuset.mems=0"]),
    (Resources(block_io=BlockIO(weight=500)), ["blkio.bfq.weight=500"], ["io.bfq.weight=500"]),
    (
        Resources(block_io=BlockIO(weight_device=(WeightDevice(major=8, minor=16, weight=10),))),
        ["blkio.bfq.weight_device=8:16 10"],
        ["io.bfq.weight=8:16 10"],
    ),
    (Resources(block_io=BlockIO(leaf_weight=10)), ["blockIO.leafWeight!"], ["blockIO.leafWeight!"]),
    (
        Resources(
            block_io=BlockIO(
                throttle_read_bps_device=(ThrottleDevice(major=8, minor=0, rate=1),),
                throttle_write_bps_device=(ThrottleDevice(major=8, minor=0, rate=2),),
                throttle_read_iops_device=(ThrottleDevice(major=8, minor=0, rate=3),),
                throttle_write_iops_device=(ThrottleDevice(major=8, minor=0, rate=4),),
            )
        ),
        [
            "blkio.throttle.read_bps_device=8:0 1",
            "blkio.throttle.write_bps_device=8:0 2",
            "blkio.throttle.read_iops_device=8:0 3",
            "blkio.throttle.write_iops_device=8:0 4",
        ],
        ["io.max=8:0 rbps=1", "io.max=8:0 wbps=2", "io.max=8:0 riops=3", "io.max=8:0 wiops=4"],
    ),
    (
        Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=0),)),
        ["hugetlb.2MB.limit_in_bytes=0", "hugetlb.2MB.rsvd.limit_in_bytes=0"],
        ["hugetlb.2MB.max=0", "hugetlb.2MB.rsvd.max=0"],
    ),
    (
        Resources(network=Network(class_id=0x100001, priorities=(InterfacePriority(name="eth0", priority=5),))),
        ["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"],
        ["network.classID!", "network.priorities!"],
    ),
    (
        Resources(rdma={"mlx5_1": Rdma(hca_handles=3, hca_objects=10000), "mlx4_0": Rdma(hca_objects=1), "x": Rdma()}),
        ["rdma.max=mlx5_1 hca_handle=3 hca_object=10000", "rdma.max=mlx4_0 hca_object=1"],
        ["rdma.max=mlx5_1 hca_handle=3 hca_object=10000", "rdma.max=mlx4_0 hca_object=1"],
    ),
    (
        Resources(unified={"memory.high": "100", "io.max": "8:0 rbps=1\n8:16 rbps=2", "cgroup.max.depth": "3"}),
        ["unified.cgroup.max.depth!", "unified.io.max!", "unified.io.max!", "unified.memory.high!"],
        ["cgroup.max.depth=3", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=100"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("resources", "v1", "v2"), TABLE)
def test_each_limit(resources, v1, v2):
    assert writes(resources, V1) == v1
    assert writes(resources, V2) == v2


def test_io_weight_goes_to_the_file_that_is_there():
    block = Resources(block_io=BlockIO(weight=10, weight_device=(WeightDevice(major=8, minor=0, weight=1000),)))
    assert writes(block, IO_COST) == ["io.weight=1", "io.weight=8:0 10000"]
    nothing = replace(V2, cgroup=replace(V2.cgroup, io_weight=""))
    assert writes(block, nothing) == ["blockIO.weight!", "blockIO.weightDevice!"]


def test_what_the_kernel_is_too_old_for():
    resources = Resources(cpu=Cpu(quota=5000, burst=100, idle=1))
    for facts in (V1, V2):
        assert writes(resources, replace(facts, kernel=(5, 13)))[-2:] == ["cpu.burst!", "cpu.idle!"]
        assert writes(resources, replace(facts, kernel=(5, 14)))[-1:] == ["cpu.idle!"]
        assert not any("!" in write for write in writes(resources, replace(facts, kernel=(5, 15))))


def test_swap_limit_without_swap_accounting():
    for facts in (V1, V2):
        blind = replace(facts, cgroup=replace(facts.cgroup, swap_accounting=False))
        assert writes(Resources(memory=Memory(limit=10, swap=20)), blind)[1:] == ["memory.swap!"]
        assert len(writes(Resources(memory=Memory(limit=10, swap=-1)), blind)) == 1


def test_unlimited_memory_with_a_swap_limit():
    resources = Resources(memory=Memory(limit=-1, swap=20))
    assert writes(resources, V2) == ["memory.swap.max=20"]
    with pytest.raises(InvalidInput, match="needs a memory limit"):  # v1 counts the sum: EINVAL
        limits(resources, V1)


@pytest.mark.parametrize(
    "resources",
    [
        Resources(memory=Memory(limit=-2)),
        Resources(memory=Memory(limit=100, swap=99)),
        Resources(memory=Memory(swap=100)),
        Resources(memory=Memory(swappiness=101)),
        Resources(cpu=Cpu(shares=1)),
        Resources(cpu=Cpu(shares=262145)),
        Resources(cpu=Cpu(quota=999)),
        Resources(cpu=Cpu(period=999)),
        Resources(cpu=Cpu(period=1000001)),
        Resources(cpu=Cpu(burst=1000)),
        Resources(cpu=Cpu(quota=1000, burst=1001)),
        Resources(cpu=Cpu(idle=2)),
        Resources(cpu=Cpu(cpus="0-")),
        Resources(cpu=Cpu(cpus="3-1")),
        Resources(cpu=Cpu(cpus="4")),
        Resources(cpu=Cpu(cpus="0-99999999999")),
        Resources(cpu=Cpu(mems="0,,0")),
        Resources(block_io=BlockIO(weight=9)),
        Resources(block_io=BlockIO(weight=1001)),
        Resources(block_io=BlockIO(throttle_read_bps_device=(ThrottleDevice(major=-1, minor=0, rate=1),))),
        Resources(hugepage_limits=(HugepageLimit(page_size="2MB/../x", limit=1),)),
        Resources(hugepage_limits=(HugepageLimit(page_size="MB", limit=1),)),
        Resources(network=Network(priorities=(InterfacePriority(name="eth0 9\neth1", priority=5),))),
        Resources(rdma={"a b": Rdma(hca_handles=1)}),
        Resources(unified={"../memory.max": "1"}),
        Resources(unified={"memory": "1"}),
        Resources(unified={"memory.max\n": "1"}),
        Resources(unified={"cgroup.procs": "0"}),
        Resources(unified={"cgroup.subtree_control": "+memory"}),
    ],
)
def test_values_that_no_kernel_takes(resources):
    for facts in (V1, V2):
        with pytest.raises(InvalidInput, match=r"\$\.linux\.resources"):
            limits(resources, facts)


SHARES = st.integers(2, 262144)


@given(SHARES, SHARES)
def test_cpu_weight_is_in_range_and_keeps_the_order(one, other):
    low, high = sorted((one, other))
    assert 1 <= v2_cpu_weight(low) <= v2_cpu_weight(high) <= 10000


def test_cpu_weight_meets_the_known_points():
    # runc's: the ends, the defaults, and its issue 4896
    assert [v2_cpu_weight(x) for x in (2, 1024, 2000, 262144)] == [1, 100, 170, 10000]


@given(st.integers(10, 1000), st.integers(10, 1000))
def test_io_weight_is_in_range_and_keeps_the_order(one, other):
    low, high = sorted((one, other))
    assert 1 <= v2_io_weight(low) <= v2_io_weight(high) <= 10000
    assert (v2_io_weight(10), v2_io_weight(1000)) == (1, 10000)


@given(st.integers(1, 2**62), st.integers(1, 2**62))
def test_swap_is_what_is_beyond_memory(memory, swap):
    if swap < memory:
        with pytest.raises(InvalidInput):
            v2_swap(memory, swap)
    else:
        assert v2_swap(memory, swap) + memory == swap
    assert v2_swap(-1, swap) == swap
