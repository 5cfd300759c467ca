"""Volumes: named and anonymous, what is in them at first, who has them; secrets."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from containers import KIST, ROOT, code, inside, kist, needs_root, ok
from images import busybox_layer, member, put_image, symlink, tar_of
from kist.kernel.probe import probe
from kist.kernel.userns import has_other_ids
from kist.spec.image import ContainerConfig, Empty
from kist.store.blobs import BlobStore
from kist.store.images import ImageStore


@pytest.fixture
def box() -> str:
    return make_image("box")


def make_image(name: str, *members, config: ContainerConfig | None = None) -> str:
    layer = busybox_layer()
    if layer is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    with BlobStore(os.environ["KIST_DATA_DIR"]) as blobs:
        layers = [layer, tar_of(*members)] if members else [layer]
        ImageStore().add(name, put_image(blobs, layers, compress=None, suffix="", config=config))
    return name


def data_of(name: str) -> Path:
    return Path(os.environ["KIST_DATA_DIR"], "volumes", name, "_data")


def volumes() -> list[str]:
    return ok("volume", "ls", "-q").split()


def test_a_volume_outlives_its_containers(box):
    inside("-v", "data:/d", box, "sh", "-c", "echo one > /d/f")
    assert inside("--mount", "type=volume,src=data,dst=/e,readonly", box, "cat", "/e/f") == "one\n"
    assert "Read-only" in kist("run", "--rm", "-v", "data:/d:ro", box, "touch", "/d/x").stderr
    assert volumes() == ["data"]
    ok("volume", "rm", "data")
    assert volumes() == []
    assert not data_of("data").exists()


def test_an_empty_one_begins_with_what_the_image_has():
    owners = ROOT or has_other_ids(probe())
    own = {"uid": 33, "gid": 34} if owners else {}
    make_image("full", member("srv/data", mode=0o750, **own), member("srv/data/f", b"x", mode=0o640, **own),
               symlink("srv/data/out", "/etc/passwd"), symlink("srv/link", "data"),
               symlink("srv/up", "../../../../../../../../etc"))  # fmt: skip
    listing = "stat -c '%a %u %g %n' /v /v/f; readlink /v/out"
    expected = "750 33 34 /v\n640 33 34 /v/f\n" if owners else "750 0 0 /v\n640 0 0 /v/f\n"
    for target in ("/srv/data", "/srv/link"):
        inside("-v", f"data:{target}", "full", "true")
        assert inside("-v", "data:/v", "full", "sh", "-c", listing) == f"{expected}/etc/passwd\n"
        ok("volume", "rm", "data")
    inside("-v", "data:/srv/data:nocopy", "full", "true")
    assert os.listdir(data_of("data")) == []
    inside("-v", "data2:/srv/up", "full", "true")  # a link out of the root ends in the image's own /etc
    assert sorted(os.listdir(data_of("data2"))) == ["group", "passwd"]
    assert (data_of("data2") / "passwd").read_text().startswith("root:x:0:0:root:/root:/bin/sh\nweb:")


def test_what_a_killed_copy_left_is_copied_again(box):
    inside("-v", "data:/d", box, "true")
    (data_of("data") / "half").write_text("")
    (data_of("data").parent / "copying").touch()
    inside("-v", "data:/tmp", box, "true")
    assert os.listdir(data_of("data")) == []
    assert not (data_of("data").parent / "copying").exists()


def test_the_images_volumes_and_minus_v_without_a_source_are_the_containers_own():
    make_image("vols", member("var"), member("var/db"), member("var/db/seed", b"s"),
               config=ContainerConfig(cmd=("sh",), volumes={"/var/db": Empty()}))  # fmt: skip
    ok("create", "--name", "own", "-v", "/more", "vols", "true")
    names = volumes()
    assert len(names) == 2
    assert all(len(name) == 64 for name in names)
    assert sorted(os.listdir(data_of(name)) for name in names) == [[], ["seed"]]
    ok("rm", "own")
    assert volumes() == names
    assert kist("volume", "prune", "-f").returncode == 0
    assert volumes() == []
    ok("create", "--name", "own", "vols", "true")
    ok("rm", "-v", "own")
    assert volumes() == []
    assert inside("-v", "/more", "vols", "sh", "-c", "ls /var/db; touch /more/x; ls /more") == "seed\nx\n"
    assert volumes() == []  # with --rm they go with it
    assert inside("--read-only", "-v", "/more", "vols", "sh", "-c", "touch /more/x && ls /more") == "x\n"


def test_one_that_a_container_has_stays(box):
    ok("create", "--name", "keeper", "-v", "data:/d", box, "true")
    assert code("volume", "rm", "data") == "volume-in-use"
    assert "keeper" in kist("volume", "rm", "-f", "data").stderr
    ok("volume", "prune", "-af")
    assert volumes() == ["data"]
    ok("rm", "keeper")
    ok("volume", "prune", "-f")
    assert volumes() == ["data"]  # it has a name
    assert "data" in ok("volume", "prune", "-af")
    assert volumes() == []


def test_one_that_a_foreground_container_has_stays(box):
    with subprocess.Popen([*KIST, "run", "--rm", "-i", "--name", "fg", "-v", "data:/d", box, "sh", "-c",
                           "echo up; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout and process.stdout.readline() == b"up\n"
        assert code("volume", "rm", "data") == "volume-in-use"
        process.communicate(b"")
    ok("volume", "rm", "data")


def test_volumes_from(box):
    ok("create", "--name", "first", "-v", "data:/d", "-v", "/own", box, "true")
    ok("create", "--name", "second", "--volumes-from", "first", box, "true")
    inside("--volumes-from", "second", box, "sh", "-c", "echo 1 > /d/f; echo 2 > /own/g")
    script = "cat /d/f /own/g; touch /d/x 2>/dev/null || echo ro"
    assert inside("--volumes-from", "first:ro", box, "sh", "-c", script) == "1\n2\nro\n"
    ok("rm", "-v", "first")
    assert len(volumes()) == 2  # another has them
    ok("rm", "-v", "second")
    assert volumes() == ["data"]


def test_names_labels_and_what_is_told_about_them():
    assert ok("volume", "create", "--label", "a=b", "one") == "one"
    assert ok("volume", "create", "one") == "one"  # once more is fine
    (shown,) = json.loads(ok("volume", "inspect", "one"))
    assert (shown["Name"], shown["Driver"], shown["Labels"], shown["Scope"]) == ("one", "local", {"a": "b"}, "local")
    assert shown["Mountpoint"] == str(data_of("one"))
    ok("volume", "create", "two")
    assert len(ok("volume", "create")) == 64
    assert ok("volume", "ls", "-q", "--filter", "label=a") == "one"
    assert ok("volume", "ls", "--filter", "name=tw", "--format", "{{.Name}} {{.Driver}}") == "two local"
    assert ok("volume", "ls").splitlines()[0].split() == ["DRIVER", "VOLUME", "NAME"]
    assert code("volume", "inspect", "nine") == "no-volume"
    assert "did you mean 'two'" in kist("volume", "rm", "twoo").stderr
    assert code("volume", "create", "../x") == "invalid-input"
    assert code("volume", "create", "--driver", "nfs", "x") == "invalid-input"


def test_a_subpath_stays_in_the_volume(box, tmp_path):
    (tmp_path / "secret").write_text("host")
    inside(
        "-v", "data:/d", box, "sh", "-c", f"mkdir -p /d/a/b; echo in > /d/a/b/f; ln -s {tmp_path} /d/out; ln -s a /d/in"
    )
    mount = "type=volume,src=data,dst=/s,volume-subpath="
    assert inside("--mount", f"{mount}a/b", box, "cat", "/s/f") == "in\n"
    assert inside("--mount", f"{mount}in/b", box, "cat", "/s/f") == "in\n"
    assert code("run", "--rm", "--mount", f"{mount}out", box, "cat", "/s/secret") == "no-file"
    assert code("run", "--rm", "--mount", f"{mount}none", box, "true") == "no-file"


def test_options_of_the_driver(box, tmp_path):
    (tmp_path / "host").mkdir()
    (tmp_path / "host/f").write_text("hello\n")
    ok("volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", f"device={tmp_path}/host", "bound")
    assert inside("-v", "bound:/b", box, "cat", "/b/f") == "hello\n"
    assert kist("run", "--rm", "-v", "bound:/b", box, "touch", "/b/x").returncode == 1
    ok("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,mode=700", "mem")
    assert "size=1024k" in inside("-v", "mem:/m", box, "grep", " /m ", "/proc/mounts")
    ok("volume", "create", "-o", "type=ramfs", "-o", "device=ramfs", "ram")
    if ROOT:
        assert " ramfs " in inside("-v", "ram:/m", box, "grep", " /m ", "/proc/mounts")
    else:
        assert code("run", "--rm", "-v", "ram:/m", box, "true") == "volume-type"
    ok("volume", "create", "-o", "o=bind", "-o", f"device={tmp_path}/gone", "gone")
    assert code("run", "--rm", "-v", "gone:/g", box, "true") == "not-found"
    ok("volume", "rm", "bound")
    assert (tmp_path / "host/f").exists()


def test_two_first_users_at_once_get_one_volume(box):
    make_image("full", member("srv"), *(member(f"srv/{i}", b"x") for i in range(50)))
    argv = [*KIST, "run", "--rm", "-v", "data:/srv", "full", "sh", "-c", "ls /srv | wc -l"]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0] for process in running] == ["50\n"] * 4
    assert len(os.listdir(data_of("data"))) == 50


def test_a_container_that_is_not_made_leaves_no_volume(box):
    ok("create", "--name", "taken", box, "true")
    assert code("create", "--name", "taken", "-v", "/own", box, "true") == "conflict"
    assert code("create", "--user", "nobody-here", "-v", "/own", box, "true") == "no-such-user"
    assert volumes() == []


@needs_root
def test_a_full_disk_leaves_no_half_volume(tmp_path, box):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "tmpfs", str(small)], check=True)
    try:
        environ = os.environ | {"KIST_DATA_DIR": str(small)}
        ok("volume", "create", "first", env=environ)
        (small / "fill").write_bytes(bytes(900 << 10))
        made = 0
        while (done := kist("volume", "create", f"v{made}", env=environ)).returncode == 0:
            made += 1
        assert "disk-full" in done.stderr
        left = os.listdir(small / "volumes")
        assert sorted(left) == sorted(["first", *(f"v{i}" for i in range(made))])
        assert kist("volume", "rm", "first", env=environ).returncode == 0
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_kist_writes_nothing_into_what_is_mounted(box, tmp_path):
    """/etc/hosts and such are the container's own, and below whatever is mounted there."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("the host's\n")
    assert inside("-v", f"{tmp_path}/etc:/etc", box, "cat", "/etc/hosts") == "the host's\n"
    assert os.listdir(tmp_path / "etc") == ["hosts"]
    (tmp_path / "mine").write_text("mine\n")
    assert inside("-v", f"{tmp_path}/mine:/etc/hosts:ro", box, "cat", "/etc/hosts") == "mine\n"
    assert "localhost" in inside(box, "cat", "/etc/hosts")


