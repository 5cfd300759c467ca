"""`start`, `kill` and `delete` of the OCI runtime."""

from __future__ import annotations

import os
import signal

from kist.engine.runtime.container import CREATED, PAUSED, RUNNING, STOPPED, hook_state
from kist.errors import Conflict, CorruptStore, InvalidInput, KistError, NotFound
from kist.kernel.cgroup import kill_all, remove_cgroups

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
    try:
        fd = os.open(container.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise Conflict(f"container {container.id} cannot be started: {e.strerror}", why="its process is gone") from e
    try:
        os.write(fd, b"s")
    finally:
        os.close(fd)
    os.unlink(container.fifo)
    spec = container.spec()
    if spec.hooks and spec.hooks.poststart:
        try:
            run_hooks(spec.hooks.poststart, hook_state(container.record, RUNNING, str(container.pid)))
        except KistError:
            kill(container, signal.SIGKILL)
            raise


def run_hooks(hooks: tuple[Hook, ...], state: str, *, may_fail: bool = False) -> None:
    """Raises StepFailed unless `may_fail`."""
    from kist.kernel.launcher import Launcher, open_program
    from kist.plan.compile_process import hook_step
    from kist.plan.steps import HOST, Entry

    plan = tuple(Entry(hook_step(hook, state, may_fail=may_fail), HOST, "exec", "hook") for hook in hooks)
    program = open_program()
    try:
        Launcher(plan, program).end()
    finally:
        os.close(program)


def kill(container: Container, number: int, *, all: bool = False) -> None:
    """Signal the first process; with `all`, or SIGKILL without a PID namespace of its own, every process.

    Raises Conflict when it does not run.
    """
    from kist.plan.flags import CLONE_NEWPID

    status = container.status()
    if status == STOPPED or not container.pid:
        if all:
            return
        raise Conflict("container not running", why=f"container {container.id} is {status}", code="not-running")
    everybody = all or (number == signal.SIGKILL and not container.record.namespaces & CLONE_NEWPID)
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
    _end_process(container)
    remove_cgroups(container.record.cgroups)
    _poststop(container)
    _remove_directory(container.path)


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
    try:
        spec = container.spec()
    except CorruptStore:
        return  # deleting needs no intact config
    if spec.hooks and spec.hooks.poststop:
        run_hooks(spec.hooks.poststop, hook_state(container.record, STOPPED, "0"), may_fail=True)


def _remove_lost(containers: Containers, id: str) -> None:
    """Without a record: the process that state.json names, and cgroups that bear the whole id as their name."""
    from kist.engine.runtime.container import Container, Record

    path = containers.path(id)
    _end_process(Container(path, Record(id=id, bundle="", rootfs="", oci_version="", created_ns=0)))
    found = []
    if len(id) >= 8 or os.path.isdir(path):
        for directory, names, _ in os.walk(_CGROUP_ROOT):
            found += [f"{directory}/{name}" for name in names if name in (id, f"{id}.scope") and "/kist" in directory]
            names[:] = [name for name in names if name not in (id, f"{id}.scope")]
    remove_cgroups(found)
    _remove_directory(path)


def _remove_directory(path: str) -> None:
    if not os.path.isdir(path) or os.path.islink(path):
        return
    for name in os.listdir(path):
        try:
            os.unlink(f"{path}/{name}")
        except IsADirectoryError as e:
            raise InvalidInput(f"{path}/{name} is not kist's", why="the container's directory holds files only") from e
        except FileNotFoundError:
            pass
    os.rmdir(path)
