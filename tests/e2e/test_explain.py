"""`kist explain` tells what `kist run` does; its script does the same."""

import json
import os
import re
import subprocess

import pytest

from containers import can_limit, inside, kist, needs_root

LOOK = """
cut -d' ' -f4- /proc/self/mountinfo
for n in cgroup ipc mnt net pid time user uts; do echo "$n $(readlink /proc/self/ns/$n)"; done
cat /proc/self/cgroup
grep -E '^(Cap|NoNewPrivs|Groups|Uid|Gid)' /proc/self/status
hostname; id; umask; pwd; env | sort; ls -l /dev | cut -c1-10; ulimit -n
ls -l /proc/self/fd | wc -l
"""
FLAGS = ["--security-opt", "seccomp=unconfined", "--hostname", "kevin", "--memory", "64m", "-e", "A=b c", "-w", "/srv"]
FLAGS += ["--ulimit", "nofile=64:64", "--tmpfs", "/scratch:size=1m", "--umask", "027", "-v", "/usr/share:/share:ro"]


def plain(text: str) -> list[str]:
    """Without what differs from one container to the next."""
    text = re.sub(r"[0-9a-f]{64}", "ID", text)
    host = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    lines = []
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+) (\w+:\[\d+\])", line)
        lines.append(f"{match[1]} {'same' if host[match[1]] == match[2] else 'different'}" if match else line)
    return lines


@needs_root
def test_the_script_makes_the_same_container():
    script = kist("explain", "--script", *FLAGS, "host", "sh", "-c", LOOK)
    assert script.returncode == 0, script.stderr
    by_hand = subprocess.run(["sh"], input=script.stdout, capture_output=True, text=True, timeout=120, check=False)
    assert by_hand.returncode == 0, by_hand.stderr
    by_kist = plain(inside(*FLAGS, "host", "sh", "-c", LOOK))
    ours = plain(by_hand.stdout)
    reported = [line for line in ours if line not in by_kist]
    assert ours[: len(by_kist)] == by_kist, reported
    assert len([line for line in by_kist if " - " in line]) > 20  # the control: there are mounts to compare


@needs_root
def test_the_script_passes_the_status_on_and_cleans_up(run_dir):
    script = kist("explain", "--script", "host", "sh", "-c", "exit 9").stdout
    assert (
        subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=120, check=False).returncode == 9
    )
    assert not list(run_dir.iterdir())


def test_text_has_every_chapter_and_fits_the_screen():
    done = kist("explain", "--rootfs", "/usr", "true")
    chapters = [line for line in done.stdout.splitlines() if line.startswith("## ")]
    assert len(chapters) == (7 if can_limit() else 6)  # without a cgroup there is nothing to tell about it
    comments = [line for line in done.stdout.splitlines() if line.startswith("# ")]
    assert max(len(line) for line in comments if " " in line[4:80]) <= 80  # what can be wrapped
    for word in ("clone3(2)", "pivot_root(2)", "capabilities(7)", "seccomp(2)", "unshare", "mount -t overlay"):
        assert word in done.stdout


def test_json_is_the_whole_plan():
    rows = json.loads(kist("explain", "--format", "json", "host", "true").stdout)
    assert [row["step"] for row in rows] == list(range(len(rows)))
    assert {row["actor"] for row in rows} >= {"host", "init"}
    assert rows[-1]["why"]
    names = [row["name"] for row in rows]
    assert names.index("PivotRoot") < names.index("Seccomp") < names.index("Exec")
    assert all(row["purpose"] for row in rows)


def test_one_step():
    text = kist("explain", "--step", "3", "host", "true").stdout
    assert "# 3 " in text
    assert kist("explain", "--step", "9999", "host", "true").returncode == 125


@pytest.mark.parametrize(
    ("word", "gone"),
    [("pidns", "unshare --user"), ("pivot", "pivot_root . ."), ("masked", "/proc/kcore"),
     ("seccomp", "seccomp(2)"), ("devices", "devices.deny"), ("readonly-paths", "/proc/sysrq-trigger")],
)  # fmt: skip
def test_without(word, gone):
    """What a protection adds is there, and not there without it."""
    before, after = (kist("explain", *args, "host", "true").stdout for args in ((), ("--without", word)))
    if word == "pidns":
        assert "--pid" in before
        assert "--pid" not in after
    elif word != "devices" or os.geteuid() == 0:
        assert after.count(gone) < before.count(gone) or gone not in after


def test_without_a_mount_namespace():
    """Nothing would take the mounts away from the host again."""
    for verb in ("explain", "run"):
        done = kist(verb, "--without", "mntns", "host", "true")
        assert (done.returncode, "mount namespace" in done.stderr) == (125, True)


def test_explaining_changes_nothing(run_dir):
    kist("explain", "-m", "64m", "--allow-unenforced", "host", "true")
    assert not list(run_dir.iterdir())


def test_what_cannot_run_cannot_be_explained():
    assert kist("explain", "host").returncode == 125
    assert kist("explain", "no-such-image", "sh").returncode == 125


def test_ns_of_this_process():
    done = kist("ns", str(os.getpid()))
    assert done.returncode == 0
    assert done.stdout.count("\n") >= 9
    rows = json.loads(kist("ns", "--format", "json").stdout)["namespaces"]
    assert {row["name"] for row in rows} == {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"}


def test_doctor():
    done = kist("doctor")
    assert done.returncode == 0, done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    findings = {row["name"]: row for row in json.loads(kist("doctor", "--format", "json").stdout)}
    assert findings["kernel"]["verdict"] == "ok"
    assert all(row.get("fix") for row in findings.values() if row["verdict"] == "missing")