def test_explain_makes_no_volume(box):
    assert "volumes/later/_data" in ok("explain", "-v", "later:/d", box, "true")
    assert volumes() == []


# --- secrets


def test_secrets_are_in_memory_only(box):
    assert kist("secret", "create", "pw", "-", input="s3cret\n").returncode == 0
    path = Path(os.environ["KIST_DATA_DIR"], "secrets/pw")
    assert path.stat().st_mode & 0o777 == 0o600
    show = "stat -c '%a %u %g' /run/secrets/pw; cat /run/secrets/pw; grep -c ' /run/secrets tmpfs' /proc/mounts"
    assert inside("--secret", "pw,mode=0400,uid=0", box, "sh", "-c", show) == "400 0 0\ns3cret\n1\n"
    ok("create", "--name", "holder", "--secret", "pw,target=deep/er", box, "cat", "/run/secrets/deep/er")
    assert "s3cret" not in ok("explain", "--secret", "pw", box, "true")
    assert "s3cret" not in ok("secret", "inspect", "pw") + ok("secret", "ls")
    for found in Path(os.environ["KIST_DATA_DIR"]).rglob("*"):
        assert not found.is_file() or b"s3cret" not in found.read_bytes()
    assert code("create", "--secret", "nine", box, "true") == "no-secret"
    assert kist("secret", "create", "pw", "-", input="x").returncode != 0
    assert kist("secret", "create", "--replace", "pw", "-", input="x").returncode == 0
    ok("secret", "rm", "pw")
    assert code("secret", "inspect", "pw") == "no-secret"
    assert ok("secret", "ls", "-q") == ""


