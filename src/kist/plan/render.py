"""A plan as something to read: text in chapters, JSON, or a shell script. Pure."""

from typing import Any

import msgspec

from kist.plan.steps import Actor, Entry, Exact, Group, Plan

TITLES = {
    Group.NAMESPACES: "Namespaces: what it sees",
    Group.CGROUP: "Cgroup: what it may use",
    Group.ROOTFS: "Root file system",
    Group.DEVICES: "Devices",
    Group.NETWORK: "Network",
    Group.PRIVILEGES: "Privileges",
    Group.EXEC: "The command",
}


def _first_sentence(entry: Entry) -> str:
    return (type(entry.step).__doc__ or "").split("\n\n")[0].replace("\n    ", " ")


def _step_lines(index: int, entry: Entry) -> list[str]:
    step = entry.step
    who = "host" if entry.actor == Actor.HOST else "init"
    name = type(step).__name__
    man = f"   {step.man}" if step.man else ""
    lines = [f"# {index:3} {who}  {name}: {entry.why}{man}"]
    shell = step.shell()
    if not shell or step.exact == Exact.NO:
        lines.append("#     (no shell command does this)")
    else:
        lines += shell.split("\n")
    return lines


def text(plan: Plan) -> str:
    """A commented shell transcript in chapters, in the order of execution within each."""
    out = ["# kist explain: each step, who takes it (the supervisor on the host, or the container's first process,", "# init), why, and its man page. Numbers are the order of execution."]
    for group, title in TITLES.items():
        entries = [(i, e) for i, e in enumerate(plan) if e.group == group]
        if not entries:
            continue
        out += ["", f"## {title}", ""]
        seen = set()
        for index, entry in entries:
            if type(entry.step) not in seen:
                seen.add(type(entry.step))
                out.append(f"# {_first_sentence(entry)}")
            out += _step_lines(index, entry)
    return "\n".join(out) + "\n"


def as_json(plan: Plan) -> str:
    rows: list[dict[str, Any]] = []
    for index, entry in enumerate(plan):
        step = entry.step
        arguments = {k: getattr(step, k) for k in step.__struct_fields__}
        rows.append({
            "step": index, "name": type(step).__name__, "actor": entry.actor.name.lower(),
            "group": entry.group.name.lower(), "why": entry.why, "man": step.man, "arguments": arguments,
            "shell": step.shell(), "exact": step.exact.name.lower(),
        })  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(rows), indent=2).decode()


def one(plan: Plan, index: int) -> str:
    entry = plan[index]
    return "\n".join([f"# {_first_sentence(entry)}", *_step_lines(index, entry)]) + "\n"
