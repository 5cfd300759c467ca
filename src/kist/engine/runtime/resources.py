"""`pause`, `resume`, `ps`, `events` and `update` of the OCI runtime: what is done with a container's cgroups."""

from __future__ import annotations

import errno
import os

from kist.engine.runtime.container import CREATED, OPTIONAL_LIMITS, PAUSED, RUNNING, STOPPED
from kist.errors import Conflict, KistError, Unsupported
from kist.kernel.cgroup import write_value
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kist.engine.runtime.container import Container
    from kist.plan.cgroup_limits import Limit
    from kist.plan.facts import HostFacts
    from kist.spec.runtime import Resources


def pause(container: Container) -> None:
    """Raises Conflict unless it is running or created, Unsupported without a freezer."""
    status = container.status()
    if status not in (RUNNING, CREATED):
        raise Conflict(f"container {container.id} is not running or created: {status}", code="not-running")
    if not container.record.freezer:
        raise Unsupported(f"container {container.id} cannot be paused", why="it has no cgroup that can be frozen")
    _freeze(container.record.freezer, on=True)


def resume(container: Container) -> None:
    if container.status() != PAUSED:
        raise Conflict(f"container {container.id} is not paused", code="not-paused")
    _freeze(container.record.freezer, on=False)


def thaw(container: Container) -> None:
    """Let stopped processes die; nothing to do where there is no freezer."""
    if container.record.freezer and os.path.exists(container.record.freezer):
        _freeze(container.record.freezer, on=False)


def _freeze(freezer: str, *, on: bool) -> None:
    """And wait until it is so. Source: kernel cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst, "cgroup.freeze"."""
    import time

    v1 = freezer.endswith(".state")
    words = {True: "FROZEN", False: "THAWED"} if v1 else {True: "1", False: "0"}
    deadline = time.monotonic() + 10
    while True:
        if not write_value(freezer, words[on]):
            return
        if not on or _is_still(freezer, v1):
            return
        if time.monotonic() > deadline:
            write_value(freezer, words[False])
            raise KistError("the container cannot be paused", why="a process stays busy in the kernel", code="busy")
        time.sleep(0.001)


def _is_still(freezer: str, v1: bool) -> bool:
    if v1:
        with open(freezer, encoding="ascii") as file:
            return file.read().strip() == "FROZEN"
    with open(os.path.join(os.path.dirname(freezer), "cgroup.events"), encoding="ascii") as file:
        return "frozen 1" in file.read()


def processes(container: Container) -> list[int]:
    """Numbers, on the host, of all processes in the container's cgroups."""
    from kist.kernel.cgroup import pids

    if container.record.cgroups:
        return sorted(pids(container.record.cgroups[0]))
    return [container.pid] if container.pid else []


def update(container: Container, resources: Resources, warn: Callable[[str], None]) -> None:
    """Change limits while it runs. Values that are not given stay. Raises InvalidInput, Refused, Unsupported."""
    from kist.kernel.probe import probe

    if container.status() == STOPPED:
        raise Conflict(f"container {container.id} is not running", code="not-running")
    facts = probe()
    if container.record.unit:
        from kist.engine.runtime.scope import resource_properties
        from kist.kernel.systemd import Manager

        with Manager() as manager:
            manager.set_properties(container.record.unit, resource_properties(resources, facts))
    write_limits(container.record.cgroups, resources, facts, warn)


