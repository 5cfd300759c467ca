"""The OCI runtime's commands, one container each. KIST_OCI_CLI=runc or crun proves the cases on another runtime."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundles import CLI, KIST_OCI, Runtime, cgroups_named, console, is_alive, kist_only, oci, wait_for
from containers import ROOT, needs_limits, needs_root
from terminal import Terminal

__all__ = ["oci"]
not_crun = pytest.mark.skipif(CLI == "crun", reason="crun 1.8 does otherwise")


def test_run(oci: Runtime):
    bundle = oci.bundle("sh", "-c", "read line; echo got $line; echo err >&2; exit 3")
    done = oci("run", "-b", bundle, oci.new_id(), input="this\n", ok=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "got this\n", "err\n")
    assert not oci.leftovers()


@kist_only
@pytest.mark.parametrize("id", [".", "..", ".hidden", "a b", "a/b", "\u00e4"])
def test_what_is_no_id(oci: Runtime, id: str):
    done = oci("run", "--bundle", oci.bundle("true"), id, ok=False)
    assert done.returncode != 0
    assert "invalid container ID format" in done.stderr


def test_run_ends_by_a_signal(oci: Runtime):
    bundle = oci.bundle("sh", "-c", "sh -c 'kill -9 $$'; exit $?")
    assert oci("run", "-b", bundle, oci.new_id(), ok=False).returncode == 137


def test_the_bundle_is_the_working_directory(oci: Runtime):
    assert oci("run", oci.new_id(), cwd=oci.bundle("echo", "here")).stdout == "here\n"


@needs_root
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("options", [(), ("--no-pivot",)])
def test_no_whole_proc_in_a_user_namespace_inside(oci: Runtime, options: tuple[str, ...], masked: bool):
    """mount_namespaces(7): only where one can be seen whole; without pivot_root that must not be the host's."""

    def change(config: dict) -> None:
        config["linux"]["maskedPaths"] = ["/proc/keys"] if masked else []
        config["process"]["capabilities"] = {kind: ["CAP_SETFCAP"] for kind in ("bounding", "permitted")}

    made = oci.bundle("unshare", "-mrpf", "mount", "-t", "proc", "none", "/proc", change=change)
    done = oci("run", *options, "-b", made, oci.new_id(), ok=False)
    assert (done.returncode != 0) is masked, done
    assert ("permission denied" in done.stderr) is masked


def test_life_cycle(oci: Runtime):
    pid_file = oci.directory / "pid"
    id = oci.create("sh", "-c", "echo started; exec sleep 600", options=("--pid-file", pid_file))
    created = oci.state(id)
    assert (created["id"], created["status"]) == (id, "created")
    assert created["bundle"] == str(oci.directory / "bundle-0")
    assert created["pid"] == int(pid_file.read_text())
    assert is_alive(created["pid"])
    assert oci.output() == ""
    oci("start", id)
    wait_for(lambda: oci.output() == "started\n")
    assert oci.state(id)["status"] == "running"
    assert oci("delete", id, ok=False).returncode != 0
    oci("kill", id, "KILL")
    assert oci.wait_status(id, "stopped").get("pid", 0) == 0
    assert not is_alive(created["pid"])
    oci("delete", id)
    gone = oci("state", id, ok=False)
    assert gone.returncode == 1
    assert "does not exist" in gone.stderr or "No such file" in gone.stderr
    assert not oci.leftovers()


def test_run_detached(oci: Runtime):
    id = oci.running()
    state = oci.state(id)
    assert state["status"] == "running"
    oci("kill", id)  # SIGTERM
    oci.wait_status(id, "stopped")
    oci("delete", id)


def test_what_a_state_forbids(oci: Runtime):
    id = oci.create("sleep", "600")
    bundle = oci.bundle("true")
    again = oci("create", "-b", bundle, id, ok=False)
    assert again.returncode != 0
    assert "exist" in again.stderr
    assert CLI == "crun" or oci("resume", id, ok=False).returncode != 0
    oci("start", id)
    assert oci("start", id, ok=False).returncode != 0
    oci("kill", id, "9")
    oci.wait_status(id, "stopped")
    assert oci("start", id, ok=False).returncode != 0
    assert oci("kill", id, "9", ok=False).returncode != 0
    assert oci("pause", id, ok=False).returncode != 0
    assert oci("exec", id, "true", ok=False).returncode != 0


