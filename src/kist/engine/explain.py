"""`kist explain`: the same plan as `kist run`, rendered instead of executed."""

from __future__ import annotations

import os

from kist.engine.making import own_stdio
from kist.engine.prepare import Prepared, Source, scratch_for, setting_for
from kist.engine.start import keeping
from kist.engine.state import run_directory
from kist.kernel.probe import probe
from kist.plan import render
from kist.plan.setting import Stdio
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kist.engine.containers import Container
    from kist.network.attach import Attachment
    from kist.plan.facts import HostFacts
    from kist.plan.request import RunRequest
    from kist.plan.setting import Setting
    from kist.plan.steps import Plan

ID = "0123456789abcdef" * 4


def explain(
    request: RunRequest, format: str, step: int | None, colour: bool, width: int, container: Container | None = None
) -> str:
    """`container`: one that is kept, whose `request` it is: what its start in the background would do.

    Raises what `kist run`, or `start`, would raise before its first step.
    """
    id = container.id if container else ID
    path = f"{run_directory(os.environ)}/{id}"
    facts = probe()
    kept = keeping(container, detached=True) if container else None
    source = Source(request, facts, scratch_for(request, facts, f"{path}/scratch"), kept)
    source.pretend = True
    try:
        request = source.request
        stdin = "pass" if request.interactive else "null"
        stdio = own_stdio(request, detached=True) if kept else Stdio(stdin=stdin)
        removals = (path, f"{path}/record", f"{path}/scratch")
        attachment = attachment_of(source, facts, id)
        setting = setting_for(request, id, source, stdio, removals, attached=True, attachment=attachment, kept=kept)
        joined = joined_of(setting)
        if setting.shared and (there := _there())[0]:
            setting, joined = replace(setting, shared=there[0]), {"user": there[1]}
        plan = Prepared(request, facts, setting, source, joined).compiled.plan
    finally:
        source.close()
    return rendered(plan, format, step, colour=colour, width=width)


def rendered(plan: Plan, format: str, step: int | None, *, colour: bool, width: int) -> str:
    if step is not None:
        return render.one(plan, step, width=width)
    if format == "json":
        return render.as_json(plan)
    return render.script(plan) if format == "script" else render.text(plan, width=width, colour=colour)


def attachment_of(source: Source, facts: HostFacts, id: str) -> Attachment | None:
    """As it would be: nothing is taken. Raises what taking it would raise."""
    request = source.request
    if request.pasta:
        from kist.network import pasta

        return pasta.attach(request, facts)
    if not source.cabled:
        if request.needs_cable and not source.relayed:
            from kist.network.publish import check_published

            check_published(request)
        return None
    from kist.engine.state import StateDirectory
    from kist.network.attach import attach

    states = StateDirectory(run_directory(os.environ))
    states.prepare()
    return attach(states, request, facts, id, pretend=True)


def joined_of(setting: Setting) -> Mapping[str, str]:
    """The user namespace that an ordinary user's containers with cables share, on paper."""
    return {"user": setting.shared.replace("/net", "/user")} if setting.shared else {}


def _there() -> tuple[str, str]:
    """What those containers share, if there are any: see network.shared.place."""
    from kist.engine.state import StateDirectory
    from kist.network.attach import database
    from kist.network.shared import place

    states = StateDirectory(run_directory(os.environ))
    with database(states):
        return place(states)
