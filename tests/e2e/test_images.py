"""`kist import`, images of several layers, and containers of them: in both forms for root, in the one of the user."""

import os
import subprocess
from pathlib import Path

import pytest

from containers import KIST, ROOT, inside, kist, needs_ids, needs_root
from images import busybox_layer, hardlink, member, put_image, symlink, tar_of
from kist.kernel.mounts import mount_points
from kist.spec.image import ContainerConfig, Empty
from kist.store.blobs import BlobStore
from kist.store.data import boot_id, create
from kist.store.forms import EROFS, best_form
from kist.store.images import Image, ImageStore


@pytest.fixture(params=["best", "directories"] if ROOT else ["directories"])
def form(request: pytest.FixtureRequest, run_dir: Path) -> str:
    """The form that images take in this test's store: the host's best, or directories as elsewhere."""
    data = os.environ["KIST_DATA_DIR"]
    create(data)
    if request.param == "directories":
        Path(data, "form").write_bytes(boot_id() + b"directories")
    return best_form(data)


@pytest.fixture(scope="session")
def box() -> bytes:
    layer = busybox_layer()
    if layer is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    return layer


def add(name: str, layers: list[bytes], **kwargs) -> Image:
    with BlobStore() as blobs:
        return ImageStore().add(name, put_image(blobs, layers, **kwargs))