def test_delete_by_force(oci: Runtime):
    running, created = oci.running(), oci.create("sleep", "600")
    pids = [oci.state(id)["pid"] for id in (running, created)]
    for id in (running, created):
        oci("delete", "--force", id)
    assert not any(map(is_alive, pids))
    assert not oci.leftovers()
    oci("delete", "--force", oci.new_id())
    assert oci("delete", oci.new_id(), ok=False).returncode == 1


@needs_root
@needs_limits
@pytest.mark.parametrize("options", [(), ("--force",)], ids=["plain", "force"])
def test_delete_ends_what_the_first_process_left_behind(oci: Runtime, options: tuple[str, ...]):
    """Without a PID namespace of its own. Whether PID 1 of this machine has reaped it is not the runtime's business."""

    def without_pid_namespace(made: dict) -> None:
        made["linux"]["namespaces"].remove({"type": "pid"})

    id = oci.running("sh", "-c", "echo up; exec sleep 1000", change=without_pid_namespace)
    file = oci.directory / "pid"
    oci.start("exec", "--detach", "--pid-file", file, id, "sleep", "1000")
    os.kill(oci.state(id)["pid"], signal.SIGKILL)
    oci.wait_status(id, "stopped")
    assert is_alive(int(file.read_text()))
    oci("delete", *options, id)
    assert not is_alive(int(file.read_text()))


@needs_root
@needs_limits
@pytest.mark.parametrize("words", [("--all",), pytest.param((), marks=kist_only)], ids=["all", "as runc 1.2"])
@pytest.mark.parametrize("status", ["running", "stopped"])
def test_kill_in_a_pid_namespace_of_another_container(oci: Runtime, status: str, words: tuple[str, ...]):
    """The kernel ends nothing with its first process, and containerd waits for all that hold its output."""
    pod = oci.running("sh", "-c", "echo up; exec sleep 1000")

    def join(made: dict) -> None:
        made["linux"]["namespaces"].remove({"type": "pid"})
        made["linux"]["namespaces"].append({"type": "pid", "path": f"/proc/{oci.state(pod)['pid']}/ns/pid"})

    id = oci.running("sh", "-c", "sleep 1000 & echo up; wait", change=join)
    first = oci.state(id)["pid"]
    (other,) = map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())
    if status == "stopped":
        os.kill(first, signal.SIGKILL)
        oci.wait_status(id, status)
        assert is_alive(other)
    oci("kill", *words, id, "KILL")
    wait_for(lambda: not is_alive(first) and not is_alive(other), 5)
    assert oci.state(pod)["status"] == "running"


def test_a_signal_soon_after_start_is_not_lost(oci: Runtime):
    id = oci.create("sh", "-c", "sleep 0.05; trap 'exit 7' TERM; while :; do sleep 0.1; done")
    oci("start", id)
    oci("kill", id)
    oci.wait_status(id, "stopped")


@pytest.mark.parametrize("word", ["KILL", "SIGKILL", "9"])
def test_kill_names(oci: Runtime, word):
    id = oci.running()
    oci("kill", id, word)
    oci.wait_status(id, "stopped")


@not_crun
def test_kill_takes_no_other_word(oci: Runtime):
    id = oci.running()
    assert oci("kill", id, "NOSUCH", ok=False).returncode != 0
    assert oci.state(id)["status"] == "running"


def test_exec(oci: Runtime):
    id = oci.running()
    done = oci("exec", id, "sh", "-c", "echo out; echo err >&2; exit 4", ok=False)
    assert (done.returncode, done.stdout, done.stderr) == (4, "out\n", "err\n")
    assert oci("exec", id, "cat", input="in").stdout == "in"
    script = "pwd; echo $A; hostname; id -u; cat /proc/1/comm"
    lines = oci("exec", "--cwd", "/tmp", "-e", "A=b", "-e", "PATH=/bin", id, "sh", "-c", script).stdout.splitlines()
    assert lines == ["/tmp", "b", "box", "0", "sh"]


