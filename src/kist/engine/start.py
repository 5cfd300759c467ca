"""`kist start`: a container that is kept begins to run, looked after by its supervisor alone, or by this process."""

from __future__ import annotations

import os
import sys

from kist.engine.containers import Container, Containers, Ended, Started
from kist.engine.create import create
from kist.engine.events import note_end, note_start
from kist.engine.health import interval_ms
from kist.engine.logs import log_prefix, log_size
from kist.engine.making import Keeping, Making, make, os_error, own_stdio, say_notes
from kist.errors import Conflict, KistError
from kist.kernel.launcher import Launcher
from kist.kernel.program import become, open_program
from kist.plan.setting import Attend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from kist.engine.prepare import Source
    from kist.plan.setting import Stdio

# What the supervisor's own helpers need to find the same containers.
_ENVIRONMENT = ("KIST_DATA_DIR", "KIST_RUN_DIR", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "HOME", "PATH", "PYTHONPATH",
                "LANG")  # fmt: skip


def start(
    containers: Containers, container: Container, *, restarts: int = 0, source: Source | None = None
) -> None:  # fmt: skip
    """Make it run, in the background. One that runs is fine. `source`: of create_to_start.

    Raises what a step raises (StepFailed with exit_code 126, 127), Conflict (removed meanwhile, being removed).
    """
    with containers.locked(container):
        if container.running:
            return
        stdio = own_stdio(container.config.request, detached=True)
        try:
            launch(begin(containers, container, stdio, restarts=restarts, source=source))
            note_start(container)
        except KistError as e:
            failed(container, e)
            raise


def launch(making: Making) -> None:
    """Hand it over to a launcher, which goes on alone."""
    launcher = None
    try:
        null, program = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), open_program(making.states.any_supervisor())
        try:
            environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
            launcher = Launcher(making.compiled.plan, program, (null, null, null), making.kept_fds, detached=True,
                                environment=environment)  # fmt: skip
        finally:
            os.close(null)
            os.close(program)
        making.close(remove=False)
        making.lend(launcher.started()[1])
        launcher.let_go()
        making.let_go()
    except BaseException as e:
        if launcher is None:
            making.close(remove=True)
        else:
            launcher.close()
            making.let_go()
        if isinstance(e, OSError):
            raise os_error("cannot start the container", e) from e
        raise


def run_kept(request: object, stdio: Stdio, explainer: Sequence[str]) -> NoReturn:
    """`kist run` without --rm: created, and started in the foreground by this process, which does not come back."""
    from kist.plan.request import RunRequest

    assert isinstance(request, RunRequest)
    containers = Containers()
    container = create(request, containers)
    run_in_foreground(containers, container, stdio, explainer)


def run_in_foreground(containers: Containers, container: Container, stdio: Stdio, explainer: Sequence[str]) -> NoReturn:
    """This process becomes the supervisor of a container that is kept, on fds 0, 1, 2."""
    lock = containers.locked(container)
    with lock:
        if container.running:
            raise Conflict(f"{container.name} runs already", next=f"kist attach {container.name}", code="running")
        making = None
        try:
            making = begin(containers, container, stdio)
            say_notes(making, container.config.request)
            note_start(container)
            making.lend(os.getpid())
            become(making.compiled.plan, open_program(), making.kept_fds, (*explainer, container.id))
        except BaseException as e:
            if making:
                making.close(remove=True)
            if isinstance(e, KistError):
                failed(container, e)
            raise


def begin(
    containers: Containers, container: Container, stdio: Stdio, *, restarts: int = 0, source: Source | None = None
) -> Making:
    """With the container locked: its files say that it was started, and all is ready for a launcher."""
    import time

    attached = not stdio.detached
    kept = keeping(container, detached=not attached)
    container.keep_old("started", move=False)
    making = make(container.config.request, stdio, containers.states, attached=True, kept=kept, source=source)
    try:
        note_end(container)
        container.write("started", Started(time.time_ns(), restarts))
        container.keep_old("ended", move=True)
        container.forget("stopped")
    except BaseException:
        making.close(remove=True)
        raise
    return making


def failed(container: Container, e: KistError) -> None:
    """It was not started after all: what is to be said about it, and its exit status. Of what was before that stays."""
    import time

    try:
        container.write("ended", Ended(e.exit_code, ended_ns=time.time_ns(), error=e.what))
        if not container.go_back("started"):
            container.forget("started")
    except (KistError, OSError):
        pass  # no space even for that: the error under way says why it does not run


def keeping(container: Container, *, detached: bool) -> Keeping:
    """What its supervisor does besides supervising."""
    config, path = container.config, container.path
    request = config.request
    run = f"{container.states.base}/{config.id}"
    log_bytes, log_count = log_size(container)
    attend = Attend(
        logs=log_prefix(container),
        log_bytes=log_bytes,
        log_count=log_count,
        socket=f"{run}/attach",
        ended=f"{path}/ended",
        health=_module("kist.engine.health", config.id),
        health_ms=interval_ms(request),
        after=after(config.id) if detached and (request.restart.policy != "no" or request.rm) else (),
    )
    return Keeping(config.id, config.name, path, config.image, attend)


def after(id: str) -> tuple[str, ...]:
    """What a supervisor becomes at the end when there is something left to do: see after.py."""
    return _module("kist.engine.after", id)


def _module(name: str, id: str) -> tuple[str, ...]:
    isolated = "-I" if sys.flags.isolated else "-P"  # never a module of the working directory
    return (sys.executable, isolated, "-m", name, id)
