"""`start`, `kill` and `delete` of the OCI runtime."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the enums of `signal` take 6 ms

from kist.engine.runtime.container import CREATED, PAUSED, RUNNING, STOPPED, hook_output, hook_state, remove_directory
from kist.errors import Conflict, CorruptStore, InvalidInput, KistError, NotFound, Unsupported
from kist.kernel.cgroup import kill_all, remove_cgroups
from kist.plan.flags import CLONE_NEWNS
from kist.system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.runtime.container import Container, Containers
    from kist.spec.runtime import Hook

_CGROUP_ROOT = "/sys/fs/cgroup"


def start(container: Container) -> None:
    """Let the created process become the command, then run the poststart hooks. Raises Conflict in another state."""
    status = container.status()
    if status != CREATED:
        why = {
            STOPPED: "cannot start a container that has stopped",
            RUNNING: "cannot start an already running container",
        }
        raise Conflict(why.get(status, f"cannot start a container in the {status} state"))
    pid = container.pid
    if container.record.empty:
        _end_process(container)
        raise InvalidInput("process is missing", path="$", next="a container without one can only be deleted")
    notifications = None
    if os.environ.get("NOTIFY_SOCKET") and os.path.isdir(f"{container.path}/notify"):
        from kist.engine.runtime.notify import Notifications

        notifications = Notifications(container)
    try:
        fd = os.open(container.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise Conflict(f"container {container.id} cannot be started: {e.strerror}", why="its process is gone") from e
    try:
        os.write(fd, b"s")
    finally:
        os.close(fd)
    os.unlink(container.fifo)
    if "poststart" in container.record.hooks:
        hooks = container.spec().hooks
        try:
            run_hooks(container, hooks.poststart if hooks else (), RUNNING, pid)
        except KistError:
            _remove(container)
            raise
    if notifications:
        notifications.pass_on()


def run_hooks(container: Container, hooks: tuple[Hook, ...], status: str, pid: int = 0, *, warning: str = "") -> None:
    """Raises StepFailed unless there is a `warning` to give instead."""
    from kist.kernel.launcher import Launcher
    from kist.kernel.program import open_program
    from kist.plan.compile_process import hook_step
    from kist.plan.steps import HOST, Entry

    state = hook_state(container.record, status, str(pid))
    output = hook_output(container.record.annotations)
    steps = [hook_step(hook, state, warning=warning, output=output) for hook in hooks]
    plan = tuple(Entry(step, HOST, "exec", "hook") for step in steps)
    program = open_program()
    try:
        Launcher(plan, program).end()
    finally:
        os.close(program)


def kill(container: Container, number: int, *, all: bool = False) -> None:
    """Signal the first process; with `all`, or SIGKILL without a PID namespace of its own, every process.

    Raises Conflict when it does not run.
    """
    status = container.status()
    if status == STOPPED or not container.pid:
        if not container.record.ends_with_first and number == signal.SIGKILL:
            kill_all(container.record.cgroups, number)  # its other processes need not have ended with the first
            return
        if all:
            return
        raise Conflict("container not running", why=f"container {container.id} is {status}", code="not-running")
    everybody = all or (number == signal.SIGKILL and not container.record.ends_with_first)
    if everybody and container.record.cgroups:
        kill_all(container.record.cgroups, number)
        return
    _signal_pid(container, number)
    if status == PAUSED and number == signal.SIGKILL:
        from kist.engine.runtime.resources import thaw

        thaw(container)


def _signal_pid(container: Container, number: int) -> None:
    pid = container.pid
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError as e:
        raise Conflict("container not running", code="not-running") from e
    try:
        if container.pid == pid:  # still the same process
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError as e:
        raise Conflict("container not running", code="not-running") from e
    finally:
        os.close(handle)


def delete(containers: Containers, id: str, *, force: bool) -> None:
    """Remove what a container holds. `force` kills it first, and needs no intact directory.

    Raises NotFound (not with `force`), Conflict when it runs.
    """
    try:
        container = containers.load(id)
    except NotFound:
        if not force:
            raise
        _remove_lost(containers, id)
        return
    except CorruptStore:
        if not force:
            raise
        _remove_lost(containers, id)
        return
    status = container.status()
    if status not in (STOPPED, CREATED) and not force:
        raise Conflict(f"cannot delete container {id} that is not stopped: {status}", next="kill it, or delete --force")
    _remove(container)


def _remove(container: Container) -> None:
    _end_process(container)
    remove_cgroups(container.record.cgroups)
    if container.record.unit:
        _stop_unit(container.record.unit)
    if not container.record.namespaces & CLONE_NEWNS:
        _unmount_below(container.record.rootfs, container_mounted=_has_readonly_root(container))
    _poststop(container)
    remove_directory(container.path)


def _stop_unit(unit: str) -> None:
    from kist.kernel.systemd import Manager, UnitError

    try:
        with Manager() as manager:
            manager.stop(unit)
    except (Unsupported, UnitError):
        pass  # its processes and cgroups are gone: a unit without them goes by itself


def _has_readonly_root(container: Container) -> bool:
    try:
        return container.spec().root.readonly
    except CorruptStore:
        return False


def _unmount_below(rootfs: str, *, container_mounted: bool) -> None:
    """A container without a mount namespace of its own has mounted in the host's."""
    from kist.kernel.mounts import mount_points, unmount

    points = mount_points()
    for path in reversed([path for path in points if path.startswith(f"{rootfs}/")]):
        unmount(path)
    if container_mounted and rootfs in points:
        unmount(rootfs)  # the last one: of what was mounted there before nothing is ours


def _end_process(container: Container) -> None:
    pid = container.pid
    if not pid:
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        from kist.engine.runtime.resources import thaw

        thaw(container)
        import select

        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(10_000):
            raise Conflict("container init still running", why=f"process {pid} does not die", code="busy")
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _poststop(container: Container) -> None:
    if "poststop" not in container.record.hooks:
        return
    try:
        spec = container.spec()
    except CorruptStore:
        return  # deleting needs no intact config
    if spec.hooks and spec.hooks.poststop:
        from kist.plan.compile_process import POSTSTOP_WARNING

        run_hooks(container, spec.hooks.poststop, STOPPED, warning=POSTSTOP_WARNING)


def _remove_lost(containers: Containers, id: str) -> None:
    """Without a record: the cgroups, with all that runs or is stopped inside, and the process that state.json names."""
    from kist.engine.runtime.container import Container, Record

    path = containers.path(id)
    container = Container(path, Record(id=id, bundle="", rootfs="", oci_version="", created_ns=0))
    if len(id) >= 8 or os.path.isdir(path):
        remove_cgroups(_lost_cgroups(container))
    _end_process(container)
    remove_directory(path)


def _lost_cgroups(container: Container) -> list[str]:
    """At the path that the config asks for, else those of kist's own that bear the whole id as their name."""
    try:
        asked = container.spec().linux.cgroups_path
    except CorruptStore:
        asked = ""
    _, *scope = asked.split(":")
    ends = [f"/{'-'.join(scope)}.scope" if scope else f"/{asked.lstrip('/')}"]
    if not asked:
        ends = [f"/{container.id}", f"/{container.id}.scope"]
    found: list[str] = []
    for directory, names, _ in os.walk(_CGROUP_ROOT):
        here = [
            name for name in names if f"{directory}/{name}".endswith(tuple(ends)) and (asked or "/kist" in directory)
        ]
        found += [f"{directory}/{name}" for name in here]
        names[:] = [name for name in names if name not in here]
    return found