@needs_root
def test_exec_as_another_user(oci: Runtime):
    id = oci.running()
    script = "id -u; id -g; grep CapEff /proc/self/status"
    plain = oci("exec", "--user", "33:34", id, "sh", "-c", script).stdout.split()
    assert plain == ["33", "34", "CapEff:", "0000000000000000"]


def test_exec_of_what_is_not_there(oci: Runtime):
    id = oci.running()
    done = oci("exec", id, "/no/such", ok=False)
    assert done.returncode in (127, 255, 1)
    assert "no such file" in done.stderr.lower()


@kist_only
@pytest.mark.parametrize("path", ["../out", "foo/..", "pids:foo/../../out"])
def test_exec_stays_below_the_containers_cgroup(oci: Runtime, path: str):
    done = oci("exec", "--cgroup", path, oci.running(), "true", ok=False)
    assert done.returncode != 0
    assert "`..` components are not allowed" in done.stderr
    assert path.removeprefix("pids:") in done.stderr


def test_exec_a_process_file(oci: Runtime):
    id = oci.running()
    process = {
        "args": ["sh", "-c", "echo $B; pwd"],
        "cwd": "/etc",
        "env": ["B=c", "PATH=/bin"],
        "user": {"uid": 0, "gid": 0},
    }
    path = oci.directory / "process.json"
    path.write_text(json.dumps(process))
    assert oci("exec", "--process", path, id).stdout == "c\n/etc\n"


def test_exec_detached(oci: Runtime):
    id = oci.running()
    pid_file = oci.directory / "exec-pid"
    oci.start("exec", "--detach", "--pid-file", pid_file, id, "sleep", "600")
    pid = int(pid_file.read_text())
    assert is_alive(pid)
    oci("delete", "--force", id)
    wait_for(lambda: not is_alive(pid))


def test_exec_on_a_terminal(oci: Runtime):
    id = oci.running()
    with Terminal([*oci.argv, "exec", "--tty", id, "sh"], rows=33, columns=99) as terminal:
        terminal.type("tty; stty size; exit 6\n")
        terminal.expect(r"/dev/pts/\d+\r+\n33 99\r+\n")  # runc leaves the terminal's own \r in
        assert terminal.wait() == 6


def test_run_on_a_terminal(oci: Runtime):
    bundle = oci.bundle("sh", "-c", "tty; read x; echo got $x; exit 5", terminal=True)
    with Terminal([*oci.argv, "run", "-b", str(bundle), oci.new_id()]) as terminal:
        terminal.expect(r"/dev/(pts/\d+|console)\r\n")
        terminal.type("it\n")
        terminal.expect("got it\r\n")
        assert terminal.wait() == 5


def test_create_with_a_console_socket(oci: Runtime):
    with console(oci.directory) as receive:
        id = oci.create(
            "sh", "-c", "echo it is; tty", terminal=True, options=("--console-socket", oci.directory / "console")
        )
        master = receive()
    oci("start", id)
    seen = b""
    while b"/dev/" not in seen or not seen.endswith(b"\r\n"):
        seen += os.read(master, 1000)
    os.close(master)
    assert seen.startswith(b"it is\r\n")
    oci.wait_status(id, "stopped")


def test_a_terminal_needs_a_console_socket(oci: Runtime):
    bundle = oci.bundle("true", terminal=True)
    done = oci("create", "-b", bundle, oci.new_id(), ok=False)
    assert done.returncode != 0
    assert "console" in done.stderr or "tty" in done.stderr
    assert not oci.leftovers()


def test_ps(oci: Runtime):
    id = oci.running("sh", "-c", "sleep 601 & echo up; wait")
    pids = json.loads(oci("ps", "--format", "json", id).stdout)
    if ROOT:
        assert len(pids) == 2
    assert oci.state(id)["pid"] in pids
    head, *lines = oci("ps", id).stdout.splitlines()
    assert "PID" in head
    assert len(lines) == len(pids)


