"""What the harness needs of this machine: commands, and a kernel to boot."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

import contents


class Failed(Exception):
    """The test machine can't be made or booted; the message says why."""


def require_commands() -> None:
    """Install what is missing, as root; else say what to install."""
    missing = sorted({package for command, package in contents.PACKAGES.items() if not shutil.which(command)})
    if not missing:
        return
    install = ["apt-get", "-q", "-y", "--no-install-recommends", "install", *missing]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Failed(
            f"missing here: {' '.join(missing)} (Debian's names); install them, for example: {' '.join(install)}"
        )
    _say(f"installing {' '.join(missing)}")
    _run_with_lists(install)


def kernel() -> str:
    """The directory of the unpacked kernel package: the newest one in the cache, else the newest one there is."""
    cache = os.environ.get("KIST_VM_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kist-test-vm"
    )
    os.makedirs(cache, exist_ok=True)
    if cached := _newest(os.listdir(cache)):
        return os.path.join(cache, cached)
    package = _newest(_package_names())
    if not package and os.geteuid() == 0:
        run(["apt-get", "-q", "update"])
        package = _newest(_package_names())
    if not package:
        raise Failed(
            f"apt-cache knows no package like {contents.KERNEL_PACKAGE}; "
            f"unpack one from Debian 12 (dpkg -x) into a directory of its name in {cache}"
        )
    _say(f"fetching {package} into {cache}")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _run_with_lists(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], cwd=scratch)
        unpacked = os.path.join(scratch, "unpacked")
        run(["dpkg", "-x", os.path.join(scratch, os.listdir(scratch)[0]), unpacked])
        run(["busybox", "depmod", "-b", unpacked, package.removeprefix("linux-image-")])
        try:
            os.rename(unpacked, os.path.join(cache, package))
        except OSError:  # another run was quicker
            if not os.path.isdir(os.path.join(cache, package)):
                raise
    return os.path.join(cache, package)


def _package_names() -> list[str]:
    return run(["apt-cache", "search", "--names-only", f"^{contents.KERNEL_PACKAGE}$"]).split()


def _newest(names: list[str]) -> str:
    matching = [name for name in names if re.fullmatch(contents.KERNEL_PACKAGE, name)]
    return max(matching, key=lambda name: [int(number) for number in re.findall(r"\d+", name)], default="")


def _run_with_lists(argv: list[str], cwd: str | None = None) -> None:
    """Run apt-get. If it fails, its package lists may be old or absent: fetch them (root only) and try once more."""
    try:
        run(argv, cwd)
    except Failed:
        if os.geteuid() != 0:
            raise
        run(["apt-get", "-q", "update"])
        run(argv, cwd)


def run(argv: list[str], cwd: str | None = None, pass_fds: tuple[int, ...] = ()) -> str:
    """Run a command of this machine without stdin; return its output. Raises Failed with the end of the output."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            pass_fds=pass_fds,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as e:
        raise Failed(f"cannot run {' '.join(argv)}: {e}") from e
    if done.returncode:
        raise Failed(f"{' '.join(argv)} failed with status {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout


def _say(text: str) -> None:
    print(f"tests/vm: {text}", file=sys.stderr, flush=True)
