"""CVE-2025-31133, CVE-2025-52565: masks that the container itself supplies; and what the masks hide."""

import pytest

from containers import inside, needs_root

HIDDEN = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts")


def existing(*args: str) -> list[str]:
    return inside(*args, "host", "sh", "-c", f"for f in {' '.join(HIDDEN)}; do [ ! -e $f ] || echo $f; done").split()


def test_hidden_files_are_the_null_device():
    names = existing()
    kinds = inside("host", "stat", "-c", "%F %t:%T", *names).splitlines()
    assert set(kinds) == {"character special file 1:3"}
    assert len(names) >= 2


@needs_root
def test_control_they_tell_about_the_host_without_masks():
    text = inside("--without", "masked", "host", "cat", "/proc/timer_list") if "/proc/timer_list" in existing() else "x"
    assert text
    assert inside("host", "sh", "-c", "cat /proc/timer_list 2>/dev/null; true") == ""


@needs_root
@pytest.mark.parametrize("kind", ["file", "link", "missing"])
def test_a_false_null_masks_nothing(tmp_path, kind):
    """The container's /dev is a volume of its own making; the masks must not come from there."""
    dev = tmp_path / "dev"
    dev.mkdir()
    if kind == "file":
        (dev / "null").write_text("fake")
    elif kind == "link":
        (dev / "null").symlink_to("/proc/sysrq-trigger")
    name = existing()[0]
    text = inside("-v", f"{dev}:/dev", "host", "stat", "-c", "%F %t:%T", name)
    assert text.strip() == "character special file 1:3"


@pytest.mark.parametrize(
    "path", ["/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/irq/default_smp_affinity"]
)
def test_what_changes_the_host_is_read_only(path):
    text = inside("host", "sh", "-c", f"[ -e {path} ] || echo Read-only; echo x > {path}; true 2>&1", stderr_too=True)
    assert "Read-only" in text or "ermission denied" in text


def test_sys_is_read_only():
    text = inside("host", "sh", "-c", "touch /sys/x; echo 1 > /sys/kernel/mm/ksm/run; true", stderr_too=True)
    assert "Read-only" in text or "ermission denied" in text


def test_firmware_is_hidden():
    assert inside("host", "sh", "-c", "ls /sys/firmware /proc/acpi 2>/dev/null | grep -v : ; true").strip() == ""