def test_list(oci: Runtime):
    oci.root.mkdir()
    assert oci("list", "--quiet").stdout == ""
    first, second = sorted([oci.running(), oci.create("true")])
    assert sorted(oci("list", "--quiet").stdout.split()) == [first, second]
    listed = json.loads(oci("list", "--format", "json").stdout)
    assert {entry["id"]: entry["status"] for entry in listed} == {id: oci.state(id)["status"] for id in (first, second)}
    head, *lines = oci("list").stdout.splitlines()
    assert head.split()[:3] == ["ID", "PID", "STATUS"] or head.split()[0] == "NAME"
    assert sorted(line.split()[0] for line in lines) == [first, second]


@needs_limits
def test_pause_and_resume(oci: Runtime):
    id = oci.running("sh", "-c", "while :; do echo .; sleep 0.01; done")
    oci("pause", id)
    assert oci.state(id)["status"] == "paused"
    before = oci.output()
    assert oci("exec", id, "true", ok=False).returncode != 0 or CLI == "crun"
    assert oci("delete", id, ok=False).returncode != 0
    assert oci.output() == before
    oci("resume", id)
    assert oci.state(id)["status"] == "running"
    wait_for(lambda: oci.output() != before)


@needs_limits
def test_a_paused_container_can_be_killed_and_deleted(oci: Runtime):
    id = oci.running()
    oci("pause", id)
    oci("delete", "--force", id)
    assert not oci.leftovers()


def limited(config: dict) -> None:
    config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}}
    config["linux"]["namespaces"].append({"type": "cgroup"})
    options = ["nosuid", "noexec", "nodev", "ro"]
    config["mounts"] += [
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options},
    ]


def read_limits(oci: Runtime, id: str) -> list[int]:
    script = (
        """cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max 2>/dev/null || cat memory.max pids.max"""
    )
    return [int(word) for word in oci("exec", id, "sh", "-c", script).stdout.split()]


@needs_limits
def test_limits_and_update(oci: Runtime):
    id = oci.running(change=limited)
    assert read_limits(oci, id) == [64 << 20, 20]
    oci("update", "--memory", str(96 << 20), "--pids-limit", "30", id)
    assert read_limits(oci, id) == [96 << 20, 30]
    oci("update", "--resources", "-", id, input=json.dumps({"memory": {"limit": 48 << 20}, "pids": {"limit": 40}}))
    assert read_limits(oci, id) == [48 << 20, 40]