def write_limits(
    cgroups: Sequence[str], resources: Resources, facts: HostFacts, warn: Callable[[str], None] = lambda _: None
) -> None:
    """To cgroups that have limits already. Raises InvalidInput, Unsupported, KistError."""
    from kist.plan.cgroup_limits import limits

    by_controller = {controller: path for path in cgroups for controller in _controllers(path)}
    pending = list(limits(_with_quota(resources, by_controller.get("")), facts, update=True))
    for limit in pending:  # before the first is written
        if "" not in by_controller and limit.controller not in by_controller:
            raise Unsupported(f"cannot set {limit.name}", why=f"it has no cgroup of the controller {limit.controller}",
                              next="start it anew with the limit")  # fmt: skip
    late = set()  # v1 refuses what is at odds with a value that comes later, as the memory limit with that of swap
    while pending:
        limit = pending.pop(0)
        if limit.missing and limit.name in OPTIONAL_LIMITS:
            warn(f"{limit.name} is left out: {limit.missing}")
            continue
        if limit.missing:
            raise Unsupported(f"cannot set {limit.name}", why=limit.missing, next=limit.next)
        path = by_controller.get(limit.controller) or (cgroups or ("",))[0]
        if path == by_controller.get("") and not os.path.exists(f"{path}/{limit.file}"):
            _hand_down(path, limit)
        try:
            write_value(f"{path}/{limit.file}", limit.data)
        except OSError as e:
            if e.errno == errno.EINVAL and pending and limit.name not in late:
                late.add(limit.name)
                pending.append(limit)
                continue
            what = f"failed to write {limit.data!r} to {path}/{limit.file}: {e.strerror}"
            raise KistError(what, code="cgroup-write") from e


def _with_quota(resources: Resources, v2: str | None) -> Resources:
    """A period alone keeps the quota, which is in the same file. Source: kernel cgroup-v2.rst, "cpu.max"."""
    cpu = resources.cpu
    if not v2 or cpu is None or not cpu.period or cpu.quota is not None or not os.path.exists(f"{v2}/cpu.max"):
        return resources
    with open(f"{v2}/cpu.max", encoding="ascii") as file:
        quota = file.read().split()[0]
    return replace(resources, cpu=replace(cpu, quota=-1 if quota == "max" else int(quota)))


def _hand_down(path: str, limit: Limit) -> None:
    """A v2 cgroup has the controllers that its limits needed when it was made; hand it one more. Raises Unsupported."""
    parents = []
    while os.path.exists(f"{(path := os.path.dirname(path))}/cgroup.subtree_control"):
        parents.append(f"{path}/cgroup.subtree_control")
    for file in reversed(parents):
        with open(file, encoding="ascii") as enabled:
            if limit.controller in enabled.read().split():
                continue
        try:
            write_value(file, f"+{limit.controller}")
        except OSError as e:
            raise Unsupported(f"cannot set {limit.name}", why=f"+{limit.controller} to {file}: {e.strerror}",
                              next="start it anew with the limit") from e  # fmt: skip


def _controllers(path: str) -> Sequence[str]:
    """v1: those of the hierarchy that a cgroup lies in, by the name of its mount point; v2: ""."""
    parts = path.split("/")
    return ("",) if os.path.exists(f"{path}/cgroup.controllers") else tuple(parts[4].split(","))


def statistics(container: Container) -> dict[str, object]:
    """What runc's `events --stats` prints, as far as the kernel counts it."""
    from kist.engine.runtime.stats import collect

    status = container.status()
    if status not in (RUNNING, PAUSED, CREATED):
        raise Conflict(f"container with id {container.id} is not running", code="not-running")
    return {"type": "stats", "id": container.id, "data": collect(container.record.cgroups)}


def watch(container: Container, interval_s: float) -> Iterator[dict[str, object]]:
    """Statistics every `interval_s`, and "oom" when the kernel has killed for want of memory; until it has ended."""
    import time

    kills = _oom_kills(container)
    while container.pid:
        yield statistics(container)
        deadline = time.monotonic() + interval_s
        while container.pid and time.monotonic() < deadline:
            time.sleep(min(0.1, interval_s))
            now = _oom_kills(container)
            if now > kills:
                kills = now
                yield {"type": "oom", "id": container.id}


def _oom_kills(container: Container) -> int:
    from kist.engine.runtime.stats import oom_kills

    return oom_kills(container.record.cgroups)
