"""The plan of a look at a container's files, as they are mounted when it runs, for a program of the host's. Pure.

In a mount namespace of its own, so nothing of it is seen elsewhere and all of it goes with the program; without what
the container may do: no other namespace but, for an ordinary user, the one that has its files' ids.
"""

from __future__ import annotations

from kist.plan import flags as f
from kist.plan.compile import Compiler
from kist.plan.steps import HOST, INIT, Clone, Entry, Exec, Supervise
from kist.spec.runtime import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kist.plan.facts import HostFacts
    from kist.plan.setting import Setting
    from kist.plan.steps import Plan
    from kist.spec.runtime import Spec


def compile_view(spec: Spec, facts: HostFacts, setting: Setting, argv: Sequence[str], env: Sequence[str]) -> Plan:
    """`argv` becomes a program of the host's that finds the root in `setting.files.scratch`/root. `spec` lists a mount
    namespace and perhaps a user namespace. Raises as compile_container."""
    compiler = Compiler(spec, Process((), "/"), facts, setting)
    b, root = compiler.b, compiler.root
    assert b.new & ~(f.CLONE_NEWNS | f.CLONE_NEWUSER) == 0
    root.open_sources()
    compiler.make_processes()
    compiler.settle_namespaces()
    root.make_root()
    root.make_mounts()
    root.seal_mounts()
    b.init("exec", Exec(tuple(argv), tuple(env), ""), "looks at the files")
    b.host("exec", Supervise(), "until it ends")
    return tuple(b.plan)


def plain_plan(argv: Sequence[str], env: Sequence[str]) -> Plan:
    """The same program without any look: it enters by itself what it has to."""
    steps = ((HOST, Clone(INIT, 0)), (INIT, Exec(tuple(argv), tuple(env), "")), (HOST, Supervise()))
    return tuple([Entry(step, actor, "exec", "looks at the files") for actor, step in steps])
