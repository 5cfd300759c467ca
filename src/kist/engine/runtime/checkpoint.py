"""`checkpoint` of the OCI runtime: a container's processes into files, through criu(8). Source: runc checkpoint."""

from __future__ import annotations

import os

from kist.engine.runtime.container import CREATED, CREATING, STOPPED
from kist.errors import Conflict, InvalidInput
from kist.kernel.criu import CGROUP_MODES, DUMP, PRE_DUMP, Criu, CriuFailed, quote_log, require_feature, require_version
from kist.plan.compile_root import DEVICES, container_path, host_path
from kist.plan.flags import CLONE_NEWNET
from kist.plan.mount_options import parse
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kist.engine.runtime.container import Container, Containers
    from kist.kernel.criu import Field
    from kist.spec.runtime import Mount, Namespace, Spec

DESCRIPTORS = "descriptors.json"  # what fds 0, 1, 2 were: runc and crun read and write the same
EXTERNAL = {"network": ("net", "extRootNetNS"), "pid": ("pid", "extRootPidNS")}  # criu's words, and runc's


class CriuRequest(Value):
    """Options as runc's, of both commands. Paths are absolute, but for `parent_path`."""

    image_path: str
    work_path: str = ""  # where criu writes its log: by default the images' directory
    parent_path: str = ""  # of an earlier pre-dump, relative to image_path
    leave_running: bool = False
    tcp_established: bool = False
    tcp_skip_in_flight: bool = False
    link_remap: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    auto_dedup: bool = False
    lazy_pages: bool = False
    pre_dump: bool = False
    status_fd: int = -1  # gets a 0 byte when lazy pages can be asked for
    page_server: tuple[str, int] = ("", 0)
    manage_cgroups_mode: str = ""
    lsm_profile: str = ""
    lsm_mount_context: str = ""


def checkpoint(containers: Containers, container: Container, request: CriuRequest, warn: Callable[[str], None]) -> None:
    """The container is gone then, unless it is to be left running. `warn` gets what criu's log says on failure.

    Raises Conflict when it does not run, InvalidInput, NotFound without criu, Unsupported, CriuFailed.
    """
    status = container.status()
    if status in (CREATING, CREATED, STOPPED):
        raise Conflict(f"Container cannot be checkpointed in {status} state", code="not-running")
    require_version()
    _make_directories(request)
    if request.pre_dump:
        require_feature("mem_track")
    if request.lazy_pages:
        require_feature("lazy_pages")
        _check_status_fd(request.status_fd)
    opened: list[int] = []
    try:
        options = _options(request, container, opened)
        with Criu(fds=opened) as criu:
            criu.ask(PRE_DUMP if request.pre_dump else DUMP, options, _told(request))
    except CriuFailed:
        say_log(request, "dump.log", warn)
        raise
    finally:
        for fd in opened:
            os.close(fd)
    if not request.leave_running and not request.pre_dump:
        from kist.engine.runtime.lifecycle import delete

        delete(containers, container.id, force=True)


def _options(request: CriuRequest, container: Container, opened: list[int]) -> dict[str, Field]:
    spec = container.spec()
    options = common_options(request, container, opened, "dump.log")
    options |= {
        "pid": container.pid, "root": container.record.rootfs, "leave_running": int(request.leave_running),
        "tcp_skip_in_flight": int(request.tcp_skip_in_flight), "link_remap": int(request.link_remap),
        "external": [_external(n) for n in spec.linux.namespaces if n.path and n.type in EXTERNAL],
    }  # fmt: skip
    if container.record.freezer:
        options["freeze_cgroup"] = os.path.dirname(container.record.freezer)
    if all(request.page_server):
        options["page_server"] = {1: request.page_server[0], 2: request.page_server[1]}
    if request.parent_path:
        options |= {"parent_img": request.parent_path, "track_mem": 1}
    if not request.pre_dump:
        mounts = [(key, key) for key, _ in external_mounts(spec, container)]
        mounts += [(path, "/dev/null") for path in _masked_files(spec, container)]
        options["ext_mnt"] = [{1: path, 2: key} for path, key in mounts]
        _write_descriptors(request.image_path, container.pid)
    return options


def common_options(request: CriuRequest, container: Container, opened: list[int], log: str) -> dict[str, Field]:
    """What criu is told by both commands. `opened` grows by the fds among them. Raises InvalidInput."""
    if request.manage_cgroups_mode not in CGROUP_MODES:
        next_ = "soft, full, strict or ignore"
        raise InvalidInput("invalid manage-cgroups-mode value", path="--manage-cgroups-mode", next=next_)
    options: dict[str, Field] = {
        "log_level": 4, "log_file": log, "notify_scripts": 1, "orphan_pts_master": 1,
        "manage_cgroups": 1, "manage_cgroups_mode": CGROUP_MODES[request.manage_cgroups_mode],
        "shell_job": int(request.shell_job), "ext_unix_sk": int(request.ext_unix_sk),
        "tcp_established": int(request.tcp_established), "file_locks": int(request.file_locks),
        "auto_dedup": int(request.auto_dedup), "lazy_pages": int(request.lazy_pages),
        "empty_ns": CLONE_NEWNET,  # devices and addresses are not criu's: whoever made the network made them
    }  # fmt: skip
    for name, path in (("images_dir_fd", request.image_path), ("work_dir_fd", request.work_path)):
        if path:
            opened.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            options[name] = opened[-1]
    config = container.record.annotations.get("org.criu.config", "/etc/criu/runc.conf")
    return options | ({"config_file": config} if config else {})


