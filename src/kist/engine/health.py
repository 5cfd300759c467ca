"""Health checks: a command inside a container says now and then whether it is well.

python -m kist.engine.health ID       what its supervisor starts again and again
Source: Dockerfile reference, "HEALTHCHECK"; docker run.
"""

from __future__ import annotations

import os
import sys

from kist.engine.containers import Container, Containers
from kist.errors import Conflict, InvalidInput, KistError
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.kernel.launcher import Launcher
    from kist.plan.request import RunRequest

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
INTERVAL_S, TIMEOUT_S, RETRIES, START_INTERVAL_S = 30.0, 30.0, 3, 5.0
KEPT, OUTPUT_BYTES = 5, 4096
TIMED_OUT = -1


class Check(Value):
    """`code`: the command's exit status; TIMED_OUT; 0 is well."""

    started_ns: int
    ended_ns: int
    code: int
    output: str = ""


class Health(Value):
    """`run_ns`: of which run of the container, as in `Started.at_ns`. `checks`: the last ones, the oldest first."""

    run_ns: int
    status: str = STARTING
    streak: int = 0  # how many have failed since the last success
    checks: tuple[Check, ...] = ()


def health_of(container: Container) -> Health | None:
    """What is known of this run. None: it has no health check, or was never started."""
    started = container.started
    if not container.config.request.health_cmd or not started:
        return None
    found = container.load(Health, "health")
    return found if found and found.run_ns == started.at_ns else Health(started.at_ns)


def interval_ms(request: RunRequest) -> int:
    """How often its supervisor starts a check; 0: never. While it starts they may be more frequent: see `is_due`."""
    if not request.health_cmd:
        return 0
    seconds = request.health_interval_s or INTERVAL_S
    if request.health_start_period_s:
        seconds = min(seconds, request.health_start_interval_s or START_INTERVAL_S)
    return max(int(seconds * 1000), 1)


def is_due(request: RunRequest, health: Health, now_ns: int) -> bool:
    """Whether it is time for the next check."""
    if _starts(request, health, now_ns) or not health.checks:
        return True
    seconds = request.health_interval_s or INTERVAL_S
    return now_ns - health.checks[-1].ended_ns >= (seconds - 0.1) * 1e9


def _starts(request: RunRequest, health: Health, now_ns: int) -> bool:
    """Within its start period, and not well yet: failures do not count."""
    since_ns = now_ns - health.run_ns
    return health.status == STARTING and since_ns < (request.health_start_period_s or 0) * 1e9


def after_check(request: RunRequest, health: Health, check: Check) -> Health:
    """What follows from one more result."""
    checks = (*health.checks, check)[-KEPT:]
    if check.code == 0:
        return Health(health.run_ns, HEALTHY, 0, checks)
    if _starts(request, health, check.started_ns):
        return Health(health.run_ns, health.status, health.streak, checks)
    streak = health.streak + 1
    status = UNHEALTHY if streak >= (request.health_retries or RETRIES) else health.status
    return Health(health.run_ns, status, streak, checks)


def check(container: Container) -> Health:
    """Run the command now, and note how it went.

    Raises InvalidInput when it has none, Conflict when it does not run or is paused: then nothing is noted.
    """
    request = container.config.request
    if not request.health_cmd:
        raise InvalidInput(
            f"{container.name} has no health check", next="kist run --health-cmd", code="no-health-check"
        )
    before = health_of(container)
    assert before is not None
    found = after_check(request, before, _run(container, request))
    container.write("health", found)
    return found


def _run(container: Container, request: RunRequest) -> Check:
    import time

    from kist.engine.execute import ExecRequest, prepare_exec
    from kist.kernel.launcher import Launcher
    from kist.kernel.program import open_program

    started_ns = time.time_ns()
    compiled = prepare_exec(container, ExecRequest(request.health_cmd))
    null, program, (reads, writes) = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), open_program(), os.pipe()
    try:
        launcher = Launcher(compiled.plan, program, (null, writes, writes))
    finally:
        for fd in (null, program, writes):
            os.close(fd)
    try:
        code, output = _wait(launcher, reads, request.health_timeout_s or TIMEOUT_S)
    except Conflict:
        raise
    except KistError as e:
        code, output = e.exit_code, e.what
    finally:
        launcher.close()
        os.close(reads)
    return Check(started_ns, time.time_ns(), code, output)


def _wait(launcher: Launcher, reads: int, seconds: float) -> tuple[int, str]:
    """Until it has closed its output, or the time is over: then it is killed."""
    import time
    from select import select

    deadline, kept = time.monotonic() + seconds, bytearray()
    while select([reads], [], [], max(deadline - time.monotonic(), 0))[0]:
        data = os.read(reads, 1 << 16)
        if not data:
            return launcher.wait().status, kept.decode("utf-8", "replace")
        kept += data[: OUTPUT_BYTES - len(kept)]
    return TIMED_OUT, f"the health check took longer than {seconds:g} s"


def main(argv: list[str]) -> int:
    import time

    try:
        container = Containers().find(argv[0])
        health = health_of(container)
        if health and is_due(container.config.request, health, time.time_ns()):
            check(container)
    except KistError:
        return 1  # it has just ended, or is paused: nobody is here to be told
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
