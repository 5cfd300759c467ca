"""`create` and `run` of the OCI runtime: from a bundle to a container. Source: OCI runtime.md, "Lifecycle"."""

from __future__ import annotations

from time import time_ns

from kist.codec import decode_text, dumps
from kist.engine.runtime.container import (
    CREATING,
    OPTIONAL_LIMITS,
    Record,
    hook_output,
    hook_state,
    is_frozen,
    remove_directory,
)
from kist.engine.runtime.notify import callers_socket, directory, with_notification
from kist.engine.runtime.ordinary import ordinary
from kist.errors import Conflict, InvalidInput, NotFound, Refused
from kist.kernel.probe import groups_denied, probe
from kist.kernel.program import become, open_program
from kist.plan.builder import NAMESPACES
from kist.plan.compile import NOTIFY_NAME, compile_container
from kist.plan.setting import CREATE, DETACH, RUN, Files, Setting, Stdio
from kist.spec.runtime import IdMapping, Spec, User
from kist.system import os
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from kist.engine.runtime.container import Containers
    from kist.plan.compile import Compiled
    from kist.plan.compile_network import HostLink
    from kist.plan.facts import HostFacts, IdRange

_CONFIG_BYTES_MAX = 16 << 20


class CreateRequest(Value):
    """Options as runc's. Paths are absolute."""

    id: str
    bundle: str
    config: str = ""  # in place of BUNDLE/config.json
    cgroup_manager: str = "cgroupfs"  # "systemd", "disabled"
    console_socket: str = ""
    pidfd_socket: str = ""
    pid_file: str = ""
    no_pivot: bool = False
    no_new_keyring: bool = False
    preserve_fds: int = 0
    keep: bool = False  # `run`: the container's directory and cgroup stay


def load_spec(path: str) -> tuple[Spec, bytes]:
    """A config.json, checked, and as it is. Raises NotFound, InvalidInput with the JSON path."""
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(_CONFIG_BYTES_MAX)
    except FileNotFoundError as e:
        raise NotFound(
            f"JSON specification file {os.path.basename(path)} not found",
            why=f"there is no {path}",
            next="write one: kist-oci spec",
        ) from e
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}") from e
    spec = decode_text(Spec, text, path)
    major, _, _ = spec.oci_version.partition(".")
    if major != "1":
        raise InvalidInput(f"{spec.oci_version!r} is no version of the specification 1", path="$.ociVersion")
    return spec, text


