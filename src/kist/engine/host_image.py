"""The image `host`: this machine's own programs, and nothing that is somebody's."""

import os
import sys

from kist.errors import Refused
from kist.plan.compile import DEFAULT_PATH, Tree

_USR_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Copied when they are regular files of at most 1 MiB: what the loader, names, time and TLS need. No secrets.
_ETC = ("ld.so.cache", "nsswitch.conf", "protocols", "services", "mime.types", "localtime", "os-release", "debian_version")
_ETC_TREES = ("/etc/alternatives", "/etc/ssl/certs")
_MAX = 1 << 20


def trees() -> tuple[Tree, ...]:
    """/usr, the interpreter's prefixes wherever they lie, and the public parts of /etc that are links or certificates.

    Raises Refused when a prefix is a home directory or above one: it would show what is somebody's.
    """
    paths = ["/usr"]
    paths += [f"/{name}" for name in _USR_LINKS if not os.path.islink(f"/{name}") and os.path.isdir(f"/{name}")]
    home = os.path.realpath(os.path.expanduser("~"))
    for prefix in dict.fromkeys((os.path.realpath(sys.base_prefix), os.path.realpath(sys.prefix), sys.prefix)):
        if any(prefix == p or prefix.startswith(p + "/") for p in paths):
            continue
        if prefix == "/" or home == prefix or home.startswith(prefix + "/"):
            raise Refused(f"the Python prefix {prefix} holds a home directory", why="the image host would show it",
                          next="use a virtual environment in a directory of its own")  # fmt: skip
        paths.append(prefix)
    return tuple(Tree(path) for path in [*paths, *(t for t in _ETC_TREES if os.path.isdir(t))])


def symlinks() -> tuple[tuple[str, str], ...]:
    return tuple((f"/{name}", os.readlink(f"/{name}")) for name in _USR_LINKS if os.path.islink(f"/{name}"))


def files() -> tuple[tuple[str, bytes], ...]:
    found = [
        ("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"),
        ("/etc/group", b"root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ]
    for name in _ETC:
        try:
            with open(f"/etc/{name}", "rb") as file:
                data = file.read(_MAX + 1)
        except OSError:
            continue
        if len(data) <= _MAX:
            found.append((f"/etc/{name}", data))
    return tuple(found)


def path() -> str:
    """The search path inside: the interpreter first, so that `python` is the caller's."""
    own = [f"{p}/bin" for p in dict.fromkeys((sys.prefix, os.path.realpath(sys.base_prefix))) if p != "/usr"]
    return ":".join([*own, DEFAULT_PATH])