@pytest.fixture
def weighing_disk(tmp_path: Path) -> Iterator[str]:
    """The number of a disk whose scheduler, BFQ, weighs cgroups: a loop device."""
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    done = subprocess.run(["losetup", "--find", "--show", tmp_path / "disk"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs a loop device: {done.stderr.strip()}")
    disk = Path("/sys/block", Path(done.stdout.strip()).name)
    scheduler = disk / "queue" / "scheduler"
    before = re.search(r"\[(.+)\]", scheduler.read_text())
    try:
        if not before or not re.search(r"\bbfq\b", scheduler.read_text()):
            pytest.skip("needs the BFQ scheduler")
        scheduler.write_text("bfq")
        yield (disk / "dev").read_text().strip()
        scheduler.write_text(before[1])
    finally:
        subprocess.run(["losetup", "--detach", f"/dev/{disk.name}"], check=True)


def weights(disk: str, one: int, other: int) -> dict:
    major, minor = map(int, disk.split(":"))
    return {"blockIO": {"weight": one, "weightDevice": [{"major": major, "minor": minor, "weight": other}]}}


def read_weights(id: str) -> list[str]:
    names = ("blkio.bfq.weight_device", "io.bfq.weight")
    files = [Path(path, name) for path in cgroups_named([id]) for name in names]
    return next(file for file in files if file.exists()).read_text().splitlines()


@needs_root
@needs_limits
@not_crun  # it wants blkio.weight, which only CFQ had
def test_io_weights(oci: Runtime, weighing_disk: str):
    id = oci.running(change=lambda made: made["linux"].update(resources=weights(weighing_disk, 333, 444)))
    assert read_weights(id) == ["default 333", f"{weighing_disk} 444"]


@needs_root
@needs_limits
@not_crun
@pytest.mark.skipif(CLI == "runc", reason="runc 1.1 does not update weights; 1.5 does")
def test_io_weights_are_updated(oci: Runtime, weighing_disk: str):
    id = oci.running(change=lambda made: made["linux"].update(resources=weights(weighing_disk, 333, 444)))
    oci("update", "--resources", "-", id, input=json.dumps(weights(weighing_disk, 111, 222)))
    assert read_weights(id) == ["default 111", f"{weighing_disk} 222"]


@needs_limits
def test_too_much_memory_kills(oci: Runtime):
    bundle = oci.bundle("sh", "-c", "head -c 200m /dev/zero | tail > /dev/null; echo $?", change=limited)
    assert oci("run", "-b", bundle, oci.new_id()).stdout == "137\n"


@needs_limits
@not_crun
def test_events(oci: Runtime):
    id = oci.running(change=limited)
    event = json.loads(oci("events", "--stats", id).stdout)
    assert (event["type"], event["id"]) == ("stats", id)
    assert event["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert 0 < event["data"]["memory"]["usage"]["usage"] < 64 << 20
    assert event["data"]["pids"]["current"] >= 1
    assert event["data"]["cpu"]["usage"]["total"] > 0
    process = subprocess.Popen([*oci.argv, "events", "--interval", "100ms", id], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        oci("delete", "--force", id)
        process.stdout.read()
        assert process.wait(30) in (0, 1)
    assert [line["type"] for line in lines] == ["stats", "stats"]


def test_spec(oci: Runtime):
    directory = oci.directory / "spec"
    directory.mkdir()
    options = () if ROOT else ("--rootless",)
    oci("spec", *options, cwd=directory)
    made = json.loads((directory / "config.json").read_text())
    assert made["process"]["args"] == ["sh"]
    assert oci("spec", cwd=directory, ok=False).returncode != 0
    made["process"] |= {"terminal": False, "args": ["id", "-u"]}
    made["root"]["path"] = str(oci.rootfs)
    made["mounts"] = [mount for mount in made["mounts"] if mount["destination"] != "/sys/fs/cgroup"]
    (directory / "config.json").write_text(json.dumps(made))
    assert oci("run", "-b", directory, oci.new_id()).stdout == "0\n"


@not_crun
def test_features(oci: Runtime):
    found = json.loads(oci("features").stdout)
    assert found["ociVersionMin"].startswith("1.0")
    assert "createRuntime" in found["hooks"]
    assert "CAP_SYS_ADMIN" in found["linux"]["capabilities"]
    assert "rbind" in found["mountOptions"]
    assert found["linux"]["seccomp"]["enabled"]


def test_version(oci: Runtime):
    assert "spec: 1." in oci("--version").stdout


def hook(path: Path, name: str) -> dict:
    return {"path": "/bin/sh", "args": ["sh", "-c", f"echo {name} $(cat) >> {path}"], "env": ["PATH=/usr/bin:/bin"]}


@needs_root
def test_hooks(oci: Runtime):
    path = oci.directory / "hooks"
    names = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]

    def change(config: dict) -> None:
        config["hooks"] = {name: [hook(path, name)] for name in names}

    id = oci.create("sleep", "600", change=change)
    oci("start", id)
    oci("delete", "--force", id)
    seen = [line.partition(" ") for line in path.read_text().splitlines()]
    assert [name for name, _, _ in seen] == names
    states = [json.loads(state) for _, _, state in seen]
    assert {state["id"] for state in states} == {id}
    if CLI != "runc":  # says "created" at poststart
        assert [state["status"] for state in states][3:] == ["running", "stopped"]


@needs_root
def test_a_failed_hook_leaves_nothing(oci: Runtime):
    def change(config: dict) -> None:
        config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}

    assert oci("create", "-b", oci.bundle("true", change=change), oci.new_id(), ok=False).returncode != 0
    assert not oci.leftovers()


def test_passing_fds(oci: Runtime):
    read, write = os.pipe()
    bundle = oci.bundle("sh", "-c", "echo through >&3; echo no >&4 || echo closed >&3")
    argv = [*oci.argv, "run", "--preserve-fds", "1", "-b", str(bundle), oci.new_id()]

    def as_three_and_four() -> None:
        os.dup2(write, 3)
        os.dup2(write, 4)

    subprocess.run(argv, preexec_fn=as_three_and_four, pass_fds=[3, 4], check=True, timeout=120)
    os.close(write)
    with open(read) as file:
        assert file.read() == "through\nclosed\n"


@kist_only  # runc refuses a gap
@pytest.mark.parametrize("verb", ["create", "run", "exec"])
def test_a_gap_in_the_passed_fds_is_not_filled_with_ours(oci: Runtime, tmp_path: Path, verb: str):
    """The FIFO of `start` and the log were fds 3 and 4 of the command."""
    list_own = ["sh", "-c", "for fd in /proc/$$/fd/*; do readlink $fd; done; echo end"]
    passed, output = tmp_path / "passed", tmp_path / "output"
    passed.touch()
    name = oci.running() if verb == "exec" else oci.new_id()
    words = [name, *list_own] if verb == "exec" else ["-b", str(oci.bundle(*list_own)), name]
    argv = [*oci.argv, "--log", str(tmp_path / "log"), verb, "--preserve-fds", "40", *words]
    with passed.open() as file, output.open("w") as out:
        os.dup2(file.fileno(), 30)
        try:
            subprocess.run(argv, pass_fds=[30], stdin=out, stdout=out, stderr=out, check=True, timeout=120)
        finally:
            os.close(30)
    if verb == "create":
        oci("start", name)
    wait_for(lambda: output.read_text().endswith("end\n"))
    assert output.read_text().split() == [*[str(output)] * 3, str(passed), "end"]


@kist_only  # Debian's runc knows no execCPUAffinity
def test_the_debug_log_tells_the_affinity_of_exec(oci: Runtime):
    """youki's contest looks for that."""
    done = oci("--debug", "exec", "--process", _on_processor(oci, 0), oci.running())
    assert (done.stdout, "affinity: 0x1" in done.stderr) == ("Cpus_allowed_list:\t0\n", True)


def _on_processor(oci: Runtime, number: int) -> str:
    args = ["grep", "Cpus_allowed_list", "/proc/self/status"]
    path = Path(oci.bundle("true")) / "process.json"
    env = ["PATH=/usr/bin:/bin"]
    path.write_text(json.dumps({"args": args, "cwd": "/", "env": env, "execCPUAffinity": {"initial": str(number)}}))
    return str(path)


def test_unknown_capabilities_are_one_warning(oci: Runtime):
    def change(config: dict) -> None:
        config["process"]["capabilities"] = {kind: ["TEST_CAP"] for kind in ("bounding", "effective", "permitted")}

    done = oci("run", "-b", oci.bundle("true", change=change), oci.new_id())
    assert done.stderr.count("TEST_CAP") == 1
    assert "ignoring unknown or unavailable capabilities: [TEST_CAP]" in done.stderr


def test_namespaces_by_path(oci: Runtime):
    first = oci.running()
    pid = oci.state(first)["pid"]

    def change(config: dict) -> None:
        del config["hostname"]
        for namespace in config["linux"]["namespaces"]:
            if namespace["type"] in ("uts", "user"):
                namespace["path"] = f"/proc/{pid}/ns/{namespace['type']}"
        config["linux"].pop("uidMappings", 0)
        config["linux"].pop("gidMappings", 0)

    done = oci("run", "-b", oci.bundle("readlink", "/proc/self/ns/uts", change=change), oci.new_id())
    assert done.stdout.strip() == os.readlink(f"/proc/{pid}/ns/uts")


@needs_root
def test_a_source_that_the_root_of_a_user_namespace_by_path_cannot_reach(oci: Runtime):
    """containerd makes a pod's user namespace, and its own directories are nobody else's."""
    source = oci.directory / "private/source"
    source.mkdir(parents=True)
    source.parent.chmod(0o700)
    (source / "file").write_text("of the host\n")
    maps = [{"containerID": 0, "hostID": 100_000, "size": 65536}]
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="kist-test-") as top:
        os.chmod(top, 0o755)
        shutil.copytree(oci.rootfs, f"{top}/rootfs", symlinks=True)
        user = subprocess.Popen(["unshare", "--user", "sleep", "1000"])
        try:
            wait_for(lambda: os.readlink(f"/proc/{user.pid}/ns/user") != os.readlink("/proc/self/ns/user"))
            for kind in ("uid", "gid"):
                Path(f"/proc/{user.pid}/{kind}_map").write_text("0 100000 65536")

            def join(config: dict) -> None:
                config["root"]["path"] = f"{top}/rootfs"
                config["linux"]["namespaces"].append({"type": "user", "path": f"/proc/{user.pid}/ns/user"})
                config["linux"].update(uidMappings=maps, gidMappings=maps)
                mount = {"destination": "/tmp", "type": "bind", "source": f"{source}", "options": ["rbind", "ro"]}
                config["mounts"].append(mount)

            done = oci("run", "-b", oci.bundle("cat", "/proc/self/uid_map", "/tmp/file", change=join), oci.new_id())
        finally:
            user.kill()
            user.wait()
    assert done.stdout.split() == ["0", "100000", "65536", "of", "the", "host"]


def damaged(key: str, value: object):
    def change(config: dict) -> None:
        *path, last = key.split(".")
        place = config
        for word in path:
            place = place[word]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("key", "value", "path"),
    [
        ("linux.namespaces", [{"type": "nosuch"}], "$.linux.namespaces[0].type"),
        ("process.cwd", "relative", "$.process.cwd"),
        ("process.user", {"uid": -1}, "$.process.user.uid"),
        ("mounts", [{"type": "tmpfs"}], "$.mounts[0]"),
        ("ociVersion", "2.0.0", "$.ociVersion"),
        ("process.args", [], "$.process.args"),
    ],
)
@kist_only
def test_what_is_wrong_is_refused_with_its_path(oci: Runtime, key, value, path):
    done = oci("create", "-b", oci.bundle("true", change=damaged(key, value)), oci.new_id(), ok=False)
    assert done.returncode == 1
    assert path in done.stderr
    assert not oci.leftovers()


