"""Whatever is lost or damaged, `delete --force` leaves nothing; and many containers at once."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bundles import Runtime, cgroups_named, is_alive, kist_only, oci, wait_for
from containers import can_limit, needs_limits

__all__ = ["oci"]
pytestmark = kist_only


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    if path.is_fifo():
        path.unlink()
        path.touch()
    else:
        os.truncate(path, 0)


def garble(path: Path) -> None:
    path.unlink()
    path.write_bytes(b'{"pid":"\xff\x00' + os.urandom(50))


def lie(path: Path) -> None:
    """Well-formed JSON of another kind."""
    path.unlink()
    path.write_text("[1, 2, 3]")


def become_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [remove, truncate, garble, lie, become_a_directory]
FILES = ["record", "config.json", "state.json", "exec.fifo"]


def limited(config: dict) -> None:
    if can_limit():
        config["linux"]["resources"] = {"pids": {"limit": 50}}


def make(oci: Runtime, status: str) -> str:
    if status == "created":
        return oci.create("sleep", "600", change=limited)
    id = oci.running("sh", "-c", "sleep 600 & echo up; wait", change=limited)
    if status == "paused":
        oci("pause", id)
    if status == "stopped":
        oci("kill", id, "KILL")
        oci.wait_status(id, "stopped")
    return id


def delete_and_look(oci: Runtime, id: str, pid: int) -> None:
    oci("delete", "--force", id)
    assert not oci.leftovers()
    wait_for(lambda: not is_alive(pid))
    oci("run", "--bundle", oci.bundle("true"), id)  # the id is free again
    assert not oci.leftovers()


@needs_limits
@pytest.mark.parametrize(
    ("status", "damage"),
    [("running", damage) for damage in DAMAGES] + [(s, d) for s in ("created", "paused") for d in (remove, garble)],
)
def test_each_file_damaged(oci: Runtime, status: str, damage: Callable[[Path], None]):
    for name in FILES:
        id = make(oci, status)
        pid = oci.state(id)["pid"]
        path = oci.root / id / name
        if path.exists():
            damage(path)
            delete_and_look(oci, id, pid)
        else:
            oci("delete", "--force", id)


@needs_limits
@pytest.mark.parametrize("status", ["created", "running", "paused", "stopped"])
def test_all_files_lost(oci: Runtime, status: str):
    id = make(oci, status)
    pid = oci.state(id)["pid"]
    for path in (oci.root / id).iterdir():
        path.unlink()
    delete_and_look(oci, id, pid)


@needs_limits
@pytest.mark.parametrize("status", ["created", "running", "paused"])
def test_the_whole_directory_is_lost(oci: Runtime, status: str):
    id = make(oci, status)
    pid = oci.state(id)["pid"]
    for path in (oci.root / id).iterdir():
        path.unlink()
    (oci.root / id).rmdir()
    delete_and_look(oci, id, pid)


@needs_limits  # without a cgroup nothing else tells of the process
@pytest.mark.parametrize("damage", [garble, become_a_directory])
def test_other_commands_say_what_is_wrong(oci: Runtime, damage: Callable[[Path], None]):
    """No traceback, whatever is damaged; and `list` shows the others."""
    other = oci.create("true")
    for name in FILES:
        id = make(oci, "created")
        pid = oci.state(id)["pid"]
        damage(oci.root / id / name)
        for args in (("state", id), ("start", id), ("kill", id, "WINCH"), ("ps", id), ("exec", id, "true"), ("list",)):
            done = oci(*args, ok=False)
            assert "Traceback" not in done.stderr, (name, args)
            assert done.returncode in (0, 1, 255), (name, args, done)
        assert other in oci("list", "-q").stdout
        oci("delete", "--force", id)
        wait_for(lambda pid=pid: not is_alive(pid))


@needs_limits
def test_a_cgroup_of_another_name(oci: Runtime):
    """As engines choose them: it is found by the config."""
    path = f"/kist/{oci.new_id()}/other"

    def change(config: dict) -> None:
        config["linux"]["cgroupsPath"] = path

    id = oci.create("sleep", "600", change=change)
    oci("pause", id)
    (oci.root / id / "record").unlink()
    oci("delete", "--force", id)
    assert not [path for path in cgroups_named(["other"]) if oci.ids[0] in path]
    for left in cgroups_named(oci.ids):
        os.rmdir(left)


@pytest.mark.parametrize("status", ["created", "running"])
def test_its_process_killed(oci: Runtime, status: str):
    id = make(oci, status)
    pid = oci.state(id)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert oci.wait_status(id, "stopped")["status"] == "stopped"
    oci("delete", id)
    assert not oci.leftovers()


@pytest.mark.parametrize("status", ["created", "running", "stopped"])
def test_of_a_previous_boot(oci: Runtime, status: str):
    """Its number is another process's now, which is not touched; its cgroups are gone."""
    id = make(oci, status)
    oci("kill", "--all", id, "KILL")
    oci.wait_status(id, "stopped")
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        path = oci.root / id / "state.json"
        path.write_text(json.dumps({"pid": stranger.pid}))
        for file in (oci.root / id).iterdir():
            os.utime(file, (1_000_000_000, 1_000_000_000))
        assert oci.state(id)["status"] == "stopped"
        assert oci("start", id, ok=False).returncode == 1
        assert oci("kill", id, "KILL", ok=False).returncode == 1
        oci("delete", id)
        assert not oci.leftovers()
        assert is_alive(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("delay_ms", [5, 15, 25, 35, 45, 60, 100, 200])
@pytest.mark.parametrize("verb", ["create", "run"])
def test_killed_while_it_is_made(oci: Runtime, verb: str, delay_ms: int):
    id = oci.new_id()
    bundle = oci.bundle("sleep", "600", change=limited)
    with (oci.directory / "output").open("ab") as out:
        process = subprocess.Popen([*oci.argv, verb, "-b", str(bundle), id], stdout=out, stderr=out)
        try:
            process.wait(delay_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
    oci("delete", "--force", id)
    wait_for(lambda: not oci.leftovers())
    oci("run", "-b", oci.bundle("true"), id)


def test_twenty_at_once(oci: Runtime):
    """5 rounds here; a hundred with KIST_LONG=1."""
    bundle = oci.bundle("sleep", "600", change=limited)
    for _ in range(100 if "KIST_LONG" in os.environ else 5):
        ids = [oci.new_id() for _ in range(20)]
        for verb in (["create", "--bundle", str(bundle)], ["start"], ["delete", "--force"]):
            with (oci.directory / "output").open("ab") as out:
                many = [subprocess.Popen([*oci.argv, *verb, id], stdout=out, stderr=out) for id in ids]
                assert [process.wait(120) for process in many] == [0] * 20, oci.output()
        assert not oci.leftovers()
    assert oci.output() == ""
