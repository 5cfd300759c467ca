"""exec into a container that expects it: CVE-2024-21626, CVE-2026-30892, CVE-2026-47262, CVE-2019-5736."""

import os
import subprocess
import time

import pytest

from containers import KIST, kist, needs_ids


@pytest.fixture
def victim(rootfs):
    """A container that may change its own files, by name."""
    command = [*KIST, "run", "--rm", "--name", "victim", "--rootfs", str(rootfs), "sleep", "1000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL):
        deadline = time.monotonic() + 20
        while kist("exec", "victim", "true").returncode:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield "victim"
        kist("kill", "victim")


def inside(name: str, script: str) -> subprocess.CompletedProcess[str]:
    return kist("exec", name, "sh", "-c", script)


def test_only_standard_input_and_output_are_open(victim):
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    try:
        done = kist("exec", victim, "sh", "-c", "cd /proc/self/fd; echo *", close_fds=False)
    finally:
        os.close(fd)
    assert done.stdout.split() in (["0", "1", "2"], ["0", "1", "2", "3"])  # 3: the shell reads the directory


@pytest.mark.parametrize("number", range(3, 24))
def test_no_working_directory_leads_out(victim, number):
    done = kist("exec", "-w", f"/proc/self/fd/{number}", victim, "pwd")
    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("trap", "says"),
    [("mkfifo /etc/passwd", "not a regular file"), ("mkdir /etc/passwd", "not a regular file"),
     ("ln -s /dev/zero /etc/passwd", "not a regular file"), ("ln -s passwd /etc/passwd", "symbolic links"),
     ("head -c 2000000 /dev/zero >/etc/passwd", "1 MiB"), ("true", "no user")],
)  # fmt: skip
def test_a_passwd_that_is_a_trap_neither_hangs_nor_gives_root(victim, trap, says):
    assert inside(victim, f"rm -f /etc/passwd; {trap}").returncode == 0
    begun = time.monotonic()
    done = kist("exec", "-u", "web", victim, "id", "-u")
    assert time.monotonic() - begun < 20
    assert done.returncode == 125
    assert done.stdout == ""
    assert says in done.stderr


@needs_ids
def test_a_passwd_that_leads_out_is_the_containers_own(victim, tmp_path):
    canary = tmp_path / "passwd"
    canary.write_text("web:x:4242:4242::/:/bin/sh\n")
    inside(victim, f"rm /etc/passwd; ln -s {canary} /etc/passwd")
    done = kist("exec", "-u", "web", victim, "id", "-u")
    assert (done.returncode, done.stdout) == (125, "")
    inside(victim, f"mkdir -p {tmp_path}; echo web:x:43:43::/:/bin/sh > {canary}")
    assert kist("exec", "-u", "web", victim, "id", "-u").stdout == "43\n"


@pytest.mark.parametrize(
    ("user", "uid"),
    [("1", "1"), ("web", "33"), ("33:77", "33"), ("00033", "33"), ("", "0")],
)  # fmt: skip
def test_users_are_who_they_are(victim, user, uid):
    flags = ("-u", user) if user else ()
    done = kist("exec", *flags, victim, "id", "-u")
    if os.geteuid() and done.returncode:
        assert "not exist" in done.stderr or "groups" in done.stderr or "cannot" in done.stderr
        return
    assert done.stdout.strip() == uid


NOBODY = ["-1", "4294967295", "4294967296", "1:-1", "web:", ":", " 0", "0x0", "1 ", "web:nogroup"]


@pytest.mark.parametrize("user", NOBODY)
def test_no_user_becomes_root_by_mistake(victim, user):
    done = kist("exec", f"--user={user}", victim, "id", "-u")
    assert done.returncode == 125
    assert done.stdout == ""


def test_the_hosts_dev_null_stays_the_hosts(victim):
    before = os.stat("/dev/null").st_mode
    script = "for n in 0 1 2; do chmod 600 /proc/self/fd/$n; chown 7 /proc/self/fd/$n; done"
    subprocess.run([*KIST, "exec", victim, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=False)  # fmt: skip
    assert os.stat("/dev/null").st_mode == before
    assert os.stat("/dev/null").st_uid == 0


def test_the_launcher_cannot_be_looked_into(victim):
    """A loop inside tries to open what each new process was started from, and its files, while exec enters."""
    inside(victim, "mkdir -p /seen")
    watcher = "while :; do for p in /proc/[0-9]*; do ls -l $p/fd $p/exe $p/cwd; done; done"
    subprocess.run([*KIST, "exec", "-d", victim, "sh", "-c", f"({watcher}) >/seen/all 2>/dev/null"], check=True)
    for _ in range(20):
        assert kist("exec", victim, "true").returncode == 0
    seen = inside(victim, "sort -u /seen/all").stdout.split("\n")
    assert any(line.endswith("-> /bin/busybox") for line in seen)
    assert not [line for line in seen if "kist" in line or "memfd" in line]
