"""Mounts made inside, on what the host shows there, where the host's mounts are shared, as systemd has them: they must
stay inside. What is opened before the container has a mount namespace is a peer of the host's: mount_namespaces(7)."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bundles import KIST_OCI, Runtime, kist_only, oci
from containers import KIST, needs_root

__all__ = ["oci"]
pytestmark = [kist_only, needs_root]

SHARED = 'mount --bind "$0" "$0" && mount --make-rshared "$0" && "$@" >&2; cat /proc/self/mountinfo'
SEEN = "grep -q ' /tmp/sub ' /proc/self/mountinfo && echo inside"
MAPS = [{"containerID": 0, "hostID": 100_000, "size": 65536}]


def mounted(place: Path, *argv: str | Path) -> list[str]:
    """What a command leaves below a place that is shared, in a mount namespace of its own."""
    argv = ("unshare", "--mount", "sh", "-c", SHARED, place, *argv)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if "OpenTree" in done.stderr and "EINVAL" in done.stderr:
        pytest.skip("this kernel cannot id-map the file system of /var/tmp")
    assert "inside" in done.stderr, done.stderr
    return [line for line in done.stdout.splitlines() if f" {place}/" in line]


def with_user_namespace(config: dict) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"].update(uidMappings=MAPS, gidMappings=MAPS)


def id_mapped(config: dict) -> None:
    config["mounts"][-2].update(uidMappings=MAPS, gidMappings=MAPS)


@pytest.fixture
def place(rootfs: Path) -> Iterator[Path]:
    """A directory that all users may look into, with a root file system and a volume, which has room for a mount."""
    with TemporaryDirectory(prefix="kist-test-", dir="/var/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "volume/sub").mkdir(parents=True)
        shutil.copytree(rootfs, path / "rootfs", symlinks=True)
        subprocess.run(["chown", "-R", "100000:100000", path / "rootfs"], check=True)
        yield path


@pytest.mark.parametrize("how", [lambda _: None, with_user_namespace, id_mapped])
def test_below_a_bind_mount(oci: Runtime, place: Path, how: Callable[[dict], None]):
    def change(config: dict) -> None:
        bind = {"destination": "/tmp", "type": "bind", "source": f"{place}/volume", "options": ["rbind"]}
        config["mounts"] += [bind, {"destination": "/tmp/sub", "type": "tmpfs", "source": "tmpfs"}]
        config["root"]["path"] = f"{place}/rootfs"
        how(config)

    bundle = oci.bundle("sh", "-c", SEEN, change=change)
    argv = [KIST_OCI, "--root", oci.root, "run", "-b", bundle, oci.new_id()]
    assert mounted(place, *argv) == []


def test_below_a_part_of_a_volume(place: Path, monkeypatch):
    monkeypatch.setenv("KIST_DATA_DIR", f"{place}/data")
    subprocess.run([*KIST, "volume", "create", "vol"], check=True)
    path = json.loads(subprocess.run([*KIST, "volume", "inspect", "vol"], check=True, capture_output=True).stdout)
    (Path(path[0]["Mountpoint"]) / "part/sub").mkdir(parents=True)
    volume = "type=volume,source=vol,destination=/tmp,volume-subpath=part"
    argv = [*KIST, "run", "--rm", "--mount", volume, "--tmpfs", "/tmp/sub", "--rootfs", place / "rootfs"]
    assert mounted(place, *argv, "sh", "-c", SEEN) == []


def test_control_what_is_asked_for_as_shared(oci: Runtime, place: Path):
    """The host sees it, as docker's `rshared` wants it."""

    def change(config: dict) -> None:
        bind = {"destination": "/tmp", "type": "bind", "source": f"{place}/volume", "options": ["rbind", "rshared"]}
        config["mounts"] += [bind, {"destination": "/tmp/sub", "type": "tmpfs", "source": "tmpfs"}]

    bundle = oci.bundle("echo", "inside", change=change)
    assert mounted(place, KIST_OCI, "--root", oci.root, "run", "-b", bundle, oci.new_id())
