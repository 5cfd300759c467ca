"""Where a container's cgroup is made, in which order, and when that is refused."""

import pytest
from facts import ROOT_V1, ROOT_V2, USER_V2

from kist.errors import InvalidInput, Refused, Unsupported
from kist.plan.cgroup import CgroupPlan, cgroup_paths, check_path, plan_cgroup
from kist.plan.cgroup_devices import device_program, device_rules
from kist.plan.facts import CgroupFacts, CgroupV1
from kist.plan.steps import (
    HOST,
    INIT,
    CgroupDevices,
    CgroupInherit,
    CgroupJoin,
    CgroupMake,
    Mkdir,
    Open,
    ReportFile,
    Slots,
    WriteFile,
)
from kist.spec.runtime import BlockIO, Cpu, DeviceCgroup, Memory, Pids, Resources
from kist.value import replace

FS = "/sys/fs/cgroup"
USUAL = Resources(memory=Memory(limit=1 << 20), pids=Pids(limit=100))
DENY = DeviceCgroup(allow=False, access="rwm")
NULL = DeviceCgroup(allow=True, type="c", major=1, minor=3, access="rw")
SCOPE = "/user.slice/user-1000.slice/session-2.scope"


def delegated(**changes):
    """An ordinary user in `systemd-run --user --scope -p Delegate=yes`."""
    v2 = replace(USER_V2.cgroup.v2, delegated=True, other_processes=False, type="domain", **changes)
    return replace(USER_V2, cgroup=replace(USER_V2.cgroup, v2=v2))


def steps(plan) -> list:
    return [entry.step for entry in plan]


def plan(resources, facts, path="/kist/ab12", allow=False) -> CgroupPlan:
    return plan_cgroup(resources, path, facts, allow_unenforced=allow)


# --- v1 -----------------------------------------------------------------------------------------------------------


def test_v1_uses_the_trees_it_needs():
    made = plan(USUAL, ROOT_V1)
    assert steps(made.before) == [
        Mkdir(f"{FS}/memory/kist", keep=1),
        CgroupMake(f"{FS}/memory/kist/ab12"),
        WriteFile(f"{FS}/memory/kist/ab12/memory.limit_in_bytes", "1048576"),
        Mkdir(f"{FS}/pids/kist", keep=1),
        CgroupMake(f"{FS}/pids/kist/ab12"),
        WriteFile(f"{FS}/pids/kist/ab12/pids.max", "100"),
        Mkdir(f"{FS}/cpuacct/kist", keep=1),
        CgroupMake(f"{FS}/cpuacct/kist/ab12"),
        Mkdir(f"{FS}/freezer/kist", keep=1),
        CgroupMake(f"{FS}/freezer/kist/ab12"),
    ]
    assert made.paths == tuple(f"{FS}/{tree}/kist/ab12" for tree in ("memory", "pids", "cpuacct", "freezer"))
    assert steps(made.join) == [CgroupJoin(path) for path in made.paths]
    assert {entry.actor for entry in made.before + made.after} == {HOST}
    assert {entry.actor for entry in made.join} == {INIT}
    assert made.freezer == f"{FS}/freezer/kist/ab12/freezer.state"
    assert not made.uses_clone_into
    assert made.not_enforced == ()
    memory = f"{FS}/memory/kist/ab12"
    assert steps(made.after)[0] == ReportFile("memory.max_usage_in_bytes", f"{memory}/memory.max_usage_in_bytes")
    assert "pids.peak" in [step.label for step in steps(made.after)]
    old = plan(USUAL, replace(ROOT_V1, kernel=(6, 0)))
    assert "pids.peak" not in [step.label for step in steps(old.after)]


def test_v1_without_limits_is_still_made_for_usage_and_killing():
    assert plan(None, ROOT_V1).paths == plan(USUAL, ROOT_V1).paths
    assert not [step for step in steps(plan(None, ROOT_V1).before) if isinstance(step, WriteFile)]


def test_v1_device_rules_are_written_before_the_process_joins():
    made = plan(Resources(devices=(DENY, NULL)), ROOT_V1)
    devices = f"{FS}/devices/kist/ab12"
    assert steps(made.before)[-3:] == [
        CgroupMake(devices),
        WriteFile(f"{devices}/devices.deny", "a"),
        WriteFile(f"{devices}/devices.allow", "c 1:3 rw"),
    ]
    assert steps(made.join)[-1] == CgroupJoin(devices)
    everything = Resources(devices=(DeviceCgroup(allow=True, access="rwm"),))
    assert plan(everything, ROOT_V1) == plan(None, ROOT_V1)


