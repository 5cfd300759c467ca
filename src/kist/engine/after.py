"""What is left to do when a container has ended by itself: start it again, or remove it.

python -m kist.engine.after ID        its supervisor becomes this, with nothing of the container left to look after
"""

from __future__ import annotations

import os
import sys

from kist.engine.containers import Container, Containers, Ended
from kist.engine.start import start
from kist.engine.state import Record
from kist.errors import KistError

_FIRST_S, _MOST_S, _STEADY_S = 0.1, 60.0, 10.0  # docker's: doubled each time, and anew when it has run for a while


def wanted(container: Container, ended: Ended) -> bool:
    """Whether its policy starts it again. Source: docker run, "Restart policies"."""
    restart, started = container.config.request.restart, container.started
    if restart.policy == "no" or os.path.exists(f"{container.path}/stopped"):
        return False
    if restart.policy == "on-failure":
        return ended.code != 0 and (not restart.most or (started is not None and started.restarts < restart.most))
    return True


def pause_s(restarts: int, wall_ns: int) -> float:
    """How long to wait before it is started again."""
    return _FIRST_S if wall_ns >= _STEADY_S * 1e9 else min(_FIRST_S * 2.0 ** min(restarts, 20), _MOST_S)


def main(argv: list[str]) -> int:
    containers = Containers()
    try:
        container = containers.find(argv[0])
        if container.config.request.rm:
            from kist.engine.remove import remove

            remove(containers, container)
            return 0
        while (ended := container.ended) and wanted(container, ended):
            if _started_again(containers, container, ended):
                break
    except KistError:
        return 1  # nobody is here to be told: the record says how it ended
    return 0


def _started_again(containers: Containers, container: Container, ended: Ended) -> bool:
    """After the pause its policy asks for. False when it could not be started: the next pause is longer."""
    last = container.started
    restarts = last.restarts + 1 if last else 1
    if not _wait(containers, container, pause_s(restarts - 1, ended.wall_ns)):
        return True
    try:
        start(containers, container, restarts=restarts)
    except KistError as e:
        if e.code in ("no-container", "no-image"):
            return True
        container.write("started", type(last)(last.at_ns, restarts)) if last else None
        return last is None
    return True


def _wait(containers: Containers, container: Container, seconds: float) -> bool:
    """As a container that is restarting, so that others see it and may end it. False when somebody else started it."""
    import time

    states = containers.states
    if states.is_locked(container.id):
        return False
    states.prepare()
    states.sweep()
    state = states.reserve(container.id)
    try:
        state.publish(Record(id=container.id, name=container.name, restarting=True))
        with open(f"{state.path}/state", "w", encoding="ascii") as file:
            file.write(f'{{"pid":{os.getpid()}}}')
        time.sleep(seconds)
    finally:
        state.remove()
    return not os.path.exists(f"{container.path}/stopped")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
