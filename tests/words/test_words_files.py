"""Volumes, cp, diff, export, commit, prune."""

import json
import os
import tarfile
from io import BytesIO

import pytest
from rivals import CLI


@pytest.fixture(autouse=True)
def no_volume_is_left(cli):
    yield
    if ids := cli.ok("ps", "-aq").split():
        cli.ok("rm", "-f", *ids)
    if names := cli.ok("volume", "ls", "-q").split():
        cli.ok("volume", "rm", *names)


def archive(cli, *words: str) -> tarfile.TarFile:
    done = cli(*words, text=False)
    assert done.returncode == 0, done.stderr
    return tarfile.open(fileobj=BytesIO(done.stdout))


# --- volumes


def test_volume_create_prints_the_name(cli):
    assert cli.ok("volume", "create", "data") == "data"
    assert len(cli.ok("volume", "create")) == 64
    assert cli.ok("volume", "ls", "-q", "--filter", "name=data") == "data"


def test_volume_ls_has_dockers_columns(cli):
    cli.ok("volume", "create", "data")
    head, row = cli.ok("volume", "ls").splitlines()
    assert head.split() == ["DRIVER", "VOLUME", "NAME"]
    assert row.split() == ["local", "data"]
    assert cli.ok("volume", "ls", "--format", "{{.Name}}/{{.Driver}}") == "data/local"


def test_volume_labels_and_filters(cli):
    cli.ok("volume", "create", "--label", "a=b", "one")
    cli.ok("volume", "create", "two")
    assert cli.ok("volume", "ls", "-q", "--filter", "label=a=b") == "one"
    assert cli.ok("volume", "ls", "-q", "--filter", "label=a=c") == ""
    (shown,) = json.loads(cli.ok("volume", "inspect", "one"))
    assert shown["Labels"] == {"a": "b"}
    assert (shown["Name"], shown["Driver"], shown["Scope"]) == ("one", "local", "local")


def test_volume_inspect_of_a_missing_one_fails(cli):
    cli.fails("volume", "inspect", "nine")
    cli.fails("volume", "rm", "nine")


def test_a_volume_keeps_what_is_written(cli, box):
    cli.ok("run", "--rm", "-v", "data:/d", box, "sh", "-c", "echo hello >/d/f")
    assert cli.ok("run", "--rm", "-v", "data:/other", box, "cat", "/other/f") == "hello"


def test_a_read_only_volume(cli, box):
    assert cli("run", "--rm", "-v", "data:/d:ro", box, "touch", "/d/f").returncode == 1


def test_mount_in_words(cli, box):
    cli.ok("run", "--rm", "--mount", "type=volume,source=data,target=/d", box, "touch", "/d/f")
    assert cli.ok("run", "--rm", "--mount", "type=volume,src=data,dst=/e,ro", box, "ls", "/e") == "f"


def test_an_empty_volume_gets_what_the_image_has(cli, box):
    assert "passwd" in cli.ok("run", "--rm", "-v", "data:/etc", box, "ls", "/etc")
    assert "passwd" in cli.ok("run", "--rm", "-v", "data:/d", box, "ls", "/d")


def test_a_volume_that_is_not_empty_is_left_alone(cli, box):
    cli.ok("run", "--rm", "-v", "data:/d", box, "touch", "/d/mine")
    assert cli.ok("run", "--rm", "-v", "data:/home", box, "ls", "/home") == "mine"


def test_the_mode_of_the_images_directory_goes_along(cli, box):
    assert cli.ok("run", "--rm", "-v", "data:/tmp", box, "stat", "-c", "%a", "/tmp") == "1777"


def test_a_volume_in_use_is_not_removed(cli, box):
    cli.ok("create", "--name", "cc", "-v", "data:/d", box, "true")
    cli.fails("volume", "rm", "data")
    assert cli.ok("volume", "ls", "-q") == "data"
    cli.ok("rm", "cc")
    assert cli.ok("volume", "rm", "data") == "data"


def test_dangling_are_those_that_nobody_has(cli, box):
    cli.ok("volume", "create", "free")
    cli.ok("create", "--name", "cc", "-v", "data:/d", box, "true")
    assert cli.ok("volume", "ls", "-q", "--filter", "dangling=true") == "free"
    assert cli.ok("volume", "ls", "-q", "--filter", "dangling=false") == "data"


def test_anonymous_volumes_go_with_rm_v(cli, box):
    cli.ok("create", "--name", "cc", "-v", "/own", "-v", "data:/d", box, "true")
    assert len(cli.ok("volume", "ls", "-q").split()) == 2
    cli.ok("rm", "-v", "cc")
    assert cli.ok("volume", "ls", "-q") == "data"


