"""The test machine is what the other tests here take for granted."""

import os
import subprocess
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
USER = 1000


def output(*argv: str, user: int = 0) -> str:
    done = subprocess.run(argv, user=user, group=user, extra_groups=[], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cgroup2_is_the_only_hierarchy():
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    cgroups = [(left.split()[4], right.split()) for left, right in mounts if right.startswith("cgroup")]
    assert [(at, kind) for at, (kind, *_) in cgroups] == [(str(CGROUP_ROOT), "cgroup2")]
    assert "nsdelegate" in cgroups[0][1][2].split(",")


def test_controllers_are_handed_down(cgroup: Path):
    handed_down = (CGROUP_ROOT / "cgroup.subtree_control").read_text().split()
    assert {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"} <= set(handed_down)
    files = {"cgroup.freeze", "cpu.max", "cpuset.cpus", "io.max", "io.bfq.weight", "memory.max", "pids.max"}
    assert files <= set(os.listdir(cgroup))


def test_io_of_the_disk_can_be_limited(cgroup: Path):
    device = os.stat("/var/tmp/disk").st_dev
    limit = f"{os.major(device)}:{os.minor(device)} rbps=1048576 wbps=max riops=max wiops=max"
    (cgroup / "io.max").write_text(limit)
    assert (cgroup / "io.max").read_text().strip() == limit


def test_an_ordinary_user_gets_a_user_namespace_with_subordinate_ids():
    uid_map = output("unshare", "--user", "--map-root-user", "--map-auto", "cat", "/proc/self/uid_map", user=USER)
    assert [line.split()[:2] for line in uid_map.splitlines()] == [["0", "1000"], ["1", "100000"]]


def test_overlay_with_the_upper_directory_on_tmpfs(tmp_path: Path):
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/file").write_text("lower")
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    output("mount", "-t", "overlay", "overlay", "-o", options, str(tmp_path / "merged"))
    try:
        (tmp_path / "merged/file").write_text("upper")
    finally:
        output("umount", str(tmp_path / "merged"))
    assert (tmp_path / "lower/file").read_text() == "lower"
    assert (tmp_path / "upper/file").read_text() == "upper"


def test_the_kernel_finds_its_modules():
    veth = "ip link add v0 type veth peer name v1 && ip link add b0 type bridge && ip link set v0 master b0"
    output("unshare", "--net", "sh", "-c", f"{veth} && nft add table inet t")


def test_kist_is_importable_as_an_ordinary_user():
    assert output("python", "-c", "import kist; print(kist.__name__)", user=USER) == "kist\n"
