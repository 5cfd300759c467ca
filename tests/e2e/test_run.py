"""`kist run`, flag by flag, as root and as an ordinary user."""

import os
import subprocess
import sys

import pytest

from containers import KIST, ROOT, inside, kist, needs_ids, needs_root
from kist.kernel.probe import filesystem_of, probe

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")


def namespaces(text: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in text.split())


def test_the_first_process_has_number_1_and_namespaces_of_its_own():
    words = inside(
        "host", "sh", "-c", f"echo $$; for n in {' '.join(NAMESPACES)}; do readlink /proc/self/ns/$n; done"
    ).split()
    assert words[0] == "1"
    assert len(words) == 9
    outside = {os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES}
    shared = {word for word in words if word in outside}
    assert {word.partition(":")[0] for word in shared} == ({"user"} if ROOT else set())


def test_python_is_the_callers_interpreter():
    assert inside("host", "python", "-c", "import sys; print(sys.prefix)").strip() == sys.prefix


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["host", "true"], 0),
        (["host", "sh", "-c", "exit 3"], 3),
        (["--init", "host", "sh", "-c", "kill -TERM $$"], 143),
        (["host", "sh", "-c", "kill -KILL $$"], 0),  # PID 1 cannot kill itself; then sh ends
        (["--init", "host", "sh", "-c", "exit 4"], 4),
        (["host", "no-such-command"], 127),
        (["host", "/no/such/command"], 127),
        (["host", "/etc/passwd"], 126),
        (["host", "/usr"], 126),
        (["--timeout", "0.2", "host", "sleep", "60"], 137),
    ],
)
def test_exit_status(args, status):
    assert kist("run", *args).returncode == status


def test_input_needs_i():
    assert inside("host", "cat", input="hello") == ""
    assert inside("-i", "host", "cat", input="hello") == "hello"


def test_a_gigabyte_would_pass_and_a_megabyte_does():
    text = "0123456789abcdef" * 65536
    assert inside("-i", "host", "cat", input=text) == text


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files_are_no_trouble(closed):
    line = f"{' '.join(KIST)} run --rm -i host sh -c 'exit 5' {closed}"
    assert subprocess.run(["sh", "-c", line], capture_output=True, timeout=60, check=False).returncode == 5


def test_a_reader_that_goes_away_is_no_trouble():
    line = f"{' '.join(KIST)} run --rm host yes | head -n 1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "y\n"
    assert "kist" not in done.stderr  # yes(1) itself may say EPIPE: SIGPIPE does not kill a PID 1


def test_environment_is_not_the_callers(tmp_path):
    os.environ["KIST_TEST_SECRET"] = "hidden"
    file = tmp_path / "env"
    file.write_text("# comment\nFROM_FILE=1\nKIST_TEST_PASSED\n")
    env = os.environ | {"KIST_TEST_PASSED": "yes"}
    text = inside("-e", "A=b c", "--env-file", str(file), "-e", "TERM=vt52", "host", "env", env=env)
    assert "KIST_TEST_SECRET" not in text
    del os.environ["KIST_TEST_SECRET"]
    lines = text.splitlines()
    for line in ("A=b c", "FROM_FILE=1", "KIST_TEST_PASSED=yes", "TERM=vt52", "HOME=/root"):
        assert line in lines


def test_host_name_and_files_of_etc():
    text = inside(
        "--hostname", "kevin", "--add-host", "db:192.0.2.7", "--dns", "192.0.2.1", "--dns-search", "example.org",
        "host", "sh", "-c", "uname -n; cat /etc/hostname /etc/hosts /etc/resolv.conf",
    )  # fmt: skip
    assert text.splitlines()[:2] == ["kevin", "kevin"]
    for line in ("192.0.2.7 db", "127.0.1.1 kevin", "nameserver 192.0.2.1", "search example.org"):
        assert line in text.splitlines()
    assert os.uname().nodename != "kevin"


def test_working_directory_is_made():
    assert inside("-w", "/made/for/this", "host", "pwd").strip() == "/made/for/this"


def test_umask():
    assert inside("--umask", "077", "host", "sh", "-c", "umask").strip() == "0077"
    assert inside("host", "sh", "-c", "umask").strip() == "0022"


def test_entrypoint():
    assert inside("--entrypoint", "echo", "host", "a", "b") == "a b\n"


@needs_ids
@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("web", 33, 34, "34 77", "/srv"),
        ("33", 33, 34, "34 77", "/srv"),
        ("web:root", 33, 0, "0", "/srv"),
        ("33:99", 33, 99, "99", "/srv"),
        ("1234", 1234, 0, "0", "/"),
        ("1234:5", 1234, 5, "5", "/"),
        ("0", 0, 0, "0", "/root"),
        ("root", 0, 0, "0", "/root"),
    ],
)
def test_user(rootfs, user, uid, gid, groups, home):
    text = inside("-u", user, "--rootfs", str(rootfs), "sh", "-c", "id -u; id -g; id -G; echo $HOME")
    assert text.splitlines() == [str(uid), str(gid), groups, home]


