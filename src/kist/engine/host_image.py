"""The image `host`: this machine's own programs, and nothing that is somebody's."""

from __future__ import annotations

import sys

from kist.errors import Refused
from kist.plan.compile_process import DEFAULT_PATH
from kist.plan.setting import Files
from kist.system import os

_USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Copied when they are regular files of at most 1 MiB: what the loader, names, time and TLS need. No secrets.
_ETC = (
    "ld.so.cache",
    "nsswitch.conf",
    "protocols",
    "services",
    "mime.types",
    "localtime",
    "os-release",
    "debian_version",
)
_ETC_TREES = ("/etc/alternatives", "/etc/ssl/certs")
_MAX_BYTES = 1 << 20
_EMPTY = (("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/root", 0o700), ("/home", 0o755), ("/run", 0o755))
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"  # noqa: S105
_GROUP = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"


def files(scratch: str) -> Files:
    """Raises Refused when a Python prefix is a home directory or above one: it would show what is somebody's."""
    return Files(
        scratch=scratch,
        trees=tuple((tree, tree) for tree in _trees()),
        symlinks=_symlinks(),
        directories=_EMPTY,
        files=_etc(),
    )


def read(path: str) -> str:
    """A file of the image, for identity.resolve."""
    return {"/etc/passwd": _PASSWD, "/etc/group": _GROUP}.get(path, "")


def search_path() -> str:
    """The interpreter first, so that `python` is the caller's."""
    own = [f"{p}/bin" for p in dict.fromkeys((_prefix(), os.path.realpath(sys.base_prefix))) if p != "/usr"]
    return ":".join([*own, DEFAULT_PATH])


def _prefix() -> str:
    """The virtual environment, which only `site` enters in sys.prefix; kist's command does without. PEP 405."""
    place = os.path.dirname(os.path.dirname(sys.executable))
    return place if os.path.exists(f"{place}/pyvenv.cfg") else sys.prefix


def _trees() -> tuple[str, ...]:
    """/usr, the interpreter's prefixes wherever they lie, and the parts of /etc that are links or certificates."""
    paths = ["/usr"]
    paths += [f"/{name}" for name in _USR_LINKS if not os.path.islink(f"/{name}") and os.path.isdir(f"/{name}")]
    home = os.path.realpath(os.path.expanduser("~"))
    for prefix in dict.fromkeys((os.path.realpath(sys.base_prefix), os.path.realpath(_prefix()), _prefix())):
        if any(prefix == p or prefix.startswith(p + "/") for p in paths):
            continue
        if prefix in ("/", home) or home.startswith(prefix + "/"):
            raise Refused(f"the Python prefix {prefix} holds a home directory", why="the image host would show it",
                          next="use a virtual environment in a directory of its own")  # fmt: skip
        paths.append(prefix)
    return (*paths, *(tree for tree in _ETC_TREES if os.path.isdir(tree)))


def _symlinks() -> tuple[tuple[str, str], ...]:
    return tuple((f"/{name}", os.readlink(f"/{name}")) for name in _USR_LINKS if os.path.islink(f"/{name}"))


def _etc() -> tuple[tuple[str, bytes], ...]:
    found = [("/etc/passwd", _PASSWD.encode()), ("/etc/group", _GROUP.encode())]
    for name in _ETC:
        try:
            with open(f"/etc/{name}", "rb", buffering=0) as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError:
            continue
        if len(data) <= _MAX_BYTES:
            found.append((f"/etc/{name}", data))
    return tuple(found)
