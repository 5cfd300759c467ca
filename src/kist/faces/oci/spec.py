"""`kist-oci spec`: a config.json to begin with, as runc's."""

from __future__ import annotations

import os

from kist.errors import Conflict
from kist.faces.cli.command import Command, Flag
from kist.faces.oci.messages import program
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session
    from kist.spec.runtime import Spec

OCI_VERSION = "1.3.0"
COMMAND = Command(
    name="spec",
    usage=("[--bundle DIR] [--rootless]",),
    summary="Write a config.json for a shell in a container",
    groups=(
        (
            "Options",
            (
                Flag("bundle", "one", "DIR", "Where to write it", None, "b"),
                Flag("rootless", "bool", "", "For an ordinary user", words.boolean),
            ),
        ),
    ),
)


def version_text() -> str:
    from kist import __version__

    return f"{program()} version {__version__}\ncommit: v{__version__}\nspec: {OCI_VERSION}"


def template(*, rootless: bool) -> Spec:
    from kist.plan.config import MASKED, READONLY
    from kist.spec import runtime as oci

    names = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
    safe = ("nosuid", "noexec", "nodev")
    kinds = ["pid", "ipc", "uts", "mount"] + (["user"] if rootless else ["network"])
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        kinds.append("cgroup")  # as runc has it: on v1 it is left to who writes the config
    sys_mount = oci.Mount("/sys", "sysfs", "sysfs", (*safe, "ro"))
    if rootless:
        sys_mount = oci.Mount("/sys", "none", "/sys", ("rbind", *safe, "ro"))
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
    return oci.Spec(
        oci_version=OCI_VERSION,
        process=oci.Process(
            terminal=True,
            user=oci.User(0, 0),
            args=("sh",),
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
            cwd="/",
            capabilities=oci.Capabilities(bounding=names, effective=names, permitted=names),
            rlimits=(oci.Rlimit("RLIMIT_NOFILE", 1024, 1024),),
            no_new_privileges=True,
        ),
        root=oci.Root("rootfs", readonly=True),
        hostname="kist",
        mounts=(
            oci.Mount("/proc", "proc", "proc"),
            oci.Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
            oci.Mount("/dev/pts", "devpts", "devpts", pts if rootless else (*pts, "gid=5")),
            oci.Mount("/dev/shm", "tmpfs", "shm", (*safe, "mode=1777", "size=65536k")),
            oci.Mount("/dev/mqueue", "mqueue", "mqueue", safe),
            sys_mount,
            oci.Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*safe, "relatime", "ro")),
        ),
        linux=oci.Linux(
            namespaces=tuple(oci.Namespace(kind) for kind in kinds),
            uid_mappings=(oci.IdMapping(0, os.geteuid(), 1),) if rootless else (),
            gid_mappings=(oci.IdMapping(0, os.getegid(), 1),) if rootless else (),
            resources=None if rootless else oci.Resources(devices=(oci.DeviceCgroup(False, access="rwm"),)),
            masked_paths=MASKED,
            readonly_paths=READONLY,
        ),
    )


def main(session: Session, parsed: Parsed) -> int:
    from kist.codec import dumps

    del session
    path = os.path.join(parsed.last("bundle") or ".", "config.json")
    text = dumps(template(rootless=words.boolean("--rootless", parsed.last("rootless", "false"))), indent=2)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text + "\n")
    except FileExistsError as e:
        raise Conflict(f"File {path} exists. Remove it first") from e
    return 0