def test_import_and_run(form: str, box: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "box.tar"
    archive.write_bytes(box)
    done = kist("import", str(archive), "box:1")
    assert done.returncode == 0, done.stderr
    assert inside("box:1", "cat", "/etc/passwd").startswith("root:x:0:0:root")
    assert inside("--user", "web", "box:1", "id", "-un") == "web\n" if ROOT else True
    assert inside("box:1", "sh", "-c", "echo x > /etc/new; ls /etc").split().count("new") == 1
    assert "new" not in inside("box:1", "ls", "/etc").split()  # what a container writes goes with it


def test_an_image_from_a_pipe(form: str, box: bytes) -> None:
    done = subprocess.run([*KIST, "import", "-", "box"], input=box, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert inside("box", "echo", "ok") == "ok\n"


def test_layers_lie_on_each_other(form: str, box: bytes) -> None:
    lower = tar_of(
        member("d"), member("d/kept", b"1"), member("d/hidden", b"2"), member("d/replaced", b"3"),
        member("o"), member("o/old", b"4"), member("linked", b"5"), member("became", b"file"),
        symlink("way", "d"),
    )  # fmt: skip
    upper = tar_of(
        member("d/.wh.hidden", b""), member("d/replaced", b"33"), member("way/through", b"6"),
        member("o/new", b"7"), member("o/.wh..wh..opq", b""),  # the opaque mark after what it does not hide
        hardlink("again", "linked"), member("became"), member("became/dir", b"8"),
    )  # fmt: skip
    add("layered", [box, lower, upper])
    script = "cd /; for f in d/* o/* became/*; do echo $f=$(cat $f); done; cat again; stat -c ' %h %i' linked again"
    lines = inside("layered", "sh", "-c", script).split("\n")
    assert lines[:5] == ["d/kept=1", "d/replaced=33", "d/through=6", "o/new=7", "became/dir=8"]
    # One file under both names, also when the link came with a later layer.
    assert lines[5].startswith("5 2 ")
    assert lines[5] == f"5{lines[6]}"


def test_the_images_config_applies(form: str, box: bytes) -> None:
    config = ContainerConfig(
        user="web" if ROOT else "", env=("A=image", "B=image"), entrypoint=("echo", "entry"), cmd=("cmd",),
        working_dir="/srv/app", volumes={"/data": Empty()}, labels={"l": "1"},
    )  # fmt: skip
    add("app", [box], config=config)
    assert inside("app") == "entry cmd\n"
    assert inside("app", "other") == "entry other\n"  # a command replaces the image's
    assert inside("--entrypoint", "pwd", "app") == "/srv/app\n"  # an entry point takes the command away with it
    assert inside("-e", "A=asked", "--entrypoint", "env", "app").splitlines().count("A=asked") == 1
    assert "B=image" in inside("-e", "A=asked", "--entrypoint", "env", "app").splitlines()
    if ROOT:
        assert inside("--entrypoint", "id", "app") == "uid=33(web) gid=34(web) groups=77(extra)\n"
        assert inside("--user", "root", "--entrypoint", "id", "app", "-u") == "0\n"
    assert inside("--entrypoint", "ls", "app", "-d", "/data") == "/data\n"
    # A volume of the image stays writable in a container that is otherwise read-only
    done = kist("run", "--rm", "--read-only", "--user", "0", "--entrypoint", "sh", "app", "-c", "> /data/x && > /y")
    assert done.returncode != 0
    assert "/y" in done.stderr
    assert "/data" not in done.stderr


@needs_ids
def test_owners_and_modes(form: str, box: bytes) -> None:
    files = tar_of(
        member("o"), member("o/web", b"", uid=33, gid=34, mode=0o640), member("o/setid", b"", mode=0o6755),
        member("o/dir", uid=33, gid=34, mode=0o3770), symlink("o/link", "nowhere"), member("o/old", b"", mtime=1),
    )  # fmt: skip
    add("owned", [box, files])
    lines = inside("owned", "stat", "-c", "%n %u:%g %a %F", "/o/web", "/o/setid", "/o/dir", "/o/link").splitlines()
    assert lines[0].startswith("/o/web 33:34 640 regular")
    assert lines[1].startswith("/o/setid") and " 6755 " in lines[1]
    assert lines[2] == "/o/dir 33:34 3770 directory"
    assert lines[3].endswith(" 777 symbolic link")
    assert inside("owned", "stat", "-c", "%Y", "/o/old") == "1\n"


def test_an_image_stays_while_a_container_runs(form: str, box: bytes) -> None:
    add("used", [box])
    command = [*KIST, "run", "--rm", "-i", "used", "sh", "-c", "echo up; read x; cat /etc/passwd | head -1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        refused = kist("rmi", "used")
        assert refused.returncode != 0
        assert "[conflict]" in refused.stderr
        assert kist("rmi", "--force", "used").returncode == 0
        assert kist("run", "--rm", "used", "true").returncode == 125
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read().startswith("root:x:0:0")
    ImageStore().gc()
    assert ImageStore().list() == []
    data = Path(os.environ["KIST_DATA_DIR"])
    left = [p for name in ("images", "layers", "chains", "tmp", "blobs/sha256") for p in (data / name).iterdir()]
    assert left == []


def test_an_image_for_another_machine_is_refused(box: bytes) -> None:
    add("alien", [box], architecture="mips64le")
    done = kist("run", "alien", "true")
    assert done.returncode == 125
    assert "linux/mips64le" in done.stderr


def test_an_unknown_image(box: bytes) -> None:
    add("known", [box])
    done = kist("run", "knwon", "true")
    assert done.returncode == 125
    assert "did you mean known:latest?" in done.stderr


def test_verbs(box: bytes) -> None:
    add("a:1", [box, tar_of(member("x", b"1" * 5000))])
    assert kist("tag", "a:1", "b:2").returncode == 0
    assert kist("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split() == ["a:1", "b:2"]
    assert kist("image", "inspect", "--format", '{{join .RepoTags " "}} {{len .RootFS.Layers}}', "b:2").stdout == (
        "a:1 b:2 2\n"
    )
    assert len(kist("history", "a:1").stdout.splitlines()) == 3
    tree = kist("image", "tree", "a:1").stdout
    assert len(tree.splitlines()) == 3
    assert kist("rmi", "a:1").stdout == "Untagged: a:1\n"
    assert kist("image", "ls", "-q").stdout.count("\n") == 1
    assert "Deleted: sha256:" in kist("rmi", "b:2").stdout
    assert kist("images", "-q").stdout == ""


def test_explain_shows_the_layers(form: str, box: bytes) -> None:
    add("shown", [box])
    text = kist("explain", "shown", "true").stdout
    assert os.environ["KIST_DATA_DIR"] in text
    assert "lowerdir=" in text


@needs_root
def test_the_scripts_mount_of_an_image(box: bytes) -> None:
    """mount(8) does not take files as EROFS's devices; the script shows how it goes all the same."""
    add("scripted", [box, tar_of(member("only", b"here\n"))])
    if best_form(os.environ["KIST_DATA_DIR"]) != EROFS or not Path("/dev/loop-control").exists():
        pytest.skip("this host mounts no EROFS images, or has no loop devices")
    script = kist("explain", "--script", "scripted", "cat", "/only").stdout
    start, end = script.index("export fd32="), script.index("losetup --detach $loops") + len("losetup --detach $loops")
    by_hand = f'set -eu\n{script[start:end]}\ncat "$fd32/only"\numount "$fd32"\nrmdir "$fd32"'
    before = subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout
    done = subprocess.run(["sh"], input=by_hand, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "here\n"
    assert subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout == before


def test_prune_takes_what_nobody_needs(box: bytes) -> None:
    add("old:1", [box], created="2020-01-01T00:00:00Z", config=ContainerConfig(labels={"keep": "yes"}))
    add("new:1", [box, tar_of(member("n", b"n"))])
    add("new:1", [box, tar_of(member("n", b"m"))])  # the other one has lost its name
    assert kist("images", "-q", "--filter", "dangling=true").stdout.count("\n") == 1
    refused = kist("image", "prune")
    assert refused.returncode != 0
    assert "--force" in refused.stderr
    assert kist("image", "prune", "-f").stdout.count("deleted: sha256:") == 1
    assert (
        kist("image", "prune", "-af", "--filter", "until=2021-01-01", "--filter", "label!=keep").stdout.count("\n") == 1
    )
    assert "untagged: old:1" in kist("image", "prune", "-af", "--filter", "until=2021-01-01").stdout
    assert kist("images", "--format", "{{.Repository}}").stdout == "new\n"
    assert kist("image", "prune", "-f", "--filter", "colour=red").returncode == 125
    command = [*KIST, "run", "--rm", "-i", "new:1", "sh", "-c", "echo up; read x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        assert "deleted" not in kist("image", "prune", "-af").stdout
        assert kist("system", "df", "--format", "{{.TotalCount}} {{.Active}}").stdout == "1 1\n0 0\n0 0\n"
        process.stdin.close()
    assert "deleted: " in kist("image", "prune", "-af").stdout


def test_disk_use(box: bytes) -> None:
    add("one", [box])
    add("two", [box, tar_of(member("big", os.urandom(2 << 20)))])
    rows = {
        line.split()[0]: line.split()[-7:]
        for line in kist("system", "df", "-v").stdout.splitlines()
        if "latest" in line
    }
    assert rows["one"][5] == "KiB"  # all but its documents is shared
    assert rows["two"][5] == "MiB"
    table = kist("system", "df").stdout.splitlines()
    assert table[1].split()[:3] == ["Images", "2", "0"]
    assert "(100%)" in table[1]
    assert kist("store", "gc").stdout == "Total reclaimed space: 0 B\n"


def test_busybox_comes_from_this_machine(form: str) -> None:
    if busybox_layer() is None:
        pytest.skip("needs busybox: apt-get install busybox-static")
    assert kist("run", "--pull", "never", "busybox", "true").returncode == 125
    done = kist("run", "--rm", "busybox", "sh", "-c", "id -u; env true && ls -ld /tmp")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "0"
    assert done.stdout.splitlines()[1].startswith("drwxrwxrwt")
    assert "made of this machine's" in done.stderr
    again = kist("run", "--rm", "--pull", "never", "busybox", "echo", "ok")
    assert (again.stdout, again.stderr) == ("ok\n", "")
    assert "made of this machine's" in kist("history", "--no-trunc", "busybox").stdout


@needs_root
def test_an_image_is_mounted_until_it_is_unmounted(form: str, box: bytes) -> None:
    image = add("box:1", [box, tar_of(member("top", b"x", mode=0o4755))])
    path = Path(kist("image", "mount", "box:1").stdout.strip())
    try:
        assert (path / "etc/passwd").read_text().startswith("root:")
        assert os.lstat(path / "top").st_mode & 0o7777 == 0o4755 and os.statvfs(path).f_flag & os.ST_NOSUID
        with pytest.raises(OSError, match="Read-only"):
            (path / "new").touch()
        assert kist("image", "mount", image.id).stdout == f"{path}\n"  # the same one
        assert kist("image", "mount").stdout == f"box:1 {path}\n"
        assert kist("image", "mount", "box:1", image.short_id).stdout == f"box:1 {path}\n{image.short_id} {path}\n"
        refused = kist("rmi", "box:1")
        assert refused.returncode == 125 and "kist image unmount box:1" in refused.stderr
        assert kist("image", "prune", "-af").stdout.startswith("Total")
        assert kist("system", "df", "--format", "{{.Active}}").stdout.startswith("1\n")
        assert kist("image", "unmount", "box:1").stdout == "Unmounted: box:1\n"
        assert kist("image", "umount", "box:1").stdout == "Not mounted: box:1\n"
        assert not path.exists() and kist("image", "mount").stdout == ""
        assert kist("image", "mount", "box:1").returncode == 0
        assert kist("rmi", "-f", "box:1").returncode == 0
        ImageStore().gc()
        assert (path / "etc/passwd").read_text().startswith("root:")  # what is mounted stays
    finally:
        done = kist("image", "unmount", "--all")
    assert done.stdout == f"Unmounted: {path}\n"
    ImageStore().gc()
    data = Path(os.environ["KIST_DATA_DIR"])
    left = [p for name in ("images", "layers", "chains", "tmp", "mounts") for p in (data / name).iterdir()]
    assert left == []


@needs_root
def test_an_image_is_mounted_once(box: bytes) -> None:
    image = add("box:1", [box])
    argv = [*KIST, "image", "mount", "box:1"]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    (path,) = {process.communicate(timeout=120)[0].strip() for process in running}
    try:
        assert mount_points().count(path) == 1
    finally:
        assert kist("image", "unmount", image.id).returncode == 0
    assert path not in mount_points()


def test_images_are_mounted_by_root_alone(box: bytes) -> None:
    if ROOT:
        pytest.skip("is for an ordinary user")
    add("box:1", [box])
    done = kist("image", "mount", "box:1")
    assert done.returncode == 125 and "kist run --rm -it box:1 sh" in done.stderr


def test_search_local(form: str, box: bytes) -> None:
    add(
        "web:1",
        [box, tar_of(member("srv"), member("srv/site.py", b"x"))],
        config=ContainerConfig(labels={"by": "Anna"}),
    )
    add("db:1", [box], config=ContainerConfig(cmd=("postgres",)))
    find = ("search-local", "--format", "{{.Name}}: {{.Found}}")
    assert kist(*find, "anna").stdout == "web:1: by=Anna\n"
    assert kist(*find, "POSTgres").stdout == "db:1: postgres\n"
    assert kist(*find, "web", "anna").stdout == "web:1: web:1, by=Anna\n"
    assert kist(*find, "web", "postgres").stdout == ""
    assert kist(*find, "--file", "*.py").stdout == "web:1: /srv/site.py\n"
    assert kist(*find, "--file", "/etc/passwd", "db").stdout == "db:1: db:1, /etc/passwd\n"
    assert len(kist("search-local", "-q", "--file", "bin/sh").stdout.split()) == 2
    assert "and" in kist("search-local", "--file", "/bin/*").stdout
    assert kist("search-local").returncode == 125
