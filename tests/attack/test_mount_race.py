"""CVE-2021-30465, CVE-2024-45310: the way to a mount point, swapped by another container while one starts."""

import os
from pathlib import Path

from containers import kist
from swapping import Swapper


def test_a_swapped_directory_misdirects_no_mount(rootfs, tmp_path):
    """A volume whose owner exchanges a directory with a link to the host's: 40 starts (2,000 with KIST_LONG=1)."""
    shared, canary, payload = (tmp_path / name for name in ("shared", "canary", "payload"))
    for path in (shared / "dir", canary, payload):
        path.mkdir(parents=True)
    (payload / "here").write_text("")
    (shared / "link").symlink_to(canary)
    swapper = Swapper(shared / "dir", shared / "link")
    swapper.start()
    args = ["-v", f"{shared}:/s", "-v", f"{payload}:/s/dir/inner"]
    found = set()
    try:
        for _ in range(2000 if "KIST_LONG" in os.environ else 40):
            done = kist("run", "--rm", *args, "--rootfs", str(rootfs), "sh", "-c", "ls /s/dir/inner /s/link/inner 2>&1")
            assert "Traceback" not in done.stderr
            assert done.returncode in (0, 1, 2, 125)
            found.add("here" in done.stdout)
    finally:
        swapper.stop = True
        swapper.join()
    assert swapper.swaps > 1000  # the control: the race was on
    assert os.listdir(canary) == []  # no mount point was made on the host
    assert str(canary) not in Path("/proc/self/mountinfo").read_text()
