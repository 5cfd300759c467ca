"""`kist explain`: the same plan as `kist run`, rendered instead of executed."""

from __future__ import annotations

import os

from kist.engine.prepare import Prepared, Source, scratch_for, setting_for
from kist.engine.state import run_directory
from kist.kernel.probe import probe
from kist.plan import render
from kist.plan.setting import Stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.compile_cable import Cable
    from kist.plan.facts import HostFacts
    from kist.plan.request import RunRequest

ID = "0123456789abcdef" * 4


def explain(request: RunRequest, format: str, step: int | None, colour: bool, width: int) -> str:
    """Raises what `kist run` would raise before its first step."""
    path = f"{run_directory(os.environ)}/{ID}"
    facts = probe()
    source = Source(request, facts, scratch_for(request, facts, f"{path}/scratch"))
    try:
        request = source.request
        stdio = Stdio(stdin="pass" if request.interactive else "null")
        removals = (path, f"{path}/record", f"{path}/scratch")
        cables = cables_of(request, facts, ID)
        setting = setting_for(request, ID, source, stdio, removals, attached=True, cables=cables)
        plan = Prepared(request, facts, setting, source).compiled.plan
    finally:
        source.close()
    if step is not None:
        return render.one(plan, step, width=width)
    if format == "json":
        return render.as_json(plan)
    return render.script(plan) if format == "script" else render.text(plan, width=width, colour=colour)


def cables_of(request: RunRequest, facts: HostFacts, id: str) -> tuple[Cable, ...]:
    """As they would be: nothing is taken. Raises what taking them would raise."""
    if not request.in_networks:
        if request.publish or request.publish_all:
            from kist.network.publish import check_published

            check_published(request)
        return ()
    from kist.engine.state import StateDirectory
    from kist.network.attach import attach

    states = StateDirectory(run_directory(os.environ))
    states.prepare()
    return attach(states, request, facts, id, pretend=True).cables
