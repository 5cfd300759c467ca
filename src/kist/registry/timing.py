"""How long a registry may take, and who counts the time. Tests pass a Clock of their own: nothing here sleeps."""

from __future__ import annotations

import random
import time
from threading import Event

from kist.value import Value


class Timing(Value):
    """Every wait has an end. Seconds and bytes."""

    connect_s: float = 20
    idle_s: float = 30  # without a single byte
    document_s: float = 60  # for the headers, and for a body that is read as a whole
    rate_window_s: float = 60  # a blob brings at least `rate_bytes` in each of these
    rate_bytes: int = 60 << 10
    attempts: int = 5  # in a row without progress
    progress_bytes: int = 1 << 20  # what counts as progress
    backoff_s: float = 0.5  # doubled each time
    backoff_most_s: float = 15
    retry_after_most_s: float = 60  # a registry that asks for more is not waited for


class Clock:
    """monotonic(7) seconds, and waiting that an event cuts short."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def wait(self, stop: Event, seconds: float) -> None:
        stop.wait(seconds)

    def jitter(self) -> float:
        """0.5 to 1: clients that failed together do not come back together."""
        return random.uniform(0.5, 1)  # noqa: S311