def create(
    containers: Containers,
    request: CreateRequest,
    mode: str,
    explainer: Sequence[str],
    warn: Callable[[str], None],
    debug: Callable[[str], None] | None,
) -> NoReturn:
    """Become the launcher of a new container: until it waits for `start` (CREATE), runs (DETACH) or has ended (RUN)."""
    spec, text = load_spec(request.config or f"{request.bundle}/config.json")
    facts = probe()
    spec = with_id_maps(spec, facts)
    terminal = bool(spec.process and spec.process.terminal)
    _check_console(request, mode, terminal)
    listen = _listen_fds()
    rootfs = (
        spec.root.path if spec.root.path.startswith("/") else os.path.normpath(f"{request.bundle}/{spec.root.path}")
    )
    if not os.path.isdir(rootfs):
        raise NotFound(f"the root file system {rootfs} does not exist", why="$.root.path names no directory")
    mounted = any(mount.destination.rstrip("/") == "/dev" for mount in spec.mounts)
    if not mounted and os.path.islink(f"{rootfs}/dev"):  # followed inside the root, but who makes one means harm
        raise Refused(
            f"{rootfs}/dev is a symbolic link", why="devices would be made where it leads", next="make it a directory"
        )
    path = containers.path(request.id)
    record = Record(
        id=request.id, bundle=request.bundle, rootfs=rootfs, oci_version=spec.oci_version, created_ns=time_ns(),
        annotations=spec.annotations, owner=os.geteuid(), creator=os.getpid(),
        hooks=tuple(name for name in ("poststart", "poststop") if spec.hooks and getattr(spec.hooks, name)),
        empty=spec.process is None,
    )  # fmt: skip
    notify = callers_socket()
    if notify:
        spec = with_notification(spec, path)
    setting = _setting(spec, request, mode, record, path, notify, listen)
    scope = None
    if request.cgroup_manager == "systemd":
        from kist.engine.runtime.scope import start, within

        scope = start(spec, request.id, facts)
        spec, facts = within(spec, facts, scope)
        setting = replace(setting, release=scope.release)
    compiled = compile_container(spec, facts, setting)
    flags = sum(NAMESPACES[namespace.type][0] for namespace in spec.linux.namespaces)
    record = Record(
        **record.__dict__
        | {"cgroups": compiled.cgroup_paths, "freezer": compiled.freezer, "namespaces": flags}
        | {"unit": scope.unit if scope else "", "shares_pids": shares_pids(spec)}
    )
    containers.make(request.id)
    try:
        if not scope:
            _refuse_occupied(compiled)
        for name, data in (("record", dumps(record).encode()), ("ordinary", ordinary(record)), ("config.json", text)):
            _write(f"{path}/{name}", data)
        if notify:
            os.mkdir(directory(path), 0o755)
        if mode == CREATE:
            os.mkfifo(f"{path}/exec.fifo", 0o622)
        if compiled.cgroup_leaf:
            from kist.kernel.cgroup import enter  # this and what follows: an import that few starts need

            enter(compiled.cgroup_leaf)
        for note in (*compiled.notes, *(f"cannot enforce {name}" for name in compiled.not_enforced)):
            warn(note)
        if debug:
            from kist.kernel.launcher import described

            for line in described(compiled.plan):
                debug(line)
        keep = open_fds(setting.stdio.inherited_fds)
        if scope:  # above those that the command gets
            import fcntl  # the one place, and rare

            keep.append(fcntl.fcntl(scope.hold, fcntl.F_DUPFD_CLOEXEC, 3 + setting.stdio.inherited_fds))
        become(compiled.plan, open_program(), keep, explainer)
    except BaseException:
        remove_directory(path)
        raise


def shares_pids(spec: Spec) -> bool:
    """Whether it is put into another container's PID namespace."""
    return any(namespace.type == "pid" and namespace.path for namespace in spec.linux.namespaces)


def _setting(
    spec: Spec, request: CreateRequest, mode: str, record: Record, path: str, notify: str, listen: int
) -> Setting:  # fmt: skip
    """How it is made, besides what its config.json says. `path`: its own directory."""
    names = ["", "/record", "/ordinary", "/config.json", "/exec.fifo"]
    names += ["/notify", f"/notify/{NOTIFY_NAME}"] if notify else []
    return Setting(
        id=request.id,
        files=Files(path=_real_path(record.rootfs)),
        mode=mode,
        bundle=request.bundle,
        stdio=Stdio(console_socket=request.console_socket, own_files=True, inherited_fds=request.preserve_fds + listen),
        removals=() if request.keep else tuple(f"{path}{name}" for name in names),
        notify_directory=directory(path) if notify else "",
        notify_socket=notify,
        state_file=f"{path}/state.json",
        state='{"pid":$init_pid}',
        hook_state=hook_state(record, CREATING, "$init_pid"),
        pid_file=request.pid_file,
        pidfd_socket=request.pidfd_socket,
        start_fifo=f"{path}/exec.fifo" if mode == CREATE else "",
        keep_cgroup=request.keep,
        reset_affinity=True,
        pivot=not request.no_pivot,
        visible_mounts=_visible_mounts(record.rootfs) if request.no_pivot else (),
        cgroup=request.cgroup_manager != "disabled",
        keyring=not request.no_new_keyring,
        exclusive_cgroup=False,
        default_devices=True,
        find_home=True,
        groups_denied=any(groups_denied(n.path[:-8]) for n in spec.linux.namespaces if n.path.endswith("/ns/user")),
        keep_groups=spec.annotations.get("run.oci.keep_original_groups") == "1",
        known_calls=spec.annotations.get("run.oci.seccomp_fail_unknown_syscall") == "1",
        hook_output=hook_output(spec.annotations),
        optional_limits=OPTIONAL_LIMITS,
        all_hierarchies=True,
        listen_fds=listen,
        links=_links(spec),
    )