@pytest.mark.parametrize("key", ["root.path", "config"])
def test_missing_parts(oci: Runtime, key):
    bundle = oci.bundle("true", change=damaged("root.path", "/no/such") if key == "root.path" else None)
    if key == "config":
        (bundle / "config.json").unlink()
    assert oci("create", "-b", bundle, oci.new_id(), ok=False).returncode != 0
    assert not oci.leftovers()


@pytest.mark.parametrize("id", ["a/b", "", "..", pytest.param("a b", marks=not_crun)])
def test_ids(oci: Runtime, id):
    assert oci("create", "-b", oci.bundle("true"), id, ok=False).returncode != 0
    assert not oci.leftovers()


def test_a_command_that_is_not_there(oci: Runtime):
    done = oci("run", "-b", oci.bundle("nosuch"), oci.new_id(), ok=False)
    assert done.returncode != 0
    assert "nosuch" in done.stderr
    assert "not found" in done.stderr
    assert not oci.leftovers()


def test_the_log(oci: Runtime):
    log = oci.directory / "log"
    oci("--log", log, "--log-format", "json", "start", "nosuch", ok=False)
    entry = json.loads(log.read_text().splitlines()[-1])
    assert entry["level"] == "error"
    assert re.search("does not exist|No such file", entry["msg"])


@kist_only
def test_help_names_every_command(oci: Runtime):
    text = oci("--help").stdout
    commands = [line.split()[0] for line in text.partition("COMMANDS:\n")[2].partition("\n\n")[0].splitlines()]
    assert {"create", "start", "state", "kill", "delete", "run", "exec", "update", "events"} <= set(commands)
    for command in commands:
        if command not in ("checkpoint", "restore"):
            assert f"kist-oci {command}" in oci(command, "--help").stdout


@kist_only
def test_run_forwards_signals(oci: Runtime):
    bundle = oci.bundle("sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done")
    process = subprocess.Popen([KIST_OCI, "--root", str(oci.root), "run", "-b", str(bundle), oci.new_id()], stdout=-1)
    with process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 9
    assert not oci.leftovers()