def test_anonymous_volumes_stay_without_it(cli, box):
    cli.ok("create", "--name", "cc", "-v", "/own", box, "true")
    cli.ok("rm", "cc")
    assert len(cli.ok("volume", "ls", "-q")) == 64


def test_anonymous_volumes_go_with_run_rm(cli, box):
    cli.ok("run", "--rm", "-v", "/own", box, "touch", "/own/f")
    assert cli.ok("volume", "ls", "-q") == ""


def test_volumes_from(cli, box):
    cli.ok("create", "--name", "cc", "-v", "data:/d", box, "true")
    cli.ok("run", "--rm", "--volumes-from", "cc", box, "touch", "/d/f")
    assert cli.ok("run", "--rm", "--volumes-from", "cc:ro", box, "ls", "/d") == "f"
    assert cli("run", "--rm", "--volumes-from", "cc:ro", box, "touch", "/d/g").returncode == 1


def test_volume_prune(cli, box):
    cli.ok("create", "--name", "cc", "-v", "/own", box, "true")
    cli.ok("rm", "cc")
    assert "reclaimed" in cli.ok("volume", "prune", "-f") or cli.name == "podman"
    assert cli.ok("volume", "ls", "-q") == ""


# --- cp


@pytest.fixture
def made(cli, box):
    cli.ok("run", "--name", "cc", box, "sh", "-c", "mkdir -p /srv/dir; echo text >/srv/dir/f; ln -s f /srv/dir/l")
    return "cc"


def test_cp_a_file_out(cli, made, tmp_path):
    cli.ok("cp", "cc:/srv/dir/f", str(tmp_path / "new"))
    assert (tmp_path / "new").read_text() == "text\n"
    cli.ok("cp", "cc:/srv/dir/f", str(tmp_path))
    assert (tmp_path / "f").read_text() == "text\n"


def test_cp_a_file_in(cli, made, tmp_path):
    (tmp_path / "x").write_text("mine")
    cli.ok("cp", str(tmp_path / "x"), "cc:/srv/dir")
    cli.ok("cp", str(tmp_path / "x"), "cc:/srv/dir/renamed")
    names = archive(cli, "cp", "cc:/srv/dir", "-").getnames()
    assert {"dir/x", "dir/renamed"} <= {name.rstrip("/") for name in names}


def test_cp_a_directory_out(cli, made, tmp_path):
    cli.ok("cp", "cc:/srv/dir", str(tmp_path / "new"))
    assert sorted(os.listdir(tmp_path / "new")) == ["f", "l"]
    cli.ok("cp", "cc:/srv/dir", str(tmp_path / "new"))
    assert sorted(os.listdir(tmp_path / "new/dir")) == ["f", "l"]
    (tmp_path / "flat").mkdir()
    cli.ok("cp", "cc:/srv/dir/.", str(tmp_path / "flat"))
    assert sorted(os.listdir(tmp_path / "flat")) == ["f", "l"]


