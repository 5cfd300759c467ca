"""kist-oci on cgroup v2 alone, where crun's tests found it wanting."""

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


def test_options_of_a_cgroup_mount_reach_the_kernel(oci: Runtime):
    bundle = oci.bundle("true", change=lambda config: with_cgroup(config, "no_such_option"))
    done = oci("run", "-b", bundle, oci.new_id(), ok=False)
    assert done.returncode == 1
    assert "Invalid argument" in done.stderr
