"""kist-oci on cgroup v2 alone, where crun's tests found it wanting."""

from pathlib import Path

import pytest

from bundles import Runtime, oci, wait_for
from containers import rootfs

__all__ = ["oci", "rootfs"]
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}


def with_cgroup(config: dict, *options: str) -> None:
    config["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]})
    config["mounts"].append(CGROUP | {"options": ["rw", *options]})
    config["linux"]["namespaces"].append({"type": "cgroup"})


def test_exec_names_a_cgroup_below_the_containers(oci: Runtime):
    """Also where the first process has moved down, as systemd does."""
    script = "cd /sys/fs/cgroup && mkdir down && echo 1 > down/cgroup.procs && echo moved && exec sleep 600"
    id = oci.running("sh", "-c", script, change=with_cgroup)
    wait_for(lambda: oci.output() == "moved\n")
    assert oci("exec", "--cgroup", "/down", id, "cat", "/proc/self/cgroup").stdout == "0::/down\n"
    oci("delete", "--force", id)


@pytest.mark.parametrize("path", ["", "/test-moved/of-an-engine"])
def test_exec_follows_the_first_process_only_where_the_top_takes_none(oci: Runtime, path: str):
    """It did so at once, and with a path of the caller's never: EBUSY. youki's contest, exec::cgroup_test."""

    def change(config: dict) -> None:
        with_cgroup(config)
        config["linux"]["resources"] = {"memory": {"limit": 100 << 20}}
        if path:
            config["linux"]["cgroupsPath"] = path

    script = "cd /sys/fs/cgroup && mkdir down && echo 1 > down/cgroup.procs && echo moved && exec sleep 600"
    id = oci.running("sh", "-c", script, change=change)
    wait_for(lambda: oci.output() == "moved\n")
    where = ("exec", id, "cat", "/proc/self/cgroup")
    assert oci(*where).stdout == "0::/\n"
    enable = "echo $$ > /sys/fs/cgroup/down/cgroup.procs; echo +memory > /sys/fs/cgroup/cgroup.subtree_control"
    oci("exec", id, "sh", "-euc", enable)
    assert oci(*where).stdout == "0::/down\n"
    oci("delete", "--force", id)


def test_options_of_a_cgroup_mount_reach_the_kernel(oci: Runtime):
    bundle = oci.bundle("true", change=lambda config: with_cgroup(config, "no_such_option"))
    done = oci("run", "-b", bundle, oci.new_id(), ok=False)
    assert done.returncode == 1
    assert "Invalid argument" in done.stderr


def with_limits(oci: Runtime, **resources: dict) -> tuple[str, Path]:
    """A running container's id and cgroup."""

    def change(config: dict) -> None:
        config["linux"]["cgroupsPath"] = "/kist-test-update/" + Path(oci.new_id()).name
        config["linux"]["resources"] = resources

    id = oci.running(change=change)
    of_it = Path(f"/proc/{oci.state(id)['pid']}/cgroup").read_text().strip().removeprefix("0::/")
    return id, Path("/sys/fs/cgroup", of_it)


@pytest.mark.parametrize(
    ("words", "max"),
    [
        (["--cpu-period", "900000"], "500000 900000"),
        (["--cpu-quota", "600000"], "600000 1000000"),
        (["--cpu-quota", "-1"], "max 1000000"),
        (["--cpu-quota", "-1", "--cpu-period", "100000"], "max 100000"),
    ],
)
def test_update_of_half_of_cpu_max_keeps_the_other(oci: Runtime, words: list[str], max: str):
    """A new period took the quota away. youki's contest, update_cpu_limits_test."""
    id, cgroup = with_limits(oci, cpu={"quota": 500000, "period": 1000000})
    oci("update", *words, id)
    assert (cgroup / "cpu.max").read_text() == max + "\n"


def test_update_of_what_had_no_limit(oci: Runtime):
    """Its controller is not there yet: it did nothing, and said so to nobody. youki's contest."""
    id, cgroup = with_limits(oci, pids={"limit": 20})
    oci("update", "--cpuset-cpus", "1", "--memory", "50M", "--cpu-quota", "30000", id)
    found = [(cgroup / file).read_text().strip() for file in ("cpuset.cpus", "memory.max", "cpu.max", "pids.max")]
    assert found == ["1", "52428800", "30000 100000", "20"]


def test_update_to_unlimited_memory_ends_the_limit_of_the_sum(oci: Runtime):
    id, cgroup = with_limits(oci, memory={"limit": 52428800, "swap": 96468992})
    assert (cgroup / "memory.swap.max").read_text() == "44040192\n"
    oci("update", "--memory", "-1", id)
    assert [(cgroup / f"memory.{name}max").read_text() for name in ("", "swap.")] == ["max\n", "max\n"]
