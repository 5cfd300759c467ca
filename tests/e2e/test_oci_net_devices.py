"""linux.netDevices: interfaces of the host become the container's. Source: OCI config-linux.md, "Network Devices"."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from containers import needs_root
from netns import Namespace

pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("ip"), reason="needs ip: apt-get install iproute2")]
OCI = [sys.executable, "-m", "kist.faces.oci"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def host() -> Iterator[Namespace]:
    """Our own host, with a cable of two ends and addresses."""
    namespace = Namespace()
    namespace.command("ip", "link", "add", "dev0", "mtu", "1789", "address", "02:11:22:33:44:55",
                      "type", "veth", "peer", "name", "dev1")  # fmt: skip
    namespace.command("ip", "link", "set", "dev0", "up")
    namespace.command("ip", "address", "add", "192.0.2.77/24", "broadcast", "+", "dev", "dev0")
    namespace.command("ip", "address", "add", "198.51.100.1", "peer", "198.51.100.2/32", "dev", "dev0")
    namespace.command("ip", "address", "add", "127.0.0.33", "scope", "host", "dev", "dev0")
    namespace.command("ip", "address", "add", "2001:db8::7/64", "nodad", "dev", "dev0")
    yield namespace
    namespace.close()


@pytest.fixture
def run(tmp_path: Path, rootfs: Path, host: Namespace) -> Run:
    """`kist-oci run` of a bundle in whose config `devices` are named."""

    def run(
        devices: dict, *command: str, netns: str | None = "", userns: bool = False
    ) -> subprocess.CompletedProcess[str]:
        bundle = tmp_path / "bundle"
        bundle.mkdir(exist_ok=True)
        (bundle / "config.json").unlink(missing_ok=True)
        subprocess.run([*OCI, "spec", "--bundle", str(bundle)], check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["root"] = {"path": str(rootfs)}
        config["process"].update(terminal=False, args=list(command))
        config["linux"]["netDevices"] = devices
        spaces = [n for n in config["linux"]["namespaces"] if n["type"] != "network"]
        if netns is not None:
            spaces.append({"type": "network"} | ({"path": netns} if netns else {}))
        if userns:
            spaces.append({"type": "user"})
            ids = [(0, 0, 1), (1, 100001, 65535)]
            maps = [{"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ids]
            config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = maps
        config["linux"]["namespaces"] = spaces
        (bundle / "config.json").write_text(json.dumps(config))
        argv = [*OCI, "--root", str(tmp_path / "oci"), "run", "--bundle", str(bundle), "box"]
        return subprocess.run(host.argv(*argv), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    return run


def test_a_device_moves_with_what_is_its_own(run: Run, host: Namespace) -> None:
    done = run({"dev0": {}}, "ip", "address", "show", "dev", "dev0")
    assert done.returncode == 0, done.stderr
    for words in ("mtu 1789", "02:11:22:33:44:55", "inet 192.0.2.77/24 brd 192.0.2.255", "2001:db8::7/64", "UP"):
        assert words in done.stdout
    assert "198.51.100.1 peer 198.51.100.2/32" in done.stdout
    assert "127.0.0.33" not in done.stdout  # not of global scope


def test_into_a_namespace_that_exists_under_another_name(run: Run, host: Namespace) -> None:
    there = Namespace()
    done = run({"dev0": {"name": "eth7"}}, "true", netns=there.path)
    assert done.returncode == 0, done.stderr
    found = there.link("eth7")
    assert {"192.0.2.77", "2001:db8::7"} <= {a["local"] for a in found["addr_info"]}
    assert "UP" in found["flags"]
    assert [link["ifname"] for link in host.ip("link", "show")] == ["lo", "dev1"]
    there.close()


def test_a_template_is_filled_in_by_the_kernel(run: Run, host: Namespace) -> None:
    there = Namespace()
    there.command("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other")
    done = run({"dev0": {"name": "eth%d"}, "dev1": {"name": "eth%d"}}, "true", netns=there.path)
    assert done.returncode == 0, done.stderr
    assert {"eth0", "eth1", "eth2"} <= {link["ifname"] for link in there.ip("link", "show")}
    there.close()


def test_with_a_user_namespace(run: Run) -> None:
    done = run({"dev0": {}}, "ip", "address", "show", "dev", "dev0", userns=True)
    assert "192.0.2.77/24" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("devices", "netns", "words"),
    [
        ({"dev0": {"name": "\udc80"}}, "", "$.linux.netDevices['dev0'].name: invalid network device name"),
        ({"gone0": {}}, "", "$.linux.netDevices: no network interface gone0 on this host"),
        ({"dev0": {}}, None, "$.linux.netDevices: unable to move network devices without a network namespace"),
        ({"de/v": {}}, "", "$.linux.netDevices['de/v']: invalid network device name"),
        ({"dev0": {"name": "sixteen-letters-"}}, "", "$.linux.netDevices['dev0'].name: invalid network device name"),
        ({"dev0": {"name": "%deth"}}, "", "$.linux.netDevices['dev0'].name: invalid network device name"),
        ({"dev0": {"name": "a"}, "dev1": {"name": "a"}}, "", "'a' is the name of dev0 already"),
        ({"dev0": {"name": "lo"}}, "", "ip link set dev dev0 netns"),
        ({"lo": {"name": "lo7"}}, "", "ip link set dev lo netns"),
    ],
)
def test_what_cannot_be_is_refused(
    run: Run, host: Namespace, tmp_path: Path, devices: dict, netns: str | None, words: str
) -> None:
    done = run(devices, "true", netns=netns)
    assert done.returncode != 0
    assert words in done.stderr
    assert not list((tmp_path / "oci").glob("*"))
