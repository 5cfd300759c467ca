"""CVE-2019-16884, CVE-2025-52881, CVE-2019-19921, CVE-2023-27561: a /proc that is not the kernel's."""

import subprocess

import pytest

from containers import inside, kist, needs_root


@pytest.mark.parametrize(
    "target", ["/proc", "/proc/self/attr", "/proc/sys", "/proc/sys/kernel", "/proc/1", "/proc/thread-self/attr/exec"]
)
def test_nothing_may_be_mounted_there(target, tmp_path):
    done = kist("run", "-v", f"{tmp_path}:{target}", "host", "true")
    assert done.returncode == 125
    assert "/proc" in done.stderr
    assert kist("run", "--tmpfs", target, "host", "true").returncode == 125


def test_control_harmless_files_may_be(tmp_path):
    (tmp_path / "uptime").write_text("1.00 1.00\n")
    assert inside("-v", f"{tmp_path}/uptime:/proc/uptime:ro", "host", "cat", "/proc/uptime") == "1.00 1.00\n"


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("link", ["/tmp", "../../../../../../tmp", "/etc"])
def test_a_link_of_the_image_misleads_nobody(rootfs, tmp_path, name, link):
    root = tmp_path / "root"
    root.mkdir()
    (root / "bin").symlink_to("/box/bin")
    (root / name).symlink_to(link)
    done = kist("run", "-v", f"{rootfs}:/box:ro", "--rootfs", str(root), "true")
    assert done.returncode == 125
    assert "ELOOP" in done.stderr


@needs_root
def test_control_the_plain_command_follows_it(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "host").mkdir()
    (tmp_path / "root/proc").symlink_to(tmp_path / "host")
    script = f"mount -t proc proc {tmp_path}/root/proc && ls {tmp_path}/host"
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert "self" in done.stdout.split()


def test_a_kernel_parameter_goes_to_the_kernel(rootfs, tmp_path):
    """The image has files where /proc/sys will be: they are covered, and kist writes through a procfs of its own."""
    root = tmp_path / "root"
    (root / "proc/sys/kernel").mkdir(parents=True)
    (root / "proc/sys/kernel/msgmax").write_text("fake")
    (root / "bin").symlink_to("/box/bin")
    args = ["-v", f"{rootfs}:/box:ro", "--sysctl", "kernel.msgmax=4096", "--rootfs", str(root)]
    assert inside(*args, "cat", "/proc/sys/kernel/msgmax").strip() == "4096"
    assert (root / "proc/sys/kernel/msgmax").read_text() == "fake"