@needs_ids
def test_group_add(rootfs):
    text = inside("-u", "1:1", "--group-add", "extra", "--group-add", "99", "--rootfs", str(rootfs), "id", "-G")
    assert sorted(text.split(), key=int) == ["1", "77", "99"]


@needs_ids
def test_an_ordinary_user_inside_can_open_its_output_by_name(rootfs):
    assert inside("-u", "33", "--rootfs", str(rootfs), "sh", "-c", "echo x > /dev/stdout") == "x\n"


def test_volumes(tmp_path):
    (tmp_path / "file").write_text("outside\n")
    (tmp_path / "data").mkdir()
    args = ["-v", f"{tmp_path}/data:/data", "-v", f"{tmp_path}/file:/etc/file:ro"]
    args += ["--mount", f"type=bind,source={tmp_path}/data,target=/again,readonly"]
    script = "echo in > /data/new; cat /etc/file; echo no > /etc/file || echo ro; touch /again/x || echo ro2"
    assert inside(*args, "host", "sh", "-c", script + " 2>/dev/null").split() == ["outside", "ro", "ro2"]
    assert (tmp_path / "data/new").read_text() == "in\n"


def test_a_volume_is_read_only_with_all_below_it(tmp_path):
    """`-v /:/host:ro` and the like: mounts below the source, too."""
    done = inside("-v", "/dev:/host:ro", "host", "sh", "-c", "touch /host/x 2>&1; touch /host/shm/x 2>&1; true")
    assert done.count("Read-only file system") == 2


def test_tmpfs():
    text = inside("--tmpfs", "/scratch:size=1m,mode=700", "host", "sh", "-c", "stat -c %a /scratch; df -k /scratch")
    assert text.split()[0] == "700"
    assert " 1024 " in text


def test_the_root_is_never_written(rootfs):
    script = "echo new > /etc/hostname; rm /bin/ls; mkdir /made; [ -d /made ] && echo made"
    assert inside("--rootfs", str(rootfs), "sh", "-c", script) == "made\n"
    assert (rootfs / "etc/hostname").read_text() == "image\n"
    assert (rootfs / "bin/ls").is_symlink()
    assert not (rootfs / "made").exists()


def test_read_only():
    text = inside("--read-only", "--tmpfs", "/tmp", "host", "sh", "-c", "touch /x 2>&1; touch /tmp/x && echo ok; true")
    assert "Read-only" in text
    assert "ok" in text


def test_ulimits():
    assert inside("--ulimit", "nofile=64:128", "host", "sh", "-c", "ulimit -Sn; ulimit -Hn").split() == ["64", "128"]


def test_a_ulimit_that_cannot_be_raised_is_told():
    hard = os.sysconf("SC_OPEN_MAX")
    done = kist("run", "--rm", "--ulimit", "nofile=1000000000", "host", "sh", "-c", "ulimit -Hn")
    assert done.returncode == 0
    if done.stdout.strip() != "1000000000":
        assert "--ulimit nofile" in done.stderr
        assert int(done.stdout) >= hard


def test_shm_size():
    assert " 2048 " in inside("--shm-size", "2m", "host", "df", "-k", "/dev/shm")


def test_ipc_none_has_no_shm():
    assert inside("--ipc", "none", "host", "sh", "-c", "ls /dev/shm 2>/dev/null || echo none").strip() == "none"


def test_sysctls_of_its_namespaces():
    args = ["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4096"]
    text = inside(*args, "host", "cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax")
    assert text.split() == ["1", "4096"]


def test_loopback_is_up_and_alone():
    text = inside("host", "sh", "-c", "ls /sys/class/net; cat /sys/class/net/lo/flags")
    assert text.split()[0] == "lo"
    assert int(text.split()[1], 16) & 1


def test_network_host():
    inode = os.readlink("/proc/self/ns/net")
    assert inside("--network", "host", "host", "readlink", "/proc/self/ns/net").strip() == inode


@pytest.mark.parametrize(
    ("flag", "name"), [("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup"), ("--pid", "pid")]
)
def test_a_namespace_shared_with_the_host(flag, name):
    inode = os.readlink(f"/proc/self/ns/{name}")
    assert inside(flag, "host", "host", "readlink", f"/proc/self/ns/{name}").strip() == inode


def test_userns_private():
    uid_map = inside("--userns", "private", "host", "cat", "/proc/self/uid_map").split()
    assert uid_map[:2] == ["0", uid_map[1]]
    assert ROOT is False or uid_map[1] != "0"


@needs_root
def test_roots_files_are_the_containers_root_in_a_user_namespace(rootfs):
    """The image is shown with other ids, not copied."""
    if not probe().overlay_id_mapped(filesystem_of(str(rootfs))):
        pytest.skip("the file system of the temporary directory cannot be id-mapped")
    script = "stat -c %u:%g /bin/busybox /etc; touch /etc/x"
    text = inside("--userns", "private", "--rootfs", str(rootfs), "sh", "-c", script)
    assert text.split() == ["0:0", "0:0"]


