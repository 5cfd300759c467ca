"""Tasks side by side, of which the first failure ends all."""

from __future__ import annotations

import threading
from collections import deque

from kist.registry.errors import Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kist.registry.transport import Transport

_JOIN_S = 5  # a thread that waits for another process's lock, or for a name server, is left to itself


def run_all(tasks: Sequence[Callable[[], object]], transport: Transport, workers: int) -> None:
    """Run them all, `workers` at a time, begun in their order. Raises what the first failing one raised."""
    left, errors = deque(tasks), list[BaseException]()

    def work() -> None:
        while not transport.stop.is_set():
            try:
                task = left.popleft()
            except IndexError:
                return
            try:
                task()
            except BaseException as e:
                errors.append(e)
                transport.abort()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(tasks)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C
        transport.abort()
        for thread in threads:
            if thread.ident:
                thread.join(_JOIN_S)
        raise
    finally:
        transport.stop.clear()
    if errors:
        raise next((e for e in errors if not isinstance(e, Stopped)), errors[0])
