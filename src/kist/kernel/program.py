"""The launcher's program, and becoming it.

It runs from a sealed memfd: no file of the host is reachable as the container's /proc/self/exe (CVE-2019-5736).
"""

from __future__ import annotations

import fcntl

from kist.errors import KistError
from kist.plan.encode import encode
from kist.system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from kist.plan.steps import Plan

_BINARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_launcher")
_F_ADD_SEALS, _F_GET_SEALS, _ALL_SEALS = 1033, 1034, 0xF  # seal, shrink, grow, write


def sealed(name: str, data: bytes) -> int:
    """A memfd nobody can change any more. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_program(like: int = 0) -> int:
    """The launcher as a sealed memfd; may be used for any number of containers. Close it after use.

    `like`: a process that may run one of the same kind. Then that one is used: their pages are in memory once.
    """
    try:
        with open(_BINARY, "rb", buffering=0) as file:
            binary = file.read()
    except FileNotFoundError as e:
        raise KistError("kist's launcher was not built", next="pip install . (it needs a C compiler)") from e
    return _same_program(like, binary) if like else sealed("kist-launcher", binary)


def _same_program(pid: int, binary: bytes) -> int:
    """Whatever the process is by now: only a file with all seals and these bytes is taken."""
    try:
        fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if fcntl.fcntl(fd, _F_GET_SEALS) == _ALL_SEALS and os.pread(fd, len(binary) + 1, 0) == binary:
                return fd
        except OSError:  # no file that could have seals
            pass
        os.close(fd)
    except OSError:
        pass
    return sealed("kist-launcher", binary)


def become(plan: Plan, program: int, keep: Sequence[int], explainer: Sequence[str]) -> NoReturn:
    """Give this process's place to the launcher: signals, terminal and exit status are its own from here on.

    If a step fails it becomes `explainer`, with PLAN-FD STEP ERRNO ARGUMENT WORDS added: see launcher.explain_failure.
    Raises OSError.
    """
    plan_fd = sealed("kist-plan", encode(plan))
    for fd in (plan_fd, *keep):
        os.set_inheritable(fd, True)
    argv = ["kist-launcher", str(plan_fd), "-", "-", *map(str, keep), "--", *explainer]
    os.execve(f"/proc/self/fd/{program}", argv, os.environ)
