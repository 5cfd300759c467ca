"""`create` and `run` of the OCI runtime: from a bundle to a container. Source: OCI runtime.md, "Lifecycle"."""

from __future__ import annotations

import os

from kist.codec import decode_text, dumps
from kist.engine.runtime.container import CREATING, Record, hook_state
from kist.errors import InvalidInput, NotFound
from kist.kernel.launcher import become, open_program
from kist.kernel.probe import probe
from kist.plan.builder import NAMESPACES
from kist.plan.compile import compile_container
from kist.plan.setting import CREATE, DETACH, RUN, Files, Setting, Stdio
from kist.spec.runtime import Spec
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from kist.engine.runtime.container import Containers

_CONFIG_BYTES_MAX = 16 << 20


class CreateRequest(Value):
    """Options as runc's. Paths are absolute."""

    id: str
    bundle: str
    console_socket: str = ""
    pidfd_socket: str = ""
    pid_file: str = ""
    no_pivot: bool = False
    no_new_keyring: bool = False
    preserve_fds: int = 0
    keep: bool = False  # `run`: the container's directory and cgroup stay


def load_spec(bundle: str) -> tuple[Spec, bytes]:
    """config.json, checked, and as it is. Raises NotFound, InvalidInput with the JSON path."""
    path = f"{bundle}/config.json"
    try:
        with open(path, "rb", buffering=0) as file:
            text = file.read(_CONFIG_BYTES_MAX)
    except FileNotFoundError as e:
        raise NotFound(
            f"JSON specification file config.json not found in {bundle}", next="write one: kist-oci spec"
        ) from e
    except OSError as e:
        raise InvalidInput(f"cannot read {path}: {e.strerror}") from e
    spec = decode_text(Spec, text, path)
    major, _, _ = spec.oci_version.partition(".")
    if major != "1":
        raise InvalidInput(f"{spec.oci_version!r} is no version of the specification 1", path="$.ociVersion")
    return spec, text


def create(
    containers: Containers, request: CreateRequest, mode: str, explainer: Sequence[str], warn: Callable[[str], None]
) -> NoReturn:
    """Become the launcher of a new container: until it waits for `start` (CREATE), runs (DETACH) or has ended (RUN)."""
    spec, text = load_spec(request.bundle)
    terminal = bool(spec.process and spec.process.terminal)
    _check_console(request, mode, terminal)
    listen = _listen_fds()
    rootfs = (
        spec.root.path if spec.root.path.startswith("/") else os.path.normpath(f"{request.bundle}/{spec.root.path}")
    )
    if not os.path.isdir(rootfs):
        raise NotFound(f"the root file system {rootfs} does not exist", why="$.root.path names no directory")
    path = containers.path(request.id)
    import time

    record = Record(
        id=request.id, bundle=request.bundle, rootfs=rootfs, oci_version=spec.oci_version, created_ns=time.time_ns(),
        annotations=spec.annotations, owner=os.geteuid(),
    )  # fmt: skip
    setting = Setting(
        id=request.id,
        files=Files(path=os.path.realpath(rootfs)),
        mode=mode,
        bundle=request.bundle,
        stdio=Stdio(console_socket=request.console_socket, own_files=True, inherited_fds=request.preserve_fds + listen),
        removals=() if request.keep else tuple(f"{path}{name}" for name in ("", "/record", "/config.json", "/start")),
        state_file=f"{path}/state.json",
        state='{"pid":$init_pid}',
        hook_state=hook_state(record, CREATING, "$init_pid"),
        pid_file=request.pid_file,
        pidfd_socket=request.pidfd_socket,
        start_fifo=f"{path}/start" if mode == CREATE else "",
        pivot=not request.no_pivot,
        keyring=not request.no_new_keyring,
        exclusive_cgroup=False,
        default_devices=True,
        all_hierarchies=True,
        listen_fds=listen,
    )
    compiled = compile_container(spec, probe(), setting)
    flags = sum(NAMESPACES[namespace.type][0] for namespace in spec.linux.namespaces)
    record = Record(
        **record.__dict__ | {"cgroups": compiled.cgroup_paths, "freezer": compiled.freezer, "namespaces": flags}
    )
    containers.make(request.id)
    try:
        _write(f"{path}/record", dumps(record).encode())
        _write(f"{path}/config.json", text)
        if mode == CREATE:
            os.mkfifo(f"{path}/start", 0o622)
        if compiled.cgroup_leaf:
            from kist.kernel.cgroup import enter

            enter(compiled.cgroup_leaf)
        for note in compiled.notes:
            warn(note)
        become(compiled.plan, open_program(), range(3, 3 + setting.stdio.inherited_fds), explainer)
    except BaseException:
        for name in ("record", "config.json", "start"):
            try:
                os.unlink(f"{path}/{name}")
            except FileNotFoundError:
                pass
        os.rmdir(path)
        raise


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
