"""CVE-2022-29162, CVE-2022-24769, CVE-2022-27650: capabilities that survive; set-uid programs; devices."""

import os

import pytest

from containers import inside, kist, needs_ids, needs_root


def status(*args: str) -> dict[str, str]:
    text = inside(*args, "host", "cat", "/proc/self/status")
    return dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)


@pytest.mark.parametrize("args", [(), ("--cap-add", "NET_ADMIN"), ("--init",)])
def test_nothing_is_inheritable_or_ambient(args):
    found = status(*args)
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0


@needs_ids
def test_a_set_uid_program_gives_nothing(tmp_path):
    """id(1), owned by the container's root and set-uid, started by somebody else."""
    tmp_path.chmod(0o755)
    args = ["-v", f"{tmp_path}:/s", "host"]
    inside("-v", f"{tmp_path}:/s", "host", "sh", "-c", "cp $(command -v id) /s/id; chmod 4755 /s/id")
    assert inside("-u", "1000", *args, "/s/id", "-u").strip() == "1000"
    control = inside("-u", "1000", "--security-opt", "no-new-privileges=false", *args, "/s/id", "-u")
    assert control.strip() == "0"  # without the protection it works


@needs_root
def test_a_disk_cannot_be_opened():
    """Root inside, with the right to make nodes, may not open the host's disk."""
    device = os.stat("/").st_dev
    script = f"mknod /d b {os.major(device)} {os.minor(device)} && head -c 1 /d >/dev/null"
    done = kist("run", "--rm", "--cap-add", "MKNOD", "host", "sh", "-c", script)
    assert done.returncode != 0
    assert "not permitted" in done.stderr


def test_pids_are_limited_by_default(rootfs):
    look = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true"
    text = inside("--rootfs", str(rootfs), "sh", "-c", look)
    if os.geteuid() == 0:
        assert text.split() == ["2048"]


@needs_root
def test_cgroups_cannot_be_written():
    script = "for f in $(find /sys/fs/cgroup -name cgroup.procs); do echo 0 > $f && echo wrote; done; true"
    text = inside("host", "sh", "-c", f"{{ {script}; }} 2>&1")
    assert "wrote" not in text
    assert "Read-only" in text


@needs_root
def test_a_cgroup_parent_does_not_climb():
    for path in ("../../escape", "/kist/../../escape", "/a//b", "."):
        assert kist("run", "--cgroup-parent", path, "host", "true").returncode == 125
