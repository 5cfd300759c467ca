"""Seccomp filters in the kernel: each call is made without a filter, too, to see that it is the filter that answers."""

import ctypes
import errno
import faulthandler
import mmap
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from kist.errors import InvalidInput
from kist.plan._syscalls import X32_BIT, numbers
from kist.plan.seccomp import Filter, assemble
from kist.plan.seccomp_bpf import MAX_INSTRUCTIONS
from kist.plan.seccomp_default import default_seccomp
from kist.spec.runtime import Seccomp, SeccompArg, Syscall

MACHINE = os.uname().machine
PR_SET_NO_NEW_PRIVS, SECCOMP_SET_MODE_FILTER = 38, 1
CLONE_FS, CLONE_NEWNS, ADDR_NO_RANDOMIZE, AF_ALG, AF_VSOCK = 0x200, 0x20000, 0x40000, 38, 40
DEFAULT = frozenset({"CAP_CHOWN", "CAP_SETUID", "CAP_SYS_CHROOT"})

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
only_x86_64 = pytest.mark.skipif(MACHINE != "x86_64", reason="needs an x86_64 machine")


class Fprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def default(capabilities: frozenset[str] = DEFAULT) -> Filter:
    return assemble(default_seccomp(capabilities, native_arch=MACHINE, kernel=(6, 1)), native_arch=MACHINE)


def call(name: str, *args: int) -> int:
    """A system call as the kernel sees it: 0 or more, or -errno."""
    return raw(numbers(MACHINE)[name], *args)


def raw(number: int, *args: int) -> int:
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(arg) for arg in (*args, *(0,) * (6 - len(args)))])
    return -ctypes.get_errno() if result == -1 else int(result)


def load(filter: Filter) -> int:
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    program = Fprog(len(filter.program) // 8, filter.program)
    return call("seccomp", SECCOMP_SET_MODE_FILTER, filter.flags, ctypes.addressof(program))


def under(filter: Filter | None, probe: Callable[[], int]) -> int:
    """What the probe gives in a child with the filter; -1000 minus the signal if one killed the child."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if filter and load(filter) < 0:
                os.write(into, b"the kernel refused the filter")
            else:
                os.write(into, str(probe()).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    return -1000 - os.WTERMSIG(status) if os.WIFSIGNALED(status) else int(text)


KILLED, CRASHED = -1000 - signal.SIGSYS, -1000 - signal.SIGSEGV


@pytest.mark.parametrize(
    ("name", "args", "answer"),
    [
        ("unshare", (), errno.EPERM),
        ("setns", (0x7FFF_FFFF,), errno.EPERM),
        ("clone3", (), errno.ENOSYS),
        ("clone", (CLONE_NEWNS | CLONE_FS,), errno.EPERM),
        ("socket", (AF_VSOCK, 1), errno.EPERM),
        ("socket", (AF_ALG, 5), errno.EPERM),
        ("socket", (1 << 32 | AF_VSOCK, 1), errno.EPERM),
        ("socket", (0xFFFF_FFFF << 32 | AF_ALG, 5), errno.EPERM),
        ("personality", (ADDR_NO_RANDOMIZE,), errno.EPERM),
        ("keyctl", (), errno.EPERM),
        ("move_pages", (0, 0, 0, 0, 0, 1), errno.EPERM),
        ("process_madvise", (0x7FFF_FFFF,), errno.EPERM),
        ("get_mempolicy", (), errno.EPERM),
    ],
)
def test_denied_by_the_default_policy(name: str, args: tuple[int, ...], answer: int) -> None:
    assert under(default(), lambda: call(name, *args)) == -answer
    assert under(None, lambda: call(name, *args)) != -answer


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("getpid", ()),
        ("socket", (1, 1)),
        ("socket", (1 << 32 | 1, 1)),
        ("personality", (0xFFFF_FFFF,)),
        ("umask", (0,)),
    ],
)
def test_allowed_by_the_default_policy(name: str, args: tuple[int, ...]) -> None:
    assert under(default(), lambda: call(name, *args)) >= 0


def test_capabilities_open_calls() -> None:
    assert under(default(DEFAULT | {"CAP_SYS_ADMIN"}), lambda: call("unshare")) == 0
    assert under(default(), lambda: call("unshare")) == -errno.EPERM


def test_families_hide_behind_the_high_half_where_64_bits_are_compared() -> None:
    """The control of two cases above: with a condition as in Docker's profile, the kernel gets to see AF_VSOCK."""
    above = SeccompArg(index=0, value=AF_VSOCK, op="SCMP_CMP_GT")
    rules = (
        Syscall(names=("socket",), action="SCMP_ACT_ALLOW", args=(above,)),
        Syscall(
            names=("socket",), action="SCMP_ACT_ERRNO", errno_ret=errno.EPERM, args=(SeccompArg(0, 40, "SCMP_CMP_LE"),)
        ),
    )
    filter = assemble(Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=rules), native_arch=MACHINE)
    assert under(filter, lambda: call("socket", AF_VSOCK, 1)) == -errno.EPERM
    hidden = under(filter, lambda: call("socket", 1 << 32 | AF_VSOCK, 1))
    assert hidden == under(None, lambda: call("socket", AF_VSOCK, 1)) != -errno.EPERM