def _real_path(directory: str) -> str:
    """Without symbolic links. The kernel knows; os.path.realpath needs all of `os`, see kist/system.py."""
    fd = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def with_id_maps(spec: Spec, facts: HostFacts) -> Spec:
    """A new user namespace without maps gets crun's: the command's user is the caller, those beside it are the caller's
    subordinate ids."""
    linux, user = spec.linux, spec.process.user if spec.process else User(0, 0)
    if not any(n.type == "user" and not n.path for n in linux.namespaces) or linux.uid_mappings or linux.gid_mappings:
        return spec
    return replace(spec, linux=replace(
        linux, uid_mappings=_id_map(user.uid, os.geteuid(), facts.subuids),
        gid_mappings=_id_map(user.gid, os.getegid(), facts.subgids),
    ))  # fmt: skip


def _id_map(inside: int, outside: int, ranges: Sequence[IdRange]) -> tuple[IdMapping, ...]:
    start, size = (ranges[0].start, ranges[0].size) if ranges else (0, 0)
    below = min(inside, size)
    found = (
        IdMapping(0, start, below),
        IdMapping(inside, outside, 1),
        IdMapping(inside + 1, start + below, size - below),
    )
    return tuple(m for m in found if m.size)


def _visible_mounts(rootfs: str) -> tuple[str, ...]:
    from kist.kernel.probe import parse_mountinfo

    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = parse_mountinfo(file.read(), ("proc", "sysfs"))
    return tuple(mount.point for mount in mounts if not mount.point.startswith(f"{rootfs}/"))


def _refuse_occupied(compiled: Compiled) -> None:
    """A cgroup that others use, or that would freeze the container before it can say so. Raises Conflict."""
    for path in compiled.cgroup_paths[:1]:
        if not os.path.isdir(path):
            continue
        from kist.kernel.cgroup import pids

        if pids(path):
            raise Conflict(f"container's cgroup is not empty: {path}", next="another $.linux.cgroupsPath")
    if is_frozen(compiled.freezer):
        raise Conflict(f"container's cgroup unexpectedly frozen: {compiled.freezer}", next="thaw it, or take another")


def _links(spec: Spec) -> tuple[HostLink, ...]:
    """The interfaces of the host that linux.netDevices names."""
    names = spec.linux.net_devices
    if not names:
        return ()
    from kist.kernel.netlink import Netlink, addresses, links
    from kist.plan.compile_network import HostLink

    with Netlink() as connection:
        found = [link for link in links(connection) if link.name in names]
        return tuple([HostLink(link.name, link.index, tuple(addresses(connection, link.index))) for link in found])


def open_fds(count: int) -> list[int]:
    """Those of the `count` fds from 3 the caller passed. They are inheritable, none of Python's own is (PEP 446)."""
    found = []
    for fd in range(3, 3 + count):
        try:
            if os.get_inheritable(fd):
                found.append(fd)
        except OSError:
            continue
    return found


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _check_console(request: CreateRequest, mode: str, terminal: bool) -> None:
    if terminal and mode in (CREATE, DETACH) and not request.console_socket:
        raise InvalidInput(
            "cannot allocate tty if the runtime will detach without setting console socket",
            next="--console-socket PATH",
        )
    if request.console_socket and not terminal:
        raise InvalidInput("cannot use console socket if the runtime will not allocate tty", path="--console-socket")
    if request.console_socket and mode == RUN:
        raise InvalidInput("cannot use console socket if the runtime will not detach", path="--console-socket")


def _listen_fds() -> int:
    """Sockets that the caller passes on, from fd 3. Source: sd_listen_fds(3)."""
    text = os.environ.get("LISTEN_FDS", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
