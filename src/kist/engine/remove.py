"""`kist rm`: nothing of a container is left, whatever state it is in."""

from __future__ import annotations

import time

from kist.engine.containers import Container, Containers
from kist.engine.events import note, note_end
from kist.engine.stop import mark, stop
from kist.errors import Conflict


def remove(containers: Containers, container: Container, *, force: bool = False, volumes: bool = False) -> None:
    """With `volumes`, also those that were made for it alone, as always with --rm.

    Raises Conflict when it runs, unless `force`: then it is killed. NotFound when somebody was faster.
    """
    container.path  # noqa: B018  # raises for one that is gone by itself
    if container.status in ("running", "paused", "restarting") and not force:
        paused = "paused" if container.status == "paused" else "running"
        raise Conflict(f"{container.name} is {paused}", next=f"kist stop {container.name}, or kist rm -f",
                       code="running")  # fmt: skip
    with containers.locked(container):
        if force:
            _end(container)
        elif container.states.is_locked(container.id):
            raise Conflict(f"{container.name} was just started", next="kist rm -f", code="running")
        containers.states.prepare()
        containers.states.sweep(container.id)  # what its supervisor left, if that was killed
        note_end(container)
        note(container, "destroy")
        containers.remove(container)
    request = container.config.request
    if (volumes or request.rm) and any(m.kind == "volume" for m in (*request.volumes, *request.mounts)):
        from kist.engine.volumes import remove_anonymous

        remove_anonymous(containers, request)


def _end(container: Container) -> None:
    """Also one that is just being started, by a launcher whose command was killed: it may not have a process yet.

    With the container locked: nobody else starts it. Raises Conflict.
    """
    mark(container)
    deadline = time.monotonic() + _PATIENCE_S
    stop(container, 0, _KILL)
    while container.states.is_locked(container.id):
        if time.monotonic() > deadline:
            raise Conflict(f"{container.name} does not end", next="kist rm -f, once more", code="busy")
        time.sleep(0.005)
        stop(container, 0, _KILL)


_KILL, _PATIENCE_S = 9, 5.0