def test_v1_device_rules_it_cannot_express():
    rules = Resources(devices=(DENY, replace(NULL, minor=None), replace(NULL, allow=False)))
    with pytest.raises(Unsupported, match="cannot enforce devices"):
        plan(rules, ROOT_V1)
    assert plan(rules, ROOT_V1, allow=True).not_enforced == ("devices",)


def shared(controllers: str) -> dict[str, CgroupV1]:
    return {name: CgroupV1(mount=f"{FS}/{controllers}", path="/", writable=True) for name in controllers.split(",")}


def test_v1_controllers_that_share_a_tree_are_made_and_joined_once():
    v1 = {**ROOT_V1.cgroup.v1, **shared("cpu,cpuacct")}
    facts = replace(ROOT_V1, cgroup=replace(ROOT_V1.cgroup, v1=v1))
    made = plan(Resources(cpu=Cpu(quota=50000)), facts)
    both = f"{FS}/cpu,cpuacct/kist/ab12"
    assert steps(made.before).count(CgroupMake(both)) == 1
    assert steps(made.join).count(CgroupJoin(both)) == 1
    assert WriteFile(f"{both}/cpu.cfs_quota_us", "50000") in steps(made.before)


def test_v1_cpuset_parents_and_the_missing_half_are_filled():
    facts = replace(ROOT_V1, cgroup=replace(ROOT_V1.cgroup, cpuset_cpus="0-3", cpuset_mems="0-1"))
    made = plan(Resources(cpu=Cpu(cpus="2")), facts)
    for parent in (
        "kist",
        "narrow",
    ):  # somebody else's parent, too: only what is empty is filled
        made = plan(Resources(cpu=Cpu(cpus="2")), facts, path=f"/{parent}/ab12")
        tree = f"{FS}/cpuset/{parent}"
        assert steps(made.before)[-6:] == [
            Mkdir(tree, keep=1),
            CgroupInherit(tree, "cpuset.cpus"),
            CgroupInherit(tree, "cpuset.mems"),
            CgroupMake(f"{tree}/ab12"),
            CgroupInherit(f"{tree}/ab12", "cpuset.mems"),
            WriteFile(f"{tree}/ab12/cpuset.cpus", "2"),
        ]


def test_v1_realtime_is_handed_down():
    facts = replace(ROOT_V1, cgroup=replace(ROOT_V1.cgroup, realtime=True))
    made = plan(Resources(cpu=Cpu(realtime_runtime=1000)), facts)
    assert CgroupInherit(f"{FS}/cpu/kist", "cpu.rt_runtime_us", "0") in steps(made.before)


def test_limits_that_may_be_left_out_are_and_are_named():
    asked = Resources(block_io=BlockIO(weight=500), pids=Pids(10))
    made = plan_cgroup(asked, "/kist/ab12", ROOT_V1, allow_unenforced=False, optional=("blockIO.weight",))
    assert made.not_enforced == ("blockIO.weight",)
    with pytest.raises(Unsupported, match=r"blockIO\.weight"):
        plan_cgroup(asked, "/kist/ab12", ROOT_V1, allow_unenforced=False)


def test_v1_cpuset_that_shares_a_tree_is_filled_although_nobody_asked():
    v1 = {**ROOT_V1.cgroup.v1, **shared("cpu,cpuset")}
    facts = replace(ROOT_V1, cgroup=replace(ROOT_V1.cgroup, v1=v1, cpuset_cpus="0", cpuset_mems="0"))
    made = plan(Resources(cpu=Cpu(shares=2)), facts)
    assert CgroupInherit(f"{FS}/cpu,cpuset/kist/ab12", "cpuset.mems") in steps(made.before)


def test_v1_root_uses_the_root_of_the_tree_and_a_user_the_own_cgroup():
    v1 = {"memory": CgroupV1(mount=f"{FS}/memory", path="/user/ann", writable=True)}
    root = replace(ROOT_V1, cgroup=replace(ROOT_V1.cgroup, v1=v1))
    assert plan(None, root).paths == (f"{FS}/memory/kist/ab12",)
    assert plan(None, replace(root, uid=1000)).paths == (f"{FS}/memory/user/ann/kist/ab12",)
    assert plan(None, replace(root, in_user_namespace=True)).paths == (f"{FS}/memory/user/ann/kist/ab12",)


