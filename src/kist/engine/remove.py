"""`kist rm`: nothing of a container is left, whatever state it is in."""

from __future__ import annotations

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
    if force:
        mark(container)
        stop(container, 0, 9)
    with containers.locked(container):
        if container.states.is_locked(container.id):
            raise Conflict(f"{container.name} was just started", next="kist rm -f", code="running")
        containers.states.prepare()
        containers.states.sweep()  # what its supervisor left, if that was killed
        note_end(container)
        note(container, "destroy")
        containers.remove(container)
    request = container.config.request
    if (volumes or request.rm) and any(m.kind == "volume" for m in (*request.volumes, *request.mounts)):
        from kist.engine.volumes import remove_anonymous

        remove_anonymous(containers, request)