def say_log(request: CriuRequest, name: str, warn: Callable[[str], None]) -> None:
    path = f"{request.work_path or request.image_path}/{name}"
    for line in (f'--- Quoting "{path}"', *quote_log(path), "---"):
        warn(line)


def _make_directories(request: CriuRequest) -> None:
    """Raises InvalidInput for a --parent-path that is no directory beside the images."""
    os.makedirs(request.image_path, 0o700, exist_ok=True)
    if request.work_path:
        os.makedirs(request.work_path, 0o700, exist_ok=True)
    if request.parent_path.startswith("/"):
        raise InvalidInput("--parent-path must be relative", next="relative to --image-path")
    if request.parent_path and not os.path.isdir(os.path.join(request.image_path, request.parent_path)):
        raise InvalidInput("invalid --parent-path: no such directory", next="relative to --image-path")


def _check_status_fd(fd: int) -> None:
    import fcntl

    if fd < 0:
        return
    try:
        writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError as e:
        raise InvalidInput(f"invalid --status-fd argument {fd}: {e.strerror}") from e
    if not writable:
        raise InvalidInput(f"invalid --status-fd argument {fd}: not writable")


def _told(request: CriuRequest) -> Callable[[str, int, list[int]], None]:
    def told(script: str, pid: int, fds: list[int]) -> None:
        del pid, fds
        if script == "status-ready" and request.status_fd >= 0:
            os.write(request.status_fd, b"\0")
            os.close(request.status_fd)

    return told


def _external(namespace: Namespace) -> str:
    """Not to be saved, but found again: TYPE[INODE]:KEY."""
    kind, key = EXTERNAL[namespace.type]
    return f"{kind}[{os.stat(namespace.path).st_ino}]:{key}"


def _write_descriptors(directory: str, pid: int) -> None:
    from kist.codec import dumps

    names = []
    for fd in range(3):
        try:
            names.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            names.append("")  # closed meanwhile
    with open(f"{directory}/{DESCRIPTORS}", "w", encoding="utf-8") as file:
        file.write(dumps(names))


# --- what is not the container's own


def external_mounts(spec: Spec, container: Container) -> Iterator[tuple[str, str]]:
    """Parts of the host that are shown inside, which criu neither saves nor makes: where, with no link on the way, and
    what of the host. The first is their name in the images, the second counts when they are brought back."""
    rootfs = container.record.rootfs
    own_cgroups = any(namespace.type == "cgroup" for namespace in spec.linux.namespaces)
    for mount in spec.mounts:
        target = resolved(rootfs, container_path(mount.destination, "$.mounts"))
        if is_bind(mount):
            yield target, host_path(mount.source, container.record.bundle)
        elif mount.type in ("cgroup", "cgroup2") and not own_cgroups:
            yield from _cgroups(target, container.record.cgroups)
    for device in (*DEVICES, *spec.linux.devices):
        yield container_path(device.path, "$.linux.devices"), device.path


def is_bind(mount: Mount) -> bool:
    return mount.type == "bind" or parse(mount.options, "$.mounts").bind


def _cgroups(target: str, cgroups: Sequence[str]) -> Iterator[tuple[str, str]]:
    """As plan.compile_root shows them: v1 a directory for each hierarchy."""
    if cgroups and os.path.exists(f"{cgroups[0]}/cgroup.controllers"):
        yield target, "/sys/fs/cgroup"
        return
    for path in cgroups:
        yield f"{target}/{path.split('/')[4]}", path


def _masked_files(spec: Spec, container: Container) -> Iterator[str]:
    """Those of the masked paths that are no directories. They show /dev/null."""
    for path in spec.linux.masked_paths:
        inside = f"/proc/{container.pid}/root{container_path(path, '$.linux.maskedPaths')}"
        if os.path.exists(inside) and not os.path.isdir(inside):
            yield container_path(path, "$.linux.maskedPaths")


def resolved(root: str, path: str) -> str:
    """`path` without symbolic links, as seen from inside `root`. Only a name for criu to look up, inside as well."""
    parts, found, links = [part for part in path.split("/") if part][::-1], "", 0
    while parts:
        part = parts.pop()
        if part == "..":
            found = found.rpartition("/")[0]
            continue
        try:
            link = os.readlink(f"{root}{found}/{part}")
        except OSError:
            found = f"{found}/{part}"
            continue
        links += 1
        if links > 40:
            raise InvalidInput(f"{path} has too many levels of symbolic links", path="$.mounts")
        found = "" if link.startswith("/") else found
        parts += [word for word in link.split("/") if word not in ("", ".")][::-1]
    return found or "/"