def test_ordinary_programs_run() -> None:
    """Threads, although clone3 does not exist; child processes; pipes; sockets."""
    program = (
        "import threading, subprocess, socket, sys\n"
        "t = threading.Thread(target=lambda: socket.create_server(('127.0.0.1', 0)).close()); t.start(); t.join()\n"
        "sys.exit(subprocess.run(['/bin/sh', '-c', 'echo 3 | cat | grep -q 3 && exit 7']).returncode)"
    )

    def probe() -> int:
        return os.waitstatus_to_exitcode(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", program]) << 8)

    assert under(default(), probe) == 7


def test_calls_newer_than_the_policy() -> None:
    """ENOSYS, not the default action. The control names a newer call."""
    rest = Syscall(names=tuple(numbers(MACHINE)), action="SCMP_ACT_ALLOW")
    older = Seccomp(default_action="SCMP_ACT_KILL_PROCESS", syscalls=(rest,))
    assert under(assemble(older, native_arch=MACHINE), lambda: raw(9999)) == -errno.ENOSYS
    hole = Seccomp(
        default_action="SCMP_ACT_KILL_PROCESS",
        syscalls=(Syscall(names=tuple(set(numbers(MACHINE)) - {"getsid"}), action="SCMP_ACT_ALLOW"),),
    )
    assert under(assemble(hole, native_arch=MACHINE), lambda: call("getsid")) == KILLED


@only_x86_64
def test_x32_calls_kill() -> None:
    getpid = X32_BIT | numbers("x32")["getpid"]
    assert under(default(), lambda: raw(getpid)) == KILLED
    unfiltered = under(None, lambda: raw(getpid))
    assert unfiltered == -errno.ENOSYS or unfiltered > 0  # the kernel has no x32, or has it


@pytest.fixture
def i386() -> Iterator[Callable[..., int]]:
    """An i386 call from a 64-bit process: mov edi, esi, edx to eax, ebx, ecx; int 0x80."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(bytes.fromhex("53 89f8 89f3 89d1 cd80 5b c3"))
        start = ctypes.c_char.from_buffer(code)
        function = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_uint] * 3)(ctypes.addressof(start))

        def call_i386(name: str, first: int = 0, second: int = 0) -> int:
            return int(function(numbers("x86")[name], first, second))

        if under(None, lambda: call_i386("getpid")) == CRASHED:
            pytest.skip("the kernel runs no i386 calls: CONFIG_IA32_EMULATION")
        yield call_i386
        del start


@only_x86_64
def test_i386_calls_are_filtered_by_their_own_numbers(i386: Callable[..., int]) -> None:
    assert under(default(), lambda: i386("getppid")) == os.getpid()
    assert under(default(), lambda: i386("unshare")) == -errno.EPERM
    assert under(None, lambda: i386("unshare")) == 0
    assert under(default(), lambda: i386("clone3")) == -errno.ENOSYS
    assert under(default(), lambda: i386("socket", AF_VSOCK, 1)) == -errno.EPERM
    assert under(None, lambda: i386("socket", AF_VSOCK, 1)) != -errno.EPERM


@only_x86_64
def test_i386_calls_kill_where_i386_is_not_listed(i386: Callable[..., int]) -> None:
    only_native, both = (
        assemble(Seccomp(default_action="SCMP_ACT_ALLOW", architectures=listed), native_arch=MACHINE)
        for listed in ((), ("SCMP_ARCH_X86",))
    )
    assert under(only_native, lambda: i386("getpid")) == KILLED
    assert under(both, lambda: i386("getpid")) > 0


@pytest.mark.parametrize(
    ("action", "errno_ret", "answer"),
    [
        ("SCMP_ACT_ERRNO", 77, -77),
        ("SCMP_ACT_KILL_PROCESS", None, KILLED),
        ("SCMP_ACT_KILL_THREAD", None, KILLED),
        ("SCMP_ACT_TRAP", None, KILLED),
        ("SCMP_ACT_TRACE", None, -errno.ENOSYS),  # there is no tracer
        ("SCMP_ACT_LOG", None, 0),
    ],
)
def test_actions(action: str, errno_ret: int | None, answer: int) -> None:
    rule = Syscall(names=("unshare",), action=action, errno_ret=errno_ret)
    seccomp = Seccomp(default_action="SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_SPEC_ALLOW",), syscalls=(rule,))
    assert under(assemble(seccomp, native_arch=MACHINE), lambda: call("unshare")) == answer


def test_notify_gives_a_listener() -> None:
    rule = Syscall(names=("unshare",), action="SCMP_ACT_NOTIFY")
    filter = assemble(Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=(rule,)), native_arch=MACHINE)
    assert filter.notify

    def probe() -> int:
        listener = load(filter)
        return int("seccomp notify" in os.readlink(f"/proc/self/fd/{listener}"))

    assert under(None, probe) == 1


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "ppc64le", "riscv64"])
def test_the_kernel_takes_the_filters_of_every_machine(machine: str) -> None:
    """It checks any filter alike: instructions, jumps, length. s390x's have the other byte order."""
    filter = assemble(default_seccomp(DEFAULT, native_arch=machine, kernel=(6, 1)), native_arch=machine)
    # A filter of another machine is loaded, and then kills: all calls here are foreign to it.
    assert under(None, lambda: load(filter)) == (0 if machine == MACHINE else KILLED)


def test_the_longest_filter() -> None:
    """One rule more is refused by the assembler, before the kernel would."""
    longest = None
    for count in range(MAX_INSTRUCTIONS // 4 - 60, MAX_INSTRUCTIONS // 4):
        args = [(SeccompArg(index=0, value=n << 32 | n, op="SCMP_CMP_EQ"),) for n in range(1, count)]
        rules = tuple([Syscall(names=("unshare",), action="SCMP_ACT_LOG", args=arg) for arg in args])
        try:
            longest = assemble(Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=rules), native_arch=MACHINE)
        except InvalidInput:
            break
    assert longest is not None
    assert len(longest.program) // 8 > MAX_INSTRUCTIONS - 20
    assert under(longest, lambda: call("unshare")) == 0
