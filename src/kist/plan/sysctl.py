"""Kernel parameters that belong to a container's namespaces, and no others. Source: sysctl(8), namespaces(7)."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.plan import flags as f

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.builder import Builder

# Path below /proc/sys -> the namespace that owns it.
_IPC = frozenset(
    f"kernel/{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "msg_next_id", "sem", "sem_next_id", "shmall", "shmmax", "shmmni",
                 "shm_next_id", "shm_rmid_forced")
)  # fmt: skip
_OWNERS = {"network": f.CLONE_NEWNET, "ipc": f.CLONE_NEWIPC, "uts": f.CLONE_NEWUTS, "user": f.CLONE_NEWUSER}


def _owner(path: str) -> str:
    if path.startswith("net/"):
        return "network"
    if path in _IPC or path.startswith("fs/mqueue/"):
        return "ipc"
    if path == "kernel/domainname":
        return "uts"
    return "user" if path.startswith("user/max_") else ""


def sysctl_path(key: str, b: Builder, where: str) -> str:
    """The path below /proc/sys. Raises InvalidInput for what would change the host.

    `net.ipv4.conf.eth0/1.mtu`: whichever of . and / comes first separates, the other one is part of a name.
    """
    dots = key.partition(".")[0]
    path = key if "/" in dots else "".join([{".": "/", "/": "."}.get(c, c) for c in key])
    parts = path.split("/")
    if not all(part and part not in (".", "..") and part.isprintable() for part in parts):
        raise InvalidInput(f"{key!r} is no kernel parameter", path=where)
    owner = _owner(path)
    if not owner:
        raise InvalidInput(
            f"{key} belongs to no namespace: it would change the host", path=where,
            next="use net.*, kernel.msg*, kernel.sem, kernel.shm*, fs.mqueue.*",
        )  # fmt: skip
    if not b.has(_OWNERS[owner]):
        raise InvalidInput(f"{key} would change the host: the container shares its {owner} namespace", path=where)
    return path