def test_v1_controllers_that_are_absent_or_forbidden():
    v1 = {"memory": CgroupV1(mount=f"{FS}/memory", path="/", writable=False)}
    facts = replace(ROOT_V1, uid=1000, cgroup=replace(ROOT_V1.cgroup, v1=v1))
    with pytest.raises(Refused, match=r"cannot enforce memory\.limit, pids\.limit") as e:
        plan(USUAL, facts)
    assert "this user cannot make a cgroup" in e.value.why
    with pytest.raises(Unsupported, match=r"pids\.limit"):
        plan(Resources(pids=Pids(limit=1)), facts)
    assert plan(USUAL, facts, allow=True) == CgroupPlan(not_enforced=("memory.limit", "pids.limit"))
    assert plan(None, facts) == CgroupPlan()
    with pytest.raises(Refused) as e:
        plan(USUAL, replace(facts, uid=0))
    assert "remount,rw" in e.value.next


# --- v2 -----------------------------------------------------------------------------------------------------------


def test_v2_as_root():
    enabled = replace(ROOT_V2.cgroup.v2, enabled=frozenset({"pids"}))
    facts = replace(ROOT_V2, cgroup=replace(ROOT_V2.cgroup, v2=enabled))
    made = plan(replace(USUAL, devices=(DENY, NULL)), facts)
    directory = f"{FS}/kist/ab12"
    assert steps(made.before) == [
        WriteFile(f"{FS}/cgroup.subtree_control", "+memory"),
        Mkdir(f"{FS}/kist", keep=1),
        WriteFile(f"{FS}/kist/cgroup.subtree_control", "+memory +pids"),
        CgroupMake(directory),
        WriteFile(f"{directory}/memory.max", "1048576"),
        WriteFile(f"{directory}/pids.max", "100"),
        CgroupDevices(directory, device_program(device_rules((DENY, NULL)))),
        Open(directory, 0o2200000, Slots.CGROUP),
    ]
    assert made.join == ()
    assert made.uses_clone_into
    assert made.freezer == f"{directory}/cgroup.freeze"
    assert made.paths == (directory,)
    assert made.leaf == ""
    labels = [step.label for step in steps(made.after)]
    assert labels == ["cpu.stat", "memory.peak", "memory.events", "pids.peak", "pids.events"]
    old = plan(USUAL, replace(facts, kernel=(5, 18)))
    assert [step.label for step in steps(old.after)] == ["cpu.stat", "memory.events", "pids.events"]


def test_v2_controllers_are_handed_down_through_every_parent():
    made = plan(USUAL, ROOT_V2, path="/a/b/ab12")
    assert steps(made.before)[:4] == [
        Mkdir(f"{FS}/a", keep=1),
        WriteFile(f"{FS}/a/cgroup.subtree_control", "+memory +pids"),
        Mkdir(f"{FS}/a/b", keep=1),
        WriteFile(f"{FS}/a/b/cgroup.subtree_control", "+memory +pids"),
    ]


def test_v2_undelegated_is_refused_with_the_fix():
    with pytest.raises(Refused) as e:
        plan(USUAL, USER_V2)
    assert e.value.what == "cannot enforce memory.limit, pids.limit"
    assert "not delegated" in e.value.why
    assert "systemd-run --user --scope -p Delegate=yes kist" in e.value.next
    assert plan(USUAL, USER_V2, allow=True) == CgroupPlan(not_enforced=("memory.limit", "pids.limit"))
    assert plan(None, USER_V2) == CgroupPlan()


def test_v2_delegated_scope_is_emptied_first():
    made = plan(USUAL, delegated())
    base = FS + SCOPE
    assert steps(made.before)[:4] == [
        Mkdir(f"{base}/kist-supervisor", keep=1),
        CgroupJoin(f"{base}/kist-supervisor"),
        WriteFile(f"{base}/cgroup.subtree_control", "+memory +pids"),
        Mkdir(f"{base}/kist", keep=1),
    ]
    assert made.before[1].actor == HOST
    assert made.leaf == f"{base}/kist-supervisor"
    assert made.paths == (f"{base}/kist/ab12",)


