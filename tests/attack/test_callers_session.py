"""CVE-2017-5226 and its like: the caller's terminal, keys, environment, modules; mounts that travel."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from containers import KIST, inside, kist, needs_root
from terminal import Terminal


def test_the_callers_terminal_is_out_of_reach(rootfs):
    """No -t: nothing inside is the terminal, and /dev/tty opens nothing."""
    script = "tty; ls -l /proc/self/fd | grep -c pts; (: < /dev/tty) 2>&1; echo end"
    with Terminal([*KIST, "run", "--rm", "-i", "--rootfs", str(rootfs), "sh", "-c", script]) as terminal:
        text = terminal.expect("end").string
        assert "not a tty" in text
        assert "No such device" in text
        assert terminal.wait() == 0
    with Terminal(["sh", "-c", f"{script}"]) as control:
        assert "/dev/pts/" in control.expect("end").string


KEYS = """
import ctypes
libc = ctypes.CDLL(None)
print(libc.syscall(ctypes.c_long(250), 10, -3, b"user", b"kist-test-key", 0))
"""  # keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, ...)


def test_the_callers_keys_stay_outside():
    libc = ctypes.CDLL(None)
    libc.syscall(ctypes.c_long(250), 1, 0)  # KEYCTL_JOIN_SESSION_KEYRING: one of this process's own
    serial = libc.syscall(ctypes.c_long(248), b"user", b"kist-test-key", b"secret", 6, -3)
    if serial < 0:
        pytest.skip("this user may add no key")
    args = ["--security-opt", "seccomp=unconfined", "--userns", "host"] if os.geteuid() == 0 else []
    args = args or ["--security-opt", "seccomp=unconfined"]
    assert inside(*args, "host", "python3", "-c", KEYS).strip() == "-1"
    if os.geteuid() == 0:
        assert inside(*args, "--without", "keyring", "host", "python3", "-c", KEYS).strip() == str(serial)


@needs_root
def test_mounts_made_inside_stay_inside(tmp_path):
    script = "mkdir -p /v/m; mount -t tmpfs kist-test-mount /v/m && grep -c kist-test-mount /proc/self/mountinfo"
    assert inside("--privileged", "-v", f"{tmp_path}:/v", "host", "sh", "-c", script).strip() == "1"
    assert "kist-test-mount" not in Path("/proc/self/mountinfo").read_text()


@needs_root
def test_control_a_shared_volume_lets_them_out(tmp_path):
    script = "mkdir -p /v/m; mount -t tmpfs kist-test-mount /v/m"
    volume = f"{tmp_path}/s:/v:rshared"
    line = f"""
        mkdir {tmp_path}/s; mount --bind {tmp_path}/s {tmp_path}/s; mount --make-shared {tmp_path}/s
        {" ".join(KIST)} run --rm --privileged -v {volume} host sh -c '{script}; true'
        grep -c kist-test-mount /proc/self/mountinfo; true"""
    done = subprocess.run(["unshare", "-m", "sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1"], done.stderr


def test_nothing_is_imported_from_the_working_directory(tmp_path):
    for name in ("os", "kist", "json", "struct", "errno", "fcntl", "msgspec", "typing", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("print('taken in')\nraise SystemExit(99)\n")
    command = Path(sys.executable).with_name("kist")
    argv = [str(command)] if command.exists() else [sys.executable, "-P", "-m", "kist.faces.cli"]
    for args in (["run", "--rm", "host", "true"], ["run", "--rm", "host", "no-such-command"], ["doctor"]):
        done = subprocess.run([*argv, *args], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert "taken in" not in done.stdout + done.stderr
        assert done.returncode in (0, 127)


def test_labels_are_inert(tmp_path):
    """CVE-2026-53488: a label became a command of the host."""
    kist(
        "run", "--rm", "--label", f"run=touch {tmp_path}/x", "--annotation", f"hook=touch {tmp_path}/x", "host", "true"
    )
    assert not list(tmp_path.glob("x"))
