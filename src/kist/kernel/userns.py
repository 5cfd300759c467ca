"""Run a program as root of a user namespace with this user's subordinate ids: for files that belong to all of them."""

from __future__ import annotations

import os

from kist.kernel.launcher import Launcher
from kist.kernel.probe import probe
from kist.kernel.program import open_program
from kist.plan import flags
from kist.plan.compile import map_words
from kist.plan.config import id_mappings
from kist.plan.steps import HOST, INIT, Await, Clone, Entry, Exec, IdMapHelper, SetIds, Signal, Supervise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kist.plan.facts import HostFacts
    from kist.plan.steps import Plan


def has_other_ids(facts: HostFacts) -> bool:
    """Whether this ordinary user's containers have users besides root: then files can belong to them."""
    return facts.uid != 0 and facts.user_namespaces and len(id_mappings(facts, "uid")) > 1


def user_plan(argv: Sequence[str], facts: HostFacts) -> Plan:
    """`argv` as root of a user namespace with the ids of this user's containers."""
    why = "files belong to the ids that containers have"
    helpers = [
        IdMapHelper((helper, "$init_pid", *map_words(id_mappings(facts, kind))))
        for helper, kind in ((facts.newuidmap, "uid"), (facts.newgidmap, "gid"))
    ]
    env = tuple([f"{key}={value}" for key, value in os.environ.items()])
    steps = [
        (HOST, Clone(INIT, flags.CLONE_NEWUSER)), *((HOST, helper) for helper in helpers), (HOST, Signal()),
        (INIT, Await()), (INIT, SetIds(0, 0)), (INIT, Exec(tuple(argv), env, "")), (HOST, Supervise()),
    ]  # fmt: skip
    return tuple([Entry(step, actor, "namespaces", why) for actor, step in steps])


def become_root_of(namespace: int) -> None:
    """From here on this process is root of that user namespace, which is open, and of nothing else. Raises OSError.

    Only for a process with one thread. Source: setns(2), user_namespaces(7).
    """
    import ctypes

    if ctypes.CDLL(None, use_errno=True).setns(namespace, flags.CLONE_NEWUSER):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    try:
        os.setgroups([])
    except PermissionError:
        pass  # denied in this namespace: user_namespaces(7), /proc/PID/setgroups
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


class Unshared:
    """`argv` under way in there; iterate over the lines it prints. Its status is known after the last one.

    Raises OSError, KistError (step-failed, launcher-killed). Leaving it early kills the program.
    """

    def __init__(self, argv: Sequence[str], data: bytes) -> None:
        self.status = -1
        read, write = os.pipe2(os.O_CLOEXEC)
        given = os.memfd_create("input", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(given), "wb") as file:
                file.write(data)
            os.lseek(given, 0, os.SEEK_SET)
            program = open_program()
            try:
                self._launcher = Launcher(user_plan(argv, probe()), program, (given, write, 2))
            finally:
                os.close(program)
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(given)
            os.close(write)
        self._lines = os.fdopen(read, "rb")

    def __iter__(self) -> Iterator[bytes]:
        yield from self._lines
        self.status = self._launcher.wait().status

    def __enter__(self) -> Unshared:
        return self

    def __exit__(self, *exc: object) -> None:
        self._lines.close()
        self._launcher.close()
