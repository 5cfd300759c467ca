"""A plan as something to read: text in chapters, JSON, or a shell script that does the same. Pure."""

from __future__ import annotations

from kist.errors import InvalidInput, printable
from kist.plan.steps import ACTORS, FIDELITY, GROUPS, NO_SHELL, Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.steps import Plan


def purpose(entry: Entry) -> str:
    """What the kind of step is for, in one paragraph."""
    return " ".join((type(entry.step).__doc__ or "").split("\n\n")[0].split())


def _wrap(text: str, width: int, indent: str = "# ") -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False)


def _step_lines(index: int, entry: Entry, width: int) -> list[str]:
    step = entry.step
    man = f"  [{step.man}]" if step.man else ""
    lines = _wrap(f"{index} {ACTORS[entry.actor]} {type(step).__name__}: {entry.why}{man}", width)
    shell = step.shell()
    if step.fidelity == NO_SHELL or not shell:
        lines.append("#   (no shell command does this)")
    else:
        for line in shell.split("\n"):
            lines += _wrap(line[2:], width, "#   ") if line.startswith("# ") else [line]
    return lines


def text(plan: Plan, *, width: int = 80, colour: bool = False) -> str:
    """A commented shell transcript in chapters, in the order of execution within each."""
    out = _wrap(
        "Each step: its number in the order of execution, who takes it (host: the supervisor; init: the container's"
        " first process; stage: one in between), what for, its manual page, and the command that does the same.",
        width,
    )
    for group, title in GROUPS.items():
        entries = [(i, e) for i, e in enumerate(plan) if e.group == group]
        if not entries:
            continue
        out += ["", f"## {title}"]
        seen = set()
        for index, entry in entries:
            if type(entry.step) not in seen:
                seen.add(type(entry.step))
                out += ["", *_wrap(purpose(entry), width)]
            out += _step_lines(index, entry, width)
    out = ["\t".join(map(printable, line.split("\t"))) for line in out]
    if colour:
        out = [_coloured(line) for line in out]
    return "\n".join(out) + "\n"


def _coloured(line: str) -> str:
    code = 1 if line.startswith("## ") else 2 if line.startswith("#") else 0
    return f"\033[{code}m{line}\033[0m" if code else line


def as_json(plan: Plan) -> str:
    from kist.codec import dumps

    rows = []
    for index, entry in enumerate(plan):
        step = entry.step
        rows.append(
            {
                "step": index,
                "name": type(step).__name__,
                "actor": ACTORS[entry.actor],
                "group": entry.group,
                "why": entry.why,
                "purpose": purpose(entry),
                "man": step.man,
                "arguments": {name: getattr(step, name) for name in step.__fields__},
                "shell": step.shell(),
                "exact": FIDELITY[step.fidelity],
            }
        )
    return dumps(rows, indent=2)


def one(plan: Plan, index: int, *, width: int = 80) -> str:
    """A single step. Raises InvalidInput when there is no such number."""
    if not 0 <= index < len(plan):
        raise InvalidInput(f"the plan has steps 0 to {len(plan) - 1}", path="--step")
    entry = plan[index]
    return "\n".join([*_wrap(purpose(entry), width), *_step_lines(index, entry, width)]) + "\n"


def script(plan: Plan) -> str:
    """A script for sh that takes the steps which a shell can take, in order, and cleans up behind itself."""
    from kist.plan.script import script as write

    return write(plan)
