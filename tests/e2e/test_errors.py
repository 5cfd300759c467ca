"""Bad input ends in one clear error (what, why, what next, a code), with Docker's exit status, and nothing is left."""

import os
import re
import tarfile
from pathlib import Path

import pytest

from containers import ROOT, kist, needs_root


def refused(*args: str, status: int = 125, **kwargs) -> str:
    """What it says: one error, no traceback."""
    done = kist(*args, **kwargs)
    assert done.returncode == status, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("kist: ")]
    assert len(errors) == 1, done.stderr
    assert re.search(r"\[[a-z-]+\]", done.stderr), done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "IMAGE"),
        (["host"], "no command"),
        (["no-such-image", "true"], "no-such-image"),
        (["NotAName", "true"], "NotAName"),
        (["/some/directory", "true"], "--rootfs"),
        (["--no-such-flag", "host", "true"], "--no-such-flag"),
        (["--memroy", "1g", "host", "true"], "did you mean --memory"),
        (["--memory", "host", "true"], "--memory"),
        (["--memory", "1q", "host", "true"], "1q"),
        (["--memory", "1k", "host", "true"], "--memory"),
        (["--cpus", "-1", "host", "true"], "--cpus"),
        (["--cpus", "100000", "host", "true"], "--cpus"),
        (["--cpuset-cpus", "9999", "--allow-unenforced", "host", "true"], "9999"),
        (["--pids-limit", "x", "host", "true"], "--pids-limit"),
        (["-v", "relative", "host", "true"], "relative"),
        (["-v", "/no/such/source:/x:ro,zz", "host", "true"], "zz"),
        (["--mount", "type=bind,source=/no/such,target=/x", "host", "true"], "/no/such"),
        (["--mount", "type=bind,source=/usr,target=/proc/x", "host", "true"], "/proc"),
        (["-v", "/usr:/proc", "host", "true"], "/proc"),
        (["--tmpfs", "/", "host", "true"], "/"),
        (["-u", "nobody-of-that-name", "host", "true"], "nobody-of-that-name"),
        (["-u", "4294967295", "host", "true"], "4294967295"),
        (["-u", "-1", "host", "true"], "-1"),
        (["-w", "relative", "host", "true"], "relative"),
        (["-e", "=x", "host", "true"], "name is empty"),
        (["--env-file", "/no/such/file", "host", "true"], "/no/such/file"),
        (["--hostname", "a" * 80, "host", "true"], "--hostname"),
        (["--cap-add", "SYS_ADMIM", "host", "true"], "SYS_ADMIN"),
        (["--security-opt", "seccomp=/no/such/profile", "host", "true"], "/no/such/profile"),
        (["--security-opt", "apparmor=x", "host", "true"], "apparmor"),
        (["--sysctl", "kernel.hostname=x", "host", "true"], "kernel.hostname"),
        (["--sysctl", "kernel.panic=1", "host", "true"], "kernel.panic"),
        (["--domainname", "a", "--sysctl", "kernel.domainname=b", "host", "true"], "conflicts with the domainname"),
        (["--sysctl", "net.ipv4.ip_forward=1", "--network", "host", "host", "true"], "would change the host"),
        (["--ulimit", "nofile=2:1", "host", "true"], "nofile"),
        (["--device", "/dev/no-such", "host", "true"], "/dev/no-such"),
        (["--device", "/etc/passwd", "host", "true"], "/etc/passwd"),
        (["--device-read-bps", "/dev/null:1m", "host", "true"], "/dev/null"),
        (["--network", "container:web", "host", "true"], "no container 'web'"),
        (["--time-offset", "x", "host", "true"], "--time-offset"),
        (["--timeout", "x", "host", "true"], "--timeout"),
        (["--without", "gravity", "host", "true"], "gravity"),
        (["--stop-signal", "SIGNOTHING", "host", "true"], "SIGNOTHING"),
        (["-it", "host", "true"], "terminal"),
        (["--hostname", "x", "--uts", "host", "host", "true"], "--hostname"),
    ],
)
def test_run(args, says):
    assert says in refused("run", *args)


def test_an_environment_that_is_too_large(tmp_path):
    (tmp_path / "env").write_text("A=" + "x" * 200_000)
    assert "E2BIG" in refused("run", "--env-file", str(tmp_path / "env"), "host", "true", status=126)


@pytest.mark.parametrize(
    ("argv", "status"),
    [(["no-such-command"], 127), (["./no-such"], 127), (["/etc"], 126), (["/etc/hostname"], 126), ([""], 125)],
)
def test_commands(argv, status):
    refused("run", "host", *argv, status=status)