@needs_root
def test_where_it_cannot_be_shown_so_it_is_said(tmp_path):
    """overlayfs cannot be id-mapped."""
    for name in ("l", "u", "w", "m", "l/bin"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/l,upperdir={tmp_path}/u,workdir={tmp_path}/w"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, f"{tmp_path}/m"], check=True)
    try:
        done = kist("run", "--rm", "--userns", "private", "--rootfs", f"{tmp_path}/m", "/usr/bin/true")
    finally:
        subprocess.run(["umount", f"{tmp_path}/m"], check=True)
    assert "overlay cannot be id-mapped" in done.stderr


def test_time_offset():
    text = inside("--time-offset", "boottime=1000h", "host", "cut", "-d.", "-f1", "/proc/uptime")
    with open("/proc/uptime") as file:
        assert 0 <= int(text) - float(file.read().split()[0]) - 3_600_000 + 5 < 120


def capabilities(*args: str) -> tuple[int, int]:
    text = inside(*args, "host", "grep", "-E", "^Cap(Eff|Bnd)", "/proc/self/status")
    effective, bounding = (int(line.split()[1], 16) for line in text.splitlines())
    return effective, bounding


def test_capabilities():
    effective, bounding = capabilities()
    assert effective == bounding == 0x800405FB
    assert capabilities("--cap-drop", "ALL") == (0, 0)
    assert capabilities("--cap-drop", "ALL", "--cap-add", "CHOWN") == (1, 1)
    assert capabilities("--cap-drop", "CHOWN")[0] == effective & ~1


@needs_ids
def test_an_ordinary_user_inside_has_no_capability():
    assert capabilities("-u", "1000")[0] == 0


def test_seccomp_and_no_new_privileges():
    def status(*args: str) -> list[str]:
        text = inside(*args, "host", "grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status")
        return [line.split()[1] for line in text.splitlines()]

    assert status() == ["1", "2"]
    assert status("--security-opt", "seccomp=unconfined") == ["1", "0"]
    assert status("--security-opt", "no-new-privileges=false") == ["0", "2"]


def test_a_seccomp_profile_of_the_callers(tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    text = inside("--security-opt", f"seccomp={profile}", "host", "sh", "-c", "mkdir /x 2>&1; touch /y && echo ok")
    assert "Operation not permitted" in text
    assert "ok" in text


@needs_root
def test_privileged():
    script = "cat /proc/self/status; mount -t tmpfs x /home && echo mounted"
    text = inside("--privileged", "host", "sh", "-c", script)
    assert "Seccomp:\t0" in text
    assert "mounted" in text


@needs_root
def test_device():
    script = "stat -c %t:%T /dev/other; ls /dev/fuse 2>&1 || true"
    text = inside("--device", "/dev/fuse:/dev/other:r", "host", "sh", "-c", script)
    assert text.splitlines()[0] == "a:e5"
    assert "No such file" in text


@needs_root
def test_another_device_cannot_be_made_or_opened():
    script = "mknod /dev/m c 10 229 2>&1 && cat /dev/m 2>&1; true"
    text = inside("--cap-add", "MKNOD", "host", "sh", "-c", script)
    assert "Operation not permitted" in text
    rule = ["--device-cgroup-rule", "c 10:229 rwm"]
    assert "not permitted" not in inside("--cap-add", "MKNOD", *rule, "host", "sh", "-c", "mknod /dev/m c 10 229 2>&1")


def test_cidfile(tmp_path):
    path = tmp_path / "cid"
    inside("--cidfile", str(path), "host", "true")
    assert len(path.read_text()) == 64
    again = kist("run", "--cidfile", str(path), "host", "true")
    assert again.returncode == 125
    assert str(path) in again.stderr


def test_init_reaps_orphans():
    script = "sh -c 'sleep 0 & exit 0'; sleep 0.2; ps -eo stat= 2>/dev/null | grep -c Z; true"
    assert inside("--init", "host", "sh", "-c", script).strip() in ("0", "")
    assert inside("--init", "host", "sh", "-c", "echo $$").strip() == "2"


def test_a_name_is_taken_while_its_container_runs(run_dir):
    argv = [*KIST, "run", "--rm", "--name", "web", "-i", "host", "sh", "-c", "echo up; cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout and first.stdin
        first.stdout.readline()
        second = kist("run", "--name", "web", "host", "true")
        assert second.returncode == 125
        assert "web" in second.stderr
        compared = kist("ns", "web")
        assert [line.split()[3] for line in compared.stdout.splitlines()[1:9] if line.startswith("pid")] == [
            "different"
        ]
        first.stdin.close()
        assert first.wait(30) == 0
    assert kist("run", "--rm", "--name", "web", "host", "true").returncode == 0


def test_without_leaves_a_protection_out():
    uts = os.readlink("/proc/self/ns/uts")
    assert inside("--without", "utsns", "host", "readlink", "/proc/self/ns/uts").strip() == uts
    assert "Seccomp:\t0" in inside("--without", "seccomp", "host", "cat", "/proc/self/status")
