"""`exec` of the OCI runtime: one more process in a container that is there. Source: runc exec."""

from __future__ import annotations

from kist.codec import decode_text
from kist.engine.runtime.container import PAUSED, STOPPED, hook_state
from kist.engine.runtime.create import open_fds
from kist.errors import Conflict, InvalidInput, NotFound
from kist.kernel.launcher import described
from kist.kernel.probe import groups_denied, probe
from kist.kernel.program import become, open_program
from kist.plan.compile_exec import compile_exec
from kist.plan.setting import DETACH, RUN, Files, Setting, Stdio
from kist.spec.runtime import Process
from kist.system import os
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from kist.engine.runtime.container import Container
    from kist.spec.runtime import Spec


class ExecRequest(Value):
    """Options as runc's. With `process_file` it is that process, else the container's own with changes."""

    args: tuple[str, ...] = ()
    process_file: str = ""
    cwd: str = ""
    env: tuple[str, ...] = ()
    tty: bool | None = None
    user: str = ""
    additional_gids: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()
    apparmor: str = ""
    process_label: str = ""
    no_new_privs: bool | None = None
    detach: bool = False
    console_socket: str = ""
    pidfd_socket: str = ""
    pid_file: str = ""
    preserve_fds: int = 0
    cgroups: tuple[str, ...] = ()
    ignore_paused: bool = False


def execute(
    container: Container, request: ExecRequest, explainer: Sequence[str], debug: Callable[[str], None] | None
) -> NoReturn:
    """Become the launcher of a process inside. Raises Conflict when the container is stopped or paused."""
    status = container.status()
    if status == STOPPED or not container.pid:
        raise Conflict("cannot exec in a stopped container", code="not-running")
    if status == PAUSED and not request.ignore_paused:
        raise Conflict("cannot exec in a paused container (use --ignore-paused to override)", code="paused")
    spec = container.spec()
    process = _process(request, spec)
    if process.terminal and request.detach and not request.console_socket:
        raise InvalidInput("cannot allocate tty if the runtime will detach without setting console socket")
    setting = Setting(
        id=container.id,
        files=Files(),
        mode=DETACH if request.detach else RUN,
        stdio=Stdio(console_socket=request.console_socket, own_files=True, inherited_fds=request.preserve_fds),
        hook_state=hook_state(container.record, status, "$init_pid"),
        find_home=True,
        reset_affinity=True,
        groups_denied=groups_denied(f"/proc/{container.pid}"),
        pid_file=request.pid_file,
        pidfd_socket=request.pidfd_socket,
    )
    cgroups = _cgroups(container, request)
    compiled = compile_exec(spec, process, probe(), setting, container.pid, container.record.namespaces, cgroups)
    if debug:
        for line in described(compiled.plan):
            debug(line)
    become(compiled.plan, open_program(), open_fds(request.preserve_fds), explainer)


def _process(request: ExecRequest, spec: Spec) -> Process:
    if request.process_file:
        try:
            with open(request.process_file, "rb") as file:
                process = decode_text(Process, file.read(1 << 24), request.process_file)
        except OSError as e:
            raise NotFound(f"cannot read {request.process_file}: {e.strerror}", next="--process FILE") from e
        return process
    base = spec.process
    if base is None or not request.args:
        raise InvalidInput("exec args cannot be empty", next="kist-oci exec ID COMMAND...")
    user = base.user
    if request.user:
        uid, _, gid = request.user.partition(":")
        numbers = [int(n) if n.isascii() and n.isdigit() and len(n) <= 10 else -1 for n in (uid, gid or "0")]
        if min(numbers) < 0 or max(numbers) >= 2**32 - 1:
            raise InvalidInput(
                f"{request.user!r} is not uid[:gid]", path="--user", next="numbers: names are not looked up"
            )
        user = replace(user, uid=numbers[0], gid=numbers[1] if gid else user.gid)
    if request.additional_gids:
        user = replace(user, additional_gids=(*user.additional_gids, *request.additional_gids))
    capabilities = base.capabilities
    if request.capabilities and capabilities:
        extra = request.capabilities
        ambient = extra if capabilities.inheritable else ()  # these are ambient only if they are inheritable, too
        capabilities = replace(
            capabilities, bounding=_with(capabilities.bounding, extra), effective=_with(capabilities.effective, extra),
            permitted=_with(capabilities.permitted, extra), ambient=_with(capabilities.ambient, ambient),
        )  # fmt: skip
    return replace(
        base, args=request.args, cwd=request.cwd or base.cwd, env=(*base.env, *request.env), user=user,
        terminal=bool(request.tty), capabilities=capabilities,
        apparmor_profile=request.apparmor or base.apparmor_profile,
        selinux_label=request.process_label or base.selinux_label,
        no_new_privileges=base.no_new_privileges if request.no_new_privs is None else request.no_new_privs,
    )  # fmt: skip


def _with(names: tuple[str, ...], extra: tuple[str, ...]) -> tuple[str, ...]:
    return (*names, *(name for name in extra if name not in names))


def _cgroups(container: Container, request: ExecRequest) -> tuple[str, ...]:
    """Where the process goes: the container's cgroups, or those below them that --cgroup names.

    On v2 a container may have moved its own processes down. Where the top then takes none, since it hands controllers
    to its children, follow the first process, as runc does.
    """
    chosen = container.record.cgroups
    if not request.cgroups and len(chosen) == 1 and _hands_down(chosen[0]):
        mount = chosen[0]
        while os.path.exists(f"{os.path.dirname(mount)}/cgroup.controllers"):
            mount = os.path.dirname(mount)
        own = f"{mount}{_v2_cgroup(container.pid)}"
        chosen = (own,) if own.startswith(f"{chosen[0]}/") and os.path.isdir(own) else chosen
    for word in request.cgroups:
        controllers, colon, path = word.partition(":")
        below = path if colon else word
        if ".." in below.split("/"):
            raise InvalidInput(f"bad sub cgroup path {below!r}: `..` components are not allowed", path="--cgroup")
        names = controllers.split(",") if colon else []
        for name in names:
            if not any(top.split("/")[4] == name for top in chosen):
                raise InvalidInput(
                    f"unknown controller {name}", path="--cgroup", next="one that is mounted as cgroup v1"
                )
        chosen = tuple(
            f"{top.rstrip('/')}/{below.strip('/')}".rstrip("/") if not names or top.split("/")[4] in names else top
            for top in chosen
        )
    for path in chosen:
        if not os.path.isdir(path):
            raise NotFound(
                f"error adding pid to {path}: no such file or directory",
                next="--cgroup names a cgroup that exists below the container's",
            )
    return chosen


def _hands_down(cgroup: str) -> bool:
    try:
        with open(f"{cgroup}/cgroup.subtree_control", encoding="ascii") as file:
            return bool(file.read().strip())
    except FileNotFoundError:  # v1
        return False


def _v2_cgroup(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), "")
    except OSError:
        return ""