def test_a_secret_is_not_in_what_is_committed(box):
    kist("secret", "create", "pw", "-", input="s3cret\n")
    assert (
        kist("run", "--name", "user", "--secret", "pw", box, "sh", "-c", "cat /run/secrets/pw; echo 1 > /f").returncode
        == 0
    )
    assert ok("diff", "user") == "A /f"
    image = ok("commit", "user", "made")
    assert image.startswith("sha256:")
    archive = subprocess.run([*KIST, "save", "made"], capture_output=True, check=True).stdout
    assert b"s3cret" not in archive
    exported = subprocess.run([*KIST, "export", "user"], capture_output=True, check=True).stdout
    assert b"s3cret" not in exported


def test_a_killed_command_leaves_no_half_volume(box):
    """SIGKILL at many points of a first use: the next use has all of it, or nothing is named."""
    make_image("full", member("srv"), *(member(f"srv/{i}", b"x" * 999) for i in range(200)))
    for i in range(12):
        with subprocess.Popen([*KIST, "create", "-v", f"data{i}:/srv", "full", "true"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, start_new_session=True) as process:  # fmt: skip
            time.sleep(0.05 + i * 0.02)
            os.killpg(process.pid, signal.SIGKILL)
        assert inside("-v", f"data{i}:/srv", "full", "sh", "-c", "ls /srv | wc -l") == "200\n"
    assert all(not name.startswith(".") for name in volumes())
