"""A plan as a script for sh: each step that a shell can take, in the order of execution, by whom it is taken.

The first process's steps are a script within the script, given to `sh -c` by unshare(1). Steps that no shell command
takes are comments. Its cleanup is what the launcher undoes, in reverse.
"""

from __future__ import annotations

import shlex

from kist.plan.steps import (
    HOST,
    INIT,
    NO_SHELL,
    BoundingSet,
    Capabilities,
    CgroupMake,
    Clone,
    CreateFile,
    DieWithParent,
    Exec,
    Mkdir,
    NoNewPrivs,
    SetGroups,
    SetIds,
    Setsid,
    Supervise,
    cap_words,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.steps import Entry, Plan

_HEAD = """\
#!/bin/sh
# The container of `kist explain`, by hand. Run as the user who would run kist; needs util-linux.
set -eu
"""


def _comment(index: int, entry: Entry) -> str:
    return f"# {index} {type(entry.step).__name__}: {entry.why}"


def script(plan: Plan) -> str:
    host: list[str] = [_HEAD.rstrip()]
    init: list[str] = []
    undo: list[str] = []
    privileges = _Privileges()
    for index, entry in enumerate(plan):
        step, lines = entry.step, host if entry.actor == HOST else init
        if isinstance(step, Clone) and step.child == INIT:
            host.append("__INIT__")
        lines.append(_comment(index, entry))
        if isinstance(step, (CgroupMake, Mkdir)) and not step.keep and entry.actor == HOST:
            undo.insert(0, f"rmdir {shlex.quote(step.path)}")
        if isinstance(step, CreateFile):
            undo.insert(0, f"rm -f {shlex.quote(step.path)}")
        if privileges.take(step):
            continue
        if isinstance(step, Exec):
            lines.append(privileges.command(step))
        elif step.fidelity == NO_SHELL or not step.shell():
            lines.append("#   (no shell command does this)")
        else:
            lines += step.shell().split("\n")
        if isinstance(step, Clone):
            lines.append("init_pid=$(ps -o pid= --ppid $child || true)  # unshare's child")
        if isinstance(step, Supervise) and undo:
            lines += ["# what was made is removed again", *(f"{line} || true" for line in undo)]
    quoted = "init=$(cat <<'END_OF_INIT'\n" + "\n".join(init) + "\nEND_OF_INIT\n)"
    return "\n".join([line if line != "__INIT__" else quoted for line in host] + ["exit $status", ""])


class _Privileges:
    """Steps that setpriv(1) and setsid(1) take together, when they start the command."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.setsid = False
        self.effective = 0

    def take(self, step: object) -> bool:
        if isinstance(step, BoundingSet):
            self.words.append(f"--bounding-set={cap_words(step.keep)}")
        elif isinstance(step, SetGroups):
            ids = [str(int.from_bytes(step.groups[i : i + 4], "little")) for i in range(0, len(step.groups), 4)]
            self.words.append(f"--groups={','.join(ids)}" if ids else "--clear-groups")
        elif isinstance(step, SetIds):
            self.words = [w for w in self.words if not w.startswith(("--reuid", "--regid"))]
            self.words += [f"--reuid={step.uid}", f"--regid={step.gid}"]
        elif isinstance(step, Capabilities):
            self.words.append(f"--inh-caps={cap_words(step.inheritable)}")
            if step.ambient:
                self.words.append(f"--ambient-caps={cap_words(step.ambient)}")
        elif isinstance(step, NoNewPrivs):
            self.words.append("--no-new-privs")
        elif isinstance(step, DieWithParent):
            self.words = [w for w in self.words if w != "--pdeathsig=KILL"] + ["--pdeathsig=KILL"]
        elif isinstance(step, Setsid):
            self.setsid = True
        else:
            return False
        return True

    def command(self, step: Exec) -> str:
        env = " ".join(shlex.quote(e) for e in step.env)
        argv = " ".join(shlex.quote(a) for a in step.argv)
        session = "setsid " if self.setsid else ""
        return f"exec {session}setpriv {' '.join(self.words)} env -i {env} {argv}"
