"""The seccomp filter of a container: the BPF program that the kernel runs before each system call.

seccomp_default  the policy of a container that asks for none, and its program, assembled when kist was made
seccomp_profile  reads a policy from a file
seccomp_policy   what a policy means, and its program; imported here only when it is needed: `kist run` with the
                 default capabilities does without
seccomp_bpf      the assembler
_syscalls        numbers by name
"""

from __future__ import annotations

from kist.plan.seccomp_default import assembled
from kist.spec.runtime import Seccomp
from kist.value import Value


class Filter(Value):
    """A program for seccomp(2) SECCOMP_SET_MODE_FILTER."""

    program: bytes  # struct sock_filter[]
    flags: int  # SECCOMP_FILTER_FLAG_*
    notify: bool  # seccomp(2) returns a listener fd, to be sent to Seccomp.listener_path
    unknown: tuple[str, ...] = ()  # names in the policy that no ABI has as a system call; they do nothing


def assemble(seccomp: Seccomp, *, native_arch: str) -> Filter:
    """The program for a policy, on a machine whose `uname -m` is native_arch.

    The machine's own architecture is always listed; those it can't run are left out.
    Raises InvalidInput for what is malformed or needs more than 4096 instructions, Unsupported for another machine.
    """
    if program := assembled(seccomp, native_arch):
        return Filter(program, flags=0, notify=False)
    from kist.plan.seccomp_policy import assemble_from_scratch

    return assemble_from_scratch(seccomp, native_arch=native_arch)