def test_a_directory_without_anything(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "not found" in refused("run", "--rootfs", str(tmp_path / "empty"), "sh", status=127)
    assert not os.listdir(tmp_path / "empty")


def test_a_file_is_no_root_directory(tmp_path):
    (tmp_path / "file").write_text("")
    refused("run", "--rootfs", str(tmp_path / "file"), "sh")


def test_a_script_whose_interpreter_is_missing(rootfs, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert "not found" in refused("run", "-v", f"{script}:/script", "--rootfs", str(rootfs), "/script", status=127)


def test_a_binary_of_another_machine(rootfs, tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(100))
    program.chmod(0o755)
    assert "ENOEXEC" in refused("run", "-v", f"{program}:/p", "--rootfs", str(rootfs), "/p", status=126)


@pytest.mark.parametrize("what", ["empty", "text", "truncated", "escape"])
def test_import_of_what_is_no_root_file_system(tmp_path, what):
    archive = tmp_path / "x.tar"
    if what == "empty":
        archive.write_bytes(b"")
    elif what == "text":
        archive.write_text("hello\n" * 200)
    else:
        (tmp_path / "file").write_bytes(os.urandom(100_000))
        with tarfile.open(archive, "w") as tar:
            tar.add(tmp_path / "file", "../../escaped" if what == "escape" else "file")
    if what == "truncated":
        archive.write_bytes(archive.read_bytes()[:50_000])
    refused("import", str(archive), "broken")
    assert "no-such" not in kist("images", "-q").stdout
    assert kist("images", "-q").stdout == ""
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize(
    "argv", [["frobnicate"], ["runn", "host"], ["ns", "no-such"], ["rmi", "nothing"], ["import", "x"]]
)
def test_other_verbs(argv):
    refused(*argv)


def test_limits_without_delegation_are_refused_unless_allowed():
    if kist("run", "--rm", "--memory", "64m", "host", "true").returncode == 0:
        pytest.skip("this user may set limits")
    text = refused("run", "--memory", "64m", "host", "true")
    assert "memory" in text
    assert "--allow-unenforced" in text
    done = kist("run", "--rm", "--memory", "64m", "--allow-unenforced", "host", "echo", "ran")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "not enforced: memory" in done.stderr


@pytest.mark.skipif(ROOT, reason="for root this is allowed")
def test_what_an_ordinary_user_may_not():
    assert "--userns" in refused("run", "--userns", "host", "host", "true")


@needs_root
def test_a_run_directory_of_somebody_else(tmp_path, monkeypatch):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    monkeypatch.setenv("KIST_RUN_DIR", str(theirs))
    assert "KIST_RUN_DIR" in refused("run", "host", "true")


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_no_place_for_state(monkeypatch):
    monkeypatch.setenv("KIST_RUN_DIR", "/proc/kist")
    assert "KIST_RUN_DIR" in refused("run", "host", "true")


HOSTILE = {
    "proc is a link to etc": lambda root: (root / "proc").symlink_to("/etc"),
    "proc is a link out": lambda root: (root / "proc").symlink_to("../../../../../tmp"),
    "sys is a link": lambda root: (root / "sys").symlink_to("/tmp"),
    "proc is a file": lambda root: (root / "proc").write_text(""),
    "dev is a file": lambda root: (root / "dev").write_text(""),
    "etc is a dangling link": lambda root: (_move_away(root / "etc"), (root / "etc").symlink_to("/nowhere")),
    "passwd is a directory": lambda root: (root / "etc/passwd").mkdir(),
    "passwd is a fifo": lambda root: os.mkfifo(root / "etc/passwd"),
    "passwd is a loop": lambda root: (root / "etc/passwd").symlink_to("passwd"),
    "passwd is huge": lambda root: (root / "etc/passwd").write_bytes(b"x" * (2 << 20)),
}


def _move_away(path: Path) -> None:
    path.rename(path.with_name("etc.old"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_root_file_system(rootfs, tmp_path, kind):
    """It may fail or start; it never hangs, and never touches the host."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "bin").symlink_to("/box/bin")
    HOSTILE[kind](root)
    canary = Path("/etc/passwd").stat()
    done = kist("run", "-u", "web", "-v", f"{rootfs}:/box:ro", "--rootfs", str(root), "true")
    assert done.returncode in (0, 125, 127), done.stderr
    assert "Traceback" not in done.stderr
    if kind.startswith(("proc", "sys", "dev is")):
        assert done.returncode == 125
    after = Path("/etc/passwd").stat()
    assert (after.st_ino, after.st_mtime_ns) == (canary.st_ino, canary.st_mtime_ns)
