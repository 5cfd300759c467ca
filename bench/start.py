"""How long does it take to run /bin/true in a container and be rid of it? kist beside crun, runc, bwrap, podman, ...

All namespaces but user, an own root file system, a memory and a pids limit, the default seccomp filter where the
runtime has one; removal included. `kist.run()` is called in this process; all others are programs.

    python bench/start.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import harness

import kist

MEMORY = 256 << 20
PIDS = 100


def bundle(directory: Path) -> Path:
    """What `runc spec` writes, with our limits, and the filter that `kist run` uses."""
    from kist.codec import plain
    from kist.plan.config import DEFAULT_CAPABILITIES
    from kist.plan.seccomp_default import default_seccomp

    subprocess.run(["runc", "spec"], cwd=directory, check=True)
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    names = sorted(DEFAULT_CAPABILITIES)
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    config["linux"]["resources"] |= {"memory": {"limit": MEMORY}, "pids": {"limit": PIDS}}
    kernel = tuple(map(int, os.uname().release.split(".")[:2]))
    config["linux"]["seccomp"] = plain(
        default_seccomp(DEFAULT_CAPABILITIES, native_arch=os.uname().machine, kernel=(kernel[0], kernel[1]))
    )
    path.write_text(json.dumps(config))
    return directory


def podman_image(root: Path) -> str:
    """Import the root file system once. Returns "" where podman does not work."""
    if not shutil.which("podman"):
        return ""
    tar = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
    done = subprocess.run(["podman", "import", "-q", "-", "kist-bench:1"], input=tar, capture_output=True, check=False)
    return "" if done.returncode else "localhost/kist-bench:1"


def cases(directory: Path, docker_host: str) -> dict[str, harness.Case]:
    root = harness.busybox_rootfs(directory)
    made = bundle(directory)
    kist_command = str(Path(sys.executable).with_name("kist"))
    limits = ("--memory", "256m", "--pids-limit", "100")
    found: dict[str, harness.Case] = {
        "kist.run()": lambda: kist.run(["/bin/true"], rootfs=str(root), memory=MEMORY, pids_limit=PIDS, check=True),
        "crun run": harness.command("crun", "run", "kist-bench", cwd=made),
        "runc run": harness.command("runc", "run", "kist-bench", cwd=made),
        "bwrap": harness.command(
            "bwrap", "--unshare-all", "--bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--die-with-parent",
            "/bin/true",
        ),
        "kist run --rm": harness.command(
            kist_command, "run", "--rm", "--network", "none", *limits, "--rootfs", str(root), "/bin/true"
        ),
    }  # fmt: skip
    # The limits on files and processes that podman asks for by itself may not be raised everywhere.
    low = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    if image := podman_image(root):
        argv = ["podman", "run", "--rm", "--network", "none", *low, *limits, image, "/bin/true"]
        found["podman run --rm"] = harness.command(*argv)
    if docker_host:
        docker = ("docker", "-H", docker_host)
        tar = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
        subprocess.run([*docker, "import", "-", "kist-bench:1"], input=tar, capture_output=True, check=True)
        argv = [*docker, "run", "--rm", "--network", "none", *limits, "kist-bench:1", "/bin/true"]
        found["docker run --rm"] = harness.command(*argv)
    return found


def supervisor_memory(root: Path) -> int:
    """Private bytes of the launcher while a container runs."""
    kist_command = str(Path(sys.executable).with_name("kist"))
    argv = [kist_command, "run", "--rm", "-i", "--rootfs", str(root), "sh", "-c", "echo up; cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        process.stdin.close()
        process.wait()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def main() -> None:
    harness.without_empty_v2_tree()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory(prefix="kist-bench-") as name:
        directory = Path(name)
        with harness.own_dockerd(directory) as docker_host:
            times = harness.interleave(cases(directory, docker_host), rounds)
        programs = {
            "crun": "--version",
            "runc": "--version",
            "bwrap": "--version",
            "podman": "--version",
            "docker": "--version",
        }
        versions = {p: harness.version(p, flag) for p, flag in programs.items()}
        harness.report("Run /bin/true in a container and be rid of it", times, versions, base="kist.run()")
        print(f"supervisor's private memory: {supervisor_memory(directory / 'rootfs') >> 10} KiB")


if __name__ == "__main__":
    main()