def test_cp_a_directory_in(cli, made, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/x").write_text("")
    cli.ok("cp", str(tmp_path / "tree"), "cc:/srv/new")
    cli.ok("cp", str(tmp_path / "tree"), "cc:/srv/new")
    cli.ok("cp", f"{tmp_path}/tree/.", "cc:/srv/dir")
    names = {name.rstrip("/") for name in archive(cli, "cp", "cc:/srv", "-").getnames()}
    assert {"srv/new/x", "srv/new/tree/x", "srv/dir/x"} <= names


def test_cp_of_what_is_not_there_fails(cli, made, tmp_path):
    cli.fails("cp", "cc:/srv/none", str(tmp_path))
    cli.fails("cp", str(tmp_path / "none"), "cc:/srv")
    cli.fails("cp", "cc:/srv/dir/f", str(tmp_path / "none/there"))
    (tmp_path / "file").write_text("")
    cli.fails("cp", "cc:/srv/dir", str(tmp_path / "file"))


def test_cp_an_archive_in(cli, made):
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("from-tar")
        entry.size = 1
        tar.addfile(entry, BytesIO(b"t"))
    assert cli("cp", "-", "cc:/srv/dir", text=False, input=out.getvalue()).returncode == 0
    with archive(cli, "cp", "cc:/srv/dir/from-tar", "-") as tar:
        assert tar.extractfile(tar.getmembers()[0]).read() == b"t"  # type: ignore[union-attr]


def test_cp_into_one_that_was_never_started(cli, box, tmp_path):
    cli.ok("create", "--name", "nn", box, "cat", "/given")
    (tmp_path / "given").write_text("to it\n")
    cli.ok("cp", str(tmp_path / "given"), "nn:/given")
    assert cli.ok("start", "-a", "nn") == "to it"


def test_cp_into_a_volume(cli, box, tmp_path):
    cli.ok("create", "--name", "cc", "-v", "data:/d", box, "true")
    (tmp_path / "x").write_text("in the volume\n")
    cli.ok("cp", str(tmp_path / "x"), "cc:/d/x")
    assert cli.ok("run", "--rm", "-v", "data:/d", box, "cat", "/d/x") == "in the volume"


# --- diff, export, commit


def test_diff(cli, box):
    cli.ok("run", "--name", "cc", box, "sh", "-c", "touch /added; rm /etc/group; echo x >>/etc/passwd; mkdir /new")
    lines = set(cli.ok("diff", "cc").splitlines())
    assert {"A /added", "A /new", "C /etc", "C /etc/passwd", "D /etc/group"} <= lines
    assert not any("/proc" in line or "/bin" in line for line in lines)


def test_export_has_all_files(cli, box, tmp_path):
    cli.ok("run", "--name", "cc", box, "sh", "-c", "echo x >/added; rm /etc/group")
    names = {name.removeprefix("./") for name in archive(cli, "export", "cc").getnames()}
    assert {"added", "bin/busybox", "etc/passwd"} <= names
    assert "etc/group" not in names
    cli.ok("export", "-o", str(tmp_path / "out.tar"), "cc")
    assert tarfile.is_tarfile(tmp_path / "out.tar")


def test_commit_makes_an_image(cli, box):
    cli.ok(
        "run",
        "--name",
        "cc",
        box,
        "sh",
        "-c",
        "echo kept >/added; rm /etc/group; rm -r /home; mkdir /home; touch /home/n",
    )
    id = cli.ok("commit", "-a", "me", "-c", 'CMD ["cat", "/added"]', "-c", "ENV A=b", "cc", "made:one")
    try:
        assert id
        assert cli.ok("run", "--rm", "made:one") == "kept"
        assert (
            cli.ok("run", "--rm", "made:one", "sh", "-c", "echo $A; ls /home; test -e /etc/group || echo gone")
            == "b\nn\ngone"
        )
    finally:
        cli.ok("rmi", "-f", "made:one")


def test_commit_without_a_name(cli, box):
    cli.ok("run", "--name", "cc", box, "touch", "/x")
    id = cli.ok("commit", "cc")
    try:
        assert cli.ok("run", "--rm", id, "ls", "/x") == "/x"
    finally:
        cli.ok("rmi", "-f", id)


def test_commit_with_a_wrong_change_fails(cli, box):
    cli.ok("create", "--name", "cc", box, "true")
    cli.fails("commit", "-c", "RUN true", "cc", "made:two")
    cli.fails("commit", "none", "made:two")


# --- what is in use, prune


def test_an_image_that_a_container_needs_stays(cli, box):
    cli.ok("run", "--name", "tt", box, "true")
    cli.ok("commit", "tt", "made:three")
    cli.ok("create", "--name", "cc", "made:three", "true")
    cli.fails("rmi", "made:three")
    cli.ok("rm", "cc", "tt")
    cli.ok("rmi", "made:three")


def test_container_prune(cli, box):
    cli.ok("create", "--name", "never", "--label", "keep=1", box, "true")
    cli.ok("run", "--name", "ended", box, "true")
    cli.ok("container", "prune", "-f", "--filter", "label!=keep")
    assert cli.ok("ps", "-a", "--format", "{{.Names}}") == "never"
    cli.ok("container", "prune", "-f")
    assert cli.ok("ps", "-aq") == ""


def test_system_prune(cli, box):
    cli.ok("run", "--name", "ended", "-v", "/own", box, "true")
    assert "reclaimed space" in cli.ok("system", "prune", "-f").lower()
    assert cli.ok("ps", "-aq") == ""
    assert len(cli.ok("volume", "ls", "-q").split()) == 1
    cli.ok("system", "prune", "-f", "--volumes")
    assert cli.ok("volume", "ls", "-q") == ""
    assert cli.ok("images", "-q", box)


# --- secrets, in podman's words


@pytest.mark.skipif(CLI == "docker", reason="docker has them only in a swarm")
def test_secrets(cli, box):
    assert cli("secret", "create", "pw", "-", input="hidden").returncode == 0
    try:
        assert cli.ok("secret", "ls", "--format", "{{.Name}}") == "pw"
        assert cli.ok("run", "--rm", "--secret", "pw", box, "cat", "/run/secrets/pw") == "hidden"
        assert "hidden" not in cli.ok("secret", "inspect", "pw")
        cli.fails("secret", "create", "pw", "/etc/hostname")
    finally:
        cli.ok("secret", "rm", "pw")
    cli.fails("secret", "inspect", "pw")
