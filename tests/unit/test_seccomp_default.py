"""The default seccomp policy, and its programs that come assembled."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_seccomp_bpf import decode, run

from kist.plan._syscalls import FAMILIES, numbers
from kist.plan.facts import CAPABILITIES
from kist.plan.seccomp import assemble
from kist.plan.seccomp_default import assembled, assembled_policy, default_seccomp
from kist.plan.seccomp_policy import assemble_from_scratch

TOOLS = Path(__file__).resolve().parents[2] / "tools"
ALLOW, EPERM, ENOSYS, KILL_PROCESS = 0x7FFF_0000, 0x0005_0001, 0x0005_0026, 0x8000_0000
X86_64, X86, KERNEL = 0xC000_003E, 0x4000_0003, (6, 1)
AF_ALG, AF_NETLINK, AF_VSOCK, AF_XDP = 38, 16, 40, 44
CLONE_VM, CLONE_NEWUSER, CLONE_NEWNS = 0x100, 0x1000_0000, 0x2_0000

NEVER = (
    "add_key keyctl request_key io_uring_setup io_uring_enter io_uring_register userfaultfd kexec_load kexec_file_load"
    " move_pages migrate_pages pivot_root swapon swapoff _sysctl uselib ustat sysfs nfsservctl create_module"
)
WITHOUT_CAPABILITY = (
    "mount umount2 unshare setns bpf perf_event_open fsopen fsmount open_tree move_mount mount_setattr sethostname"
    " syslog quotactl reboot chroot init_module finit_module acct kcmp iopl ioperm settimeofday"
    " clock_settime vhangup mbind open_by_handle_at fanotify_init lookup_dcookie pidfd_getfd process_madvise"
)


def answer(capabilities: set[str], name: str, *args: int, machine: str = "x86_64", arch: int = X86_64) -> int:
    seccomp = default_seccomp(frozenset(capabilities), native_arch=machine, kernel=KERNEL)
    big = machine == "s390x"
    program = decode(assemble(seccomp, native_arch=machine).program, big_endian=big)
    table = numbers("x86" if arch == X86 else machine)
    return run(program, arch, table[name], (*args, *(0,) * (6 - len(args))), big_endian=big)


@pytest.mark.parametrize("name", NEVER.split())
def test_denied_whatever_the_capabilities(name: str) -> None:
    assert answer(set(CAPABILITIES), name) == EPERM


@pytest.mark.parametrize("name", WITHOUT_CAPABILITY.split())
def test_denied_without_capability_and_allowed_with(name: str) -> None:
    assert answer(set(), name) == EPERM
    assert answer(set(CAPABILITIES), name) == ALLOW


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "bpf"),
        ("CAP_BPF", "bpf"),
        ("CAP_PERFMON", "perf_event_open"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_SYS_NICE", "mbind"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ],
)
def test_one_capability_is_enough(capability: str, name: str) -> None:
    assert answer({capability}, name) == ALLOW
    assert answer(set(CAPABILITIES) - {"CAP_SYS_ADMIN", "CAP_BPF", capability}, name) == EPERM


def test_new_namespaces_need_sys_admin() -> None:
    for machine, at in (("x86_64", 0), ("aarch64", 0), ("s390x", 1)):
        arch = {"x86_64": X86_64, "aarch64": 0xC000_00B7, "s390x": 0x8000_0016}[machine]
        before = (0,) * at
        assert answer(set(), "clone", *before, CLONE_VM, machine=machine, arch=arch) == ALLOW
        for flag in (CLONE_NEWUSER, CLONE_NEWNS | CLONE_VM):
            assert answer(set(), "clone", *before, flag, machine=machine, arch=arch) == EPERM
            assert answer({"CAP_SYS_ADMIN"}, "clone", *before, flag, machine=machine, arch=arch) == ALLOW
        assert answer(set(), "clone3", machine=machine, arch=arch) == ENOSYS
        assert answer({"CAP_SYS_ADMIN"}, "clone3", machine=machine, arch=arch) == ALLOW


@pytest.mark.parametrize("high_half", [0, 1 << 32, 0xFFFF_FFFF << 32])
def test_socket_families(high_half: int) -> None:
    """The kernel takes an int: what is above it must neither hide a family nor matter for the others."""
    answers = {family: answer(set(), "socket", high_half | family) for family in (*range(46), 0xFFFF_FFFF)}
    assert {family for family, value in answers.items() if value == EPERM} == {AF_ALG, AF_VSOCK, 0xFFFF_FFFF}
    assert {answers[AF_NETLINK], answers[AF_XDP]} == {ALLOW}


def test_personality() -> None:
    tried = (0, 8, 0x20000, 0x20008, 0xFFFF_FFFF, 1, 0x40000, 1 << 32)
    allowed = {n for n in tried if answer(set(), "personality", n) == ALLOW}
    assert allowed == {0, 8, 0x20000, 0x20008, 0xFFFF_FFFF}


def test_ptrace_by_kernel() -> None:
    old = default_seccomp(frozenset(), native_arch="x86_64", kernel=(4, 7))
    program = decode(assemble(old, native_arch="x86_64").program)
    assert run(program, X86_64, numbers("x86_64")["ptrace"], (0,) * 6) == EPERM
    assert answer(set(), "ptrace") == ALLOW


def test_32_bit_calls_are_filtered_and_x32_killed() -> None:
    assert answer(set(), "mount", arch=X86) == EPERM
    assert answer(set(), "read", arch=X86) == ALLOW
    seccomp = default_seccomp(frozenset(), native_arch="x86_64", kernel=KERNEL)
    program = decode(assemble(seccomp, native_arch="x86_64").program)
    assert run(program, X86_64, 0x4000_0000, (0,) * 6) == KILL_PROCESS


@pytest.mark.parametrize(
    "name", ["statmount", "listmount", "mseal", "fchmodat2", "cachestat", "removexattrat", "futex_wait"]
)
def test_newer_calls_are_allowed(name: str) -> None:
    """Kernel 6.5 to 6.13: too new for the libseccomp that others compare with."""
    assert answer(set(), name) == ALLOW


def test_calls_newer_than_the_policy_do_not_exist() -> None:
    assert [answer(set(), name) for name in ("open_tree_attr", "file_setattr", "listns")] == [ENOSYS] * 3


@pytest.mark.parametrize("machine", FAMILIES)
def test_every_name_is_a_call_on_some_machine(machine: str) -> None:
    """A misspelt name would deny a call in silence."""
    seccomp = default_seccomp(frozenset(CAPABILITIES), native_arch=machine, kernel=KERNEL)
    assert assemble_from_scratch(seccomp, native_arch=machine).unknown == ()


def test_assembled_programs_are_fresh() -> None:
    check = [sys.executable, str(TOOLS / "gen_syscalls_default.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("machine", FAMILIES)
def test_assembled_program_is_the_policy_s(machine: str) -> None:
    seccomp = assembled_policy(machine)
    assert assembled(seccomp, machine) == assemble_from_scratch(seccomp, native_arch=machine).program
    assert assembled(default_seccomp(frozenset(), native_arch=machine, kernel=KERNEL), machine) == b""


def test_default_capabilities_need_no_tables() -> None:
    """On the path of `kist run`: neither the tables of calls nor the assembler are loaded."""
    defaults = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_NET_BIND_SERVICE CAP_SETFCAP CAP_SETGID"
    code = (
        "import sys; from kist.plan.seccomp import assemble; from kist.plan.seccomp_default import default_seccomp\n"
        f"capabilities = frozenset('{defaults} CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT'.split())\n"
        "policy = default_seccomp(capabilities, native_arch='x86_64', kernel=(6, 1))\n"
        "assert len(assemble(policy, native_arch='x86_64').program) > 800\n"
        "print(sorted(name for name in sys.modules if 'seccomp' in name or 'syscalls_' in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = ["kist.plan.seccomp", "kist.plan.seccomp_default", "kist.plan.seccomp_default_x86_64"]
    assert done.stdout == f"{loaded}\n", done.stderr
