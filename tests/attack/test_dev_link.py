"""CVE-2026-47766: a root file system whose /dev is a symbolic link to a directory of the host."""

import shutil
from pathlib import Path

import pytest

from bundles import Runtime, oci
from containers import needs_root

__all__ = ["oci"]


@needs_root
@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize("upwards", [True, False])
def test_devices_are_made_in_the_container_alone(oci: Runtime, tmp_path: Path, mounted: bool, upwards: bool):
    canary = tmp_path / "host"
    canary.mkdir()
    (canary / "ptmx").write_text("host's")
    root = tmp_path / "root"
    shutil.copytree(oci.rootfs, root, symlinks=True)
    shutil.rmtree(root / "dev", ignore_errors=True)
    (root / "dev").symlink_to(f"{'../' * 20 if upwards else '/'}{str(canary)[1:]}")

    def change(config: dict) -> None:
        config["root"]["path"] = str(root)
        config["mounts"] = [m for m in config["mounts"] if not m["destination"].startswith("/dev")]
        if mounted:
            config["mounts"].append({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"})

    done = oci("run", "--bundle", oci.bundle("true", change=change), oci.new_id(), ok=False)
    assert mounted or "is a symbolic link" in done.stderr
    assert (done.returncode == 0) == mounted, done.stderr
    assert [path.name for path in canary.iterdir()] == ["ptmx"]
    assert (canary / "ptmx").read_text() == "host's"
