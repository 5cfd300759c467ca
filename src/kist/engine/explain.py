"""`kist explain`: the same plan as `kist run`, rendered instead of executed."""

from kist.engine.run import surroundings
from kist.errors import InvalidInput, Unsupported
from kist.kernel.probe import probe
from kist.plan import render
from kist.plan.compile import compile_run
from kist.plan.request import RunRequest

ID = "0123456789abcdef" * 4


def explain(request: RunRequest, format: str, step: int | None, colour: bool, width: int) -> str:
    """Raises what `kist run` would raise before its first step."""
    around = surroundings(request, ID, f"/run/kist/{ID}/scratch", stdin="pass" if request.interactive else "null")
    plan = compile_run(request, probe(), around).plan
    if step is not None:
        if step >= len(plan):
            raise InvalidInput(f"the plan has steps 0 to {len(plan) - 1}", path="--step")
        return render.one(plan, step)
    if format == "json":
        return render.as_json(plan)
    if format == "script":
        raise Unsupported("a script that runs is not built yet", next="kist explain prints every step as a command")
    return render.text(plan)
