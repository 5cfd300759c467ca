"""CVE-2019-5736: the host's binary, overwritten through /proc/PID/exe of a process that kist has put inside."""

import hashlib
import shutil
from pathlib import Path

from containers import inside, needs_root
from kist.kernel import program

SCRIPT = """
for pid in 1 self; do
    exec 9< /proc/$pid/exe && echo "opened $pid"
    { echo overwritten > /proc/$pid/exe; } 2>/dev/null && echo "wrote $pid"
    { echo overwritten > /proc/self/fd/9; } 2>/dev/null && echo "wrote $pid by fd"
done
true
"""


@needs_root
def test_our_own_program_cannot_be_written():
    """With --init, PID 1 is the launcher."""
    before = hashlib.sha256(Path(program._BINARY).read_bytes()).hexdigest()
    text = inside("--init", "--privileged", "host", "sh", "-c", SCRIPT)
    assert "wrote 1" not in text
    assert hashlib.sha256(Path(program._BINARY).read_bytes()).hexdigest() == before


@needs_root
def test_its_memory_cannot_be_read():
    script = "cat /proc/1/environ /proc/1/maps 2>&1 | head -c 300; ls -l /proc/1/exe 2>&1"
    text = inside("--init", "--cap-add", "SYS_PTRACE", "host", "sh", "-c", script)
    assert "_launcher" not in text
    assert "/kist/kernel" not in text


@needs_root
def test_control_a_program_of_a_volume_can_be_overwritten(tmp_path, rootfs):
    """What the attack does where the binary is a file that both sides see."""
    shutil.copy(rootfs / "bin/busybox", tmp_path / "busybox")
    script = "cp /v/busybox /tmp/busybox; /tmp/busybox sh -c 'echo overwritten > /v/busybox'"
    inside("-v", f"{tmp_path}:/v", "--rootfs", str(rootfs), "sh", "-c", script)
    assert (tmp_path / "busybox").read_text() == "overwritten\n"
