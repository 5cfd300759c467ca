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


def own_sockets(native_arch: str) -> Filter:
    """Sockets of those families only that no network namespace's walls are open to: unix, IPv4, IPv6, netlink, packet.

    It goes with the container's filter, which people may choose, for --allow-net. What makes sockets where no filter
    sees of which family is not there: socketcall(2), with which 32-bit programs reach the hypervisor, and io_uring."""
    from kist.plan._syscalls import FAMILIES
    from kist.plan.seccomp_policy import ENOSYS, assemble_from_scratch, family_of
    from kist.spec.runtime import SeccompArg, Syscall

    family_of(native_arch)
    rules = [Syscall(names=("socketcall", "io_uring_setup"), action="SCMP_ACT_ERRNO", errno_ret=ENOSYS)]
    for mask, value in _OTHER_FAMILIES:
        arg = SeccompArg(index=0, op="SCMP_CMP_MASKED_EQ", value=mask & 0xFFFF_FFFF, value_two=value)
        rules.append(Syscall(names=("socket",), action="SCMP_ACT_ERRNO", errno_ret=_EAFNOSUPPORT, args=(arg,)))
    policy = Seccomp(default_action="SCMP_ACT_ALLOW", architectures=FAMILIES[native_arch], syscalls=tuple(rules))
    return assemble_from_scratch(policy, native_arch=native_arch)


_EAFNOSUPPORT = 97
# All but 1, 2, 10, 16 and 17, as (mask, value) of the low half; from 64 on there are none.
_OTHER_FAMILIES = ((~0, 0), (~0, 3), (~3, 4), (~1, 8), (~0, 11), (~3, 12), (~1, 18), (~3, 20), (~7, 24), (~31, 32))
