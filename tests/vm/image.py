"""The initramfs: the running interpreter with its packages, the repository, tools, kernel modules.

Built for each run, so never stale.
"""

import fnmatch
import glob
import importlib.metadata
import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from typing import BinaryIO

import contents
from archive import Archive

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))


def build(file: BinaryIO, kernel: str, job: str) -> None:
    """Write the image. `kernel` is an unpacked package, `job` the shell script that the init runs as root."""
    archive = Archive()
    _add_python(archive)
    archive.add_tree(REPOSITORY, contents.NOT_OF_REPOSITORY.split())
    for tool in contents.TOOLS.split():
        if path := shutil.which(tool):
            archive.add(path, 0o4000 if tool in contents.SETUID.split() else 0)
    for path in itertools.chain(*map(glob.glob, contents.FILES.split())):
        archive.add(path)
    _add_busybox(archive)
    archive.add_libraries()
    _add_modules(archive, kernel)
    for name, text in contents.ETC.items():
        archive.write(f"/etc/{name}", text)
    for name, text in contents.ETC_SECRET.items():
        archive.write(f"/etc/{name}", text, 0o600)
    for link in ("bin", "sbin", "lib", "lib64"):
        archive.link(f"/{link}", f"usr/{link}")
    archive.link("/etc/mtab", "/proc/self/mounts")
    archive.add("/etc/ld.so.cache")
    with open(os.path.join(HERE, "init")) as init:
        archive.write("/init", init.read(), 0o755)
    archive.write("/job", job)
    archive.save(file)


def _add_python(archive: Archive) -> None:
    """The interpreter, its standard library, and the distributions with what they require."""
    archive.add(sys.executable)
    archive.add(os.path.join(sys.prefix, "pyvenv.cfg"))
    archive.add_tree(sysconfig.get_path("stdlib"), contents.NOT_OF_PYTHON.split())
    wanted = contents.DISTRIBUTIONS.split()
    for name in wanted:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # a requirement of another platform or Python
            continue
        for path in distribution.files or ():
            if not str(path).endswith(".pyc"):
                archive.add(str(distribution.locate_file(path)))
        for requirement in distribution.requires or ():
            match = re.match(r"[\w.-]+", requirement)
            if match and "extra ==" not in requirement and match[0] not in wanted:
                wanted.append(match[0])


def _add_busybox(archive: Archive) -> None:
    """busybox under each of its names that is not taken by a real tool."""
    path = os.path.realpath(shutil.which("busybox") or "")
    archive.add(path)
    names = subprocess.run([path, "--list"], capture_output=True, text=True, check=True).stdout.split()
    real = {os.path.basename(member) for member in archive.members if member.startswith(("/usr/bin/", "/usr/sbin/"))}
    for name in set(names) - real:
        archive.link(f"/usr/bin/{name}", path)
    archive.link("/usr/sbin/modprobe", path)  # what the kernel calls when it needs a module


def _add_modules(archive: Archive, kernel: str) -> None:
    """The modules with what they need, and their lines of the index, which busybox modprobe reads whole each time."""
    release = os.listdir(os.path.join(kernel, "lib/modules"))[0]
    source, target = os.path.join(kernel, "lib/modules", release), f"/usr/lib/modules/{release}"
    needs: dict[str, list[str]] = {}
    with open(os.path.join(source, "modules.dep")) as index:
        for line in index:
            module, _, others = line.partition(":")
            needs[module] = others.split()
    names = {module: os.path.basename(module).partition(".")[0] for module in needs}
    patterns = contents.MODULES.split()
    wanted = {m for m in needs if any(fnmatch.fnmatchcase(names[m], pattern) for pattern in patterns)}
    wanted.update(*(needs[module] for module in list(wanted)))
    for module in wanted:
        with open(os.path.join(source, module), "rb") as file:
            archive.write(f"{target}/{module}", file.read())
    archive.write(f"{target}/modules.dep", "".join(f"{m}: {' '.join(needs[m])}\n" for m in sorted(wanted)))
    taken = {names[module] for module in wanted}
    with open(os.path.join(source, "modules.alias")) as index:
        archive.write(f"{target}/modules.alias", "".join(line for line in index if line.split()[-1] in taken))
