"""A plan as a script for sh: each step that a shell can take, in the order of execution, by whom it is taken.

The first process's steps are a script within the script, given to `sh -c` by unshare(1); where the shell must be
started anew (another unshare, chroot), the rest is once more a script within. Steps that no shell command takes are
comments. At the end it removes what the launcher would undo, in reverse.
"""

from __future__ import annotations

import shlex

from kist.plan.flags import unshare_options
from kist.plan.rare_steps import Netlink
from kist.plan.steps import (
    HOST,
    INIT,
    NO_SHELL,
    BoundingSet,
    Capabilities,
    CgroupMake,
    Chroot,
    Clone,
    CreateFile,
    DieWithParent,
    Exec,
    Mkdir,
    Mount,
    MoveRoot,
    NewTree,
    NoNewPrivs,
    SetGroups,
    SetIds,
    Setns,
    Setsid,
    Unshare,
    cap_words,
    variable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.steps import Entry, Plan

_HEAD = """\
#!/bin/sh
# The container that `kist explain --script` was asked about, by hand. Run it as the user who would run kist.
# It needs util-linux and iproute2, and setsid, setpriv and env inside the container, too.
set -eu"""
# The number of unshare's child, as soon as there is one.
_CHILDREN = '/proc/"$child"/task/"$child"/children'  # numbers with a space behind each
_INIT_PID = f'until init_pid=$(cat {_CHILDREN}) && init_pid=${{init_pid%% *}} && [ "$init_pid" ]; do :; done'

_NO_COMMAND = "#   (no shell command does this)"

_HEAD_OF_STEPS = """\
#!/bin/sh
# What `kist explain --script` was asked about, by hand. Run it as the user who would run kist. It needs util-linux and
# iproute2.
set -aeu"""


def script(plan: Plan) -> str:
    if not any(isinstance(entry.step, Clone) for entry in plan):
        return _steps_alone(plan)
    host: list[str] = [_HEAD, *_directories(plan)]
    init: list[list[str]] = [[]]  # a new list after each step that starts the shell anew
    undo: list[str] = [f"rmdir {shlex.quote(path)}" for path in reversed(_mount_points(plan))]
    privileges = _Privileges()
    clone_at = len(host)
    for index, entry in enumerate(plan):
        step = entry.step
        lines = host if entry.actor == HOST else init[-1]
        if isinstance(step, Clone) and step.child == INIT:
            clone_at = len(host)
        lines.append(f"# {index} {type(step).__name__}: {entry.why}")
        if isinstance(step, (CgroupMake, Mkdir)) and not step.keep and entry.actor == HOST:
            undo.insert(0, f"rmdir {shlex.quote(step.path)}")
        if isinstance(step, CreateFile):
            undo.insert(0, f"rm -f {shlex.quote(step.path)}")
        if isinstance(step, NewTree):
            at = f'"$fd{step.slot}"'
            undo.insert(0, f"umount {at} && rmdir {at}")
        if isinstance(step, Netlink) and step.at_end:
            undo = [*step.typed(), *undo]
            lines.append("#   (at the end)" if step.typed() else _NO_COMMAND)
            continue
        if privileges.take(step):
            continue
        lines += _commands(entry, privileges)
        if isinstance(step, Clone):
            lines.append(_INIT_PID)
        if isinstance(step, (Unshare, Setns, Chroot, MoveRoot)) and entry.actor != HOST:
            init.append([])
    host.insert(clone_at, _nested("init", init))
    end = ["# what was made is removed again", *(f"{line} || true" for line in undo), "exit $status", ""]
    return "\n".join([*host, *end])


def _steps_alone(plan: Plan) -> str:
    """Of a plan that starts no process."""
    parts: list[list[str]] = [[_HEAD_OF_STEPS]]
    entered: list[str] = []  # by one nsenter(1): from within the first, the file of the next cannot be opened
    entered_as: list[str] = []
    for index, entry in enumerate(plan):
        step = entry.step
        if entered and not isinstance(step, Setns):
            parts[-1].append(f'exec nsenter --preserve-credentials {" ".join(entered)} sh -euc "$rest"')
            parts.append(entered_as)
            entered, entered_as = [], []
        parts[-1].append(f"# {index} {type(step).__name__}{': ' * bool(entry.why)}{entry.why}")
        if isinstance(step, Setns):
            entered.append(f'{unshare_options(step.flags)}="${variable(step.target)}"')
            entered_as.append(f"{variable(step.target)}=/proc/self/ns/{unshare_options(step.flags).strip('-')}")
        else:
            parts[-1] += _commands(entry, _Privileges())
    lines, others = parts[0], parts[1:]
    if others:
        lines.insert(len(lines) - 1, _nested("rest", others))
    return "\n".join([*lines, ""])


def _commands(entry: Entry, privileges: _Privileges) -> list[str]:
    step = entry.step
    if isinstance(step, Exec):
        return [privileges.command(step)]
    if step.fidelity == NO_SHELL or not step.shell():
        return [_NO_COMMAND]
    return step.shell().split("\n")


def _nested(variable: str, parts: list[list[str]]) -> str:
    """A shell variable that holds the first part; the others are in it, as $rest."""
    first, *others = parts
    lines = list(first)
    if others:
        lines.insert(len(lines) - 1, _nested("rest", others))
    end = f"END_{len(parts)}"
    return "\n".join([f"{variable}=$(cat <<'{end}'", *lines, end, ")"])


def _mount_points(plan: Plan) -> list[str]:
    """Directories of the host that kist makes before the plan begins, outermost first."""
    mounts = [e.step for e in plan if isinstance(e.step, Mount) and e.step.fstype == "tmpfs"]
    return [path for m in mounts for path in (m.target.rpartition("/")[0], m.target) if path.count("/") > 1]


def _directories(plan: Plan) -> list[str]:
    return [f"mkdir -p {shlex.quote(path)}" for path in _mount_points(plan)[-1:]]


class _Privileges:
    """Steps that setpriv(1) and setsid(1) take together, when they start the command."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}
        self.setsid = False

    def take(self, step: object) -> bool:
        if isinstance(step, BoundingSet):
            self.words["--bounding-set"] = cap_words(step.keep)
        elif isinstance(step, SetGroups):
            ids = [str(int.from_bytes(step.groups[i : i + 4], "little")) for i in range(0, len(step.groups), 4)]
            self.words |= {"--groups": ",".join(ids)} if ids else {"--clear-groups": ""}
        elif isinstance(step, SetIds):
            self.words |= {"--reuid": str(step.uid), "--regid": str(step.gid)}
        elif isinstance(step, Capabilities):
            self.words["--inh-caps"] = cap_words(step.inheritable)
            if step.ambient:
                self.words["--ambient-caps"] = cap_words(step.ambient)
        elif isinstance(step, NoNewPrivs):
            self.words["--no-new-privs"] = ""
        elif isinstance(step, DieWithParent):
            self.words["--pdeathsig"] = "KILL"
        elif isinstance(step, Setsid):
            self.setsid = True
        else:
            return False
        return True

    def command(self, step: Exec) -> str:
        words = " ".join(f"{word}={value}" if value else word for word, value in self.words.items())
        env = " ".join(shlex.quote(e) for e in step.env)
        argv = " ".join(shlex.quote(a) for a in step.argv)
        return f"exec {'setsid ' if self.setsid else ''}setpriv {words} env -i {env} {argv}"