def test_v2_moves_nobody_twice_and_not_for_usage_alone():
    second = plan(USUAL, delegated(path=f"{SCOPE}/kist-supervisor", enabled=frozenset({"memory", "pids"})))
    assert second.leaf == ""
    assert not [step for step in steps(second.before) if isinstance(step, CgroupJoin)]
    more = plan(USUAL, delegated(path=f"{SCOPE}/kist-supervisor", enabled=frozenset({"pids"})))
    assert more.leaf == ""
    assert steps(more.before)[0] == WriteFile(f"{FS}{SCOPE}/cgroup.subtree_control", "+memory")
    for_usage = plan(None, delegated())
    assert for_usage.leaf == ""
    assert [type(step) for step in steps(for_usage.before)] == [Mkdir, CgroupMake, Open]
    assert [step.label for step in steps(for_usage.after)] == ["cpu.stat"]


def test_v2_controllers_that_systemd_did_not_delegate():
    with pytest.raises(Refused, match=r"cpu\.cpus") as e:
        plan(Resources(cpu=Cpu(cpus="0")), delegated())
    assert "cpuset" in e.value.why
    assert "delegate.conf" in e.value.next


def test_v2_no_internal_processes():
    crowded = delegated()
    crowded = replace(crowded, cgroup=replace(crowded.cgroup, v2=replace(crowded.cgroup.v2, other_processes=True)))
    with pytest.raises(Refused, match=r"memory\.limit") as e:
        plan(USUAL, crowded)
    assert "other processes" in e.value.why
    left = plan(USUAL, crowded, allow=True)
    assert left.not_enforced == ("memory.limit", "pids.limit")
    assert left.paths == (f"{FS}{SCOPE}/kist/ab12",)  # a cgroup for killing and cpu.stat can be had all the same
    assert not [step for step in steps(left.before) if isinstance(step, WriteFile)]


@pytest.mark.parametrize("kind", ["threaded", "domain threaded", "domain invalid"])
def test_v2_threaded_trees_are_refused(kind):
    facts = delegated()
    facts = replace(facts, cgroup=replace(facts.cgroup, v2=replace(facts.cgroup.v2, type=kind)))
    with pytest.raises(Refused) as e:
        plan(USUAL, facts)
    assert kind in e.value.why


def test_v2_kernel_without_a_controller():
    v2 = replace(ROOT_V2.cgroup.v2, available=frozenset({"pids"}))
    facts = replace(ROOT_V2, cgroup=replace(ROOT_V2.cgroup, v2=v2, swap_accounting=False))
    with pytest.raises(Unsupported, match=r"memory\.limit, memory\.swap"):
        plan(Resources(memory=Memory(limit=1, swap=2), pids=Pids(limit=1)), facts)
    assert plan(USUAL, facts, allow=True).not_enforced == ("memory.limit",)


def test_device_rules_of_an_ordinary_user():
    allow_list = Resources(devices=(DENY, NULL))
    assert plan(allow_list, USER_V2) == CgroupPlan()  # the user namespace holds: no device node can be made there
    with_hole = Resources(devices=(DENY, NULL, replace(NULL, allow=False, access="w")))
    with pytest.raises(Refused, match="devices"):
        plan(with_hole, delegated())
    assert plan(with_hole, delegated(), allow=True).not_enforced == ("devices",)
    with pytest.raises(Refused, match="devices"):
        plan(allow_list, replace(ROOT_V2, capabilities=frozenset()))


def test_no_cgroups_at_all():
    nothing = replace(ROOT_V2, cgroup=CgroupFacts(version=0))
    with pytest.raises(Unsupported, match=r"memory\.limit"):
        plan(USUAL, nothing)
    assert plan(None, nothing) == CgroupPlan()
    assert cgroup_paths("/kist/ab12", nothing) == ()


# --- paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "/", "a/b", "/a/../b", "/a//b", "/a/", "/a/.", "/a\nb", "/" + "x" * 256, "/kist-supervisor/x"],
)
def test_malformed_paths(path):
    with pytest.raises(InvalidInput):
        check_path(path)
    with pytest.raises(InvalidInput):
        cgroup_paths(path, ROOT_V1)


@pytest.mark.parametrize("facts", [ROOT_V1, ROOT_V2, delegated()])
def test_a_sweep_finds_everything_without_knowing_the_limits(facts):
    everything = Resources(
        memory=Memory(limit=1), pids=Pids(limit=1), cpu=Cpu(shares=2, cpus="0"), devices=(DENY, NULL)
    )
    made = plan(everything, facts, allow=True)
    assert made.paths
    assert set(made.paths) <= set(cgroup_paths("/kist/ab12", facts))
