"""Our filters against libseccomp's, for the same policy and the same calls.

50,000 random calls for the default policy, over its capability sets; a million for each set with KIST_LONG=1.
libseccomp is fed as runc does it, and asked for what
we do on purpose: KILL_PROCESS for foreign architectures. Where a call is newer than the policy, runc does not ask
libseccomp, so these tests don't either.

libseccomp makes mistakes where one call has several conditions with inequalities: it tests a half of an argument that
it has not loaded (2.5.4: the low one, after LT 5 failed, for LT 1 << 32), or changes the wrong action
(GHSA-4q85-33p6-j5g6). An answer of its that no rule gives is not held against us.
"""

import ctypes
import os
import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, reject, settings
from test_seccomp_bpf import Program, decode, run
from test_seccomp_meaning import Meaning, calls, policies

from kist.codec import dumps
from kist.plan._syscalls import ABIS, FAMILIES
from kist.plan.facts import CAPABILITIES
from kist.plan.seccomp import assemble
from kist.plan.seccomp_default import default_seccomp
from kist.plan.seccomp_policy import action_value
from kist.plan.seccomp_profile import decode_profile
from kist.spec.runtime import Seccomp, Syscall
from kist.value import replace

CALLS = 1_000_000 if os.environ.get("KIST_LONG") else 12_500
OPS = {f"SCMP_CMP_{name}": i for i, name in enumerate(["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"], start=1)}
TOKENS = {name: abi.audit for name, abi in ABIS.items()} | {"SCMP_ARCH_X32": 0x4000_003E}
Oracle = Callable[[ctypes.CDLL, Seccomp, str], bytes]
KILL_PROCESS, ENOSYS = 0x8000_0000, 0x0005_0000 | 38
EEXIST, ACT_BADARCH, CTL_OPTIMIZE = 17, 2, 8  # errno.h; enum scmp_filter_attr


class Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Contradiction(Exception):
    """Rules that libseccomp refuses together, or that it does not come to an end with (2.5.4)."""


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp.so.2 is not installed")
    handle, u32 = ctypes.c_void_p, ctypes.c_uint32
    library.seccomp_init.restype = handle
    library.seccomp_release.argtypes = [handle]
    library.seccomp_attr_set.argtypes = [handle, ctypes.c_int, u32]
    library.seccomp_arch_add.argtypes = library.seccomp_arch_remove.argtypes = [handle, u32]
    library.seccomp_rule_add_array.argtypes = [handle, u32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare)]
    library.seccomp_export_bpf.argtypes = [handle, ctypes.c_int]
    return library


def patient_oracle(library: ctypes.CDLL, seccomp: Seccomp, machine: str) -> bytes:
    """The same in a process of its own: it may not come to an end. Raises Contradiction."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        status = 1
        try:
            data = oracle(library, seccomp, machine)
            status = os.write(write, data) != len(data)
        except Contradiction:
            status = 2
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status in (2, -signal.SIGALRM):
        raise Contradiction
    assert status == 0
    return data


def oracle(library: ctypes.CDLL, seccomp: Seccomp, machine: str) -> bytes:
    default = action_value(seccomp.default_action, seccomp.default_errno_ret, "")
    context = library.seccomp_init(default)
    fd = os.memfd_create("bpf")
    try:
        library.seccomp_attr_set(context, ACT_BADARCH, KILL_PROCESS)
        if machine != "x86_64":  # what libseccomp itself runs on
            library.seccomp_arch_remove(context, TOKENS["SCMP_ARCH_X86_64"])
        for name in (FAMILIES[machine][0], *seccomp.architectures):
            assert library.seccomp_arch_add(context, TOKENS[name]) in {0, -EEXIST}
        added = sum([add(library, context, rule, default) for rule in seccomp.syscalls])
        if added:  # before 2.6, a binary tree without rules is broken
            library.seccomp_attr_set(context, CTL_OPTIMIZE, 2)
        assert library.seccomp_export_bpf(context, fd) == 0
        return os.pread(fd, 1 << 20, 0)
    finally:
        os.close(fd)
        library.seccomp_release(context)


def add(library: ctypes.CDLL, context: int, rule: Syscall, default: int) -> int:
    """As runc's matchCall. Returns how many rules were added."""
    value = action_value(rule.action, rule.errno_ret, "")
    if value == default:
        return 0
    compares = [Compare(arg.index, OPS[arg.op], arg.value, arg.value_two) for arg in rule.args]
    together = len({arg.index for arg in rule.args}) == len(rule.args)
    added = 0
    for name in rule.names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        for group in [compares] if together else [[one] for one in compares]:
            error = library.seccomp_rule_add_array(context, value, number, len(group), (Compare * len(group))(*group))
            if error == -EEXIST:
                raise Contradiction
            assert error == 0, os.strerror(-error)
            added += 1
    return added


def known(library: ctypes.CDLL, seccomp: Seccomp) -> Seccomp:
    """The policy without the names that this libseccomp does not know."""
    rules = []
    for rule in seccomp.syscalls:
        names = [name for name in rule.names if library.seccomp_syscall_resolve_name(name.encode()) != -1]
        rules.append(replace(rule, names=tuple(names)))
    return replace(seccomp, syscalls=tuple(rules))


def programs(library: ctypes.CDLL, seccomp: Seccomp, machine: str, ask: Oracle = oracle) -> tuple[Program, Program]:
    big = machine == "s390x"
    mine = decode(assemble(seccomp, native_arch=machine).program, big_endian=big)
    theirs = decode(ask(library, seccomp, machine), big_endian=big)
    if big:  # generating for the other byte order, libseccomp forgets to turn some of what is returned
        turned = {int.from_bytes(k.to_bytes(4, "big"), "little"): k for code, _, _, k in mine if code == 6}
        theirs = [(code, jt, jf, turned.get(k, k) if code == 6 else k) for code, jt, jf, k in theirs]
    return mine, theirs


def check(library: ctypes.CDLL, seccomp: Seccomp, machine: str, count: int, ask: Oracle = oracle) -> None:
    seccomp = known(library, seccomp)
    mine, theirs = programs(library, seccomp, machine, ask)
    meaning = Meaning(seccomp, machine)
    big = machine == "s390x"
    # libseccomp merges inequalities half by half: which of two actions goes first may depend on the half.
    orderly = sum("EQ" not in arg.op for rule in seccomp.syscalls for arg in rule.args) < 2
    found = []
    for call in calls(seccomp, machine, count):
        ours, expected = run(mine, *call, big_endian=big), run(theirs, *call, big_endian=big)
        if ours != expected:
            right = meaning.answers(*call)
            if right != {ENOSYS} and expected in right and (orderly or len(right) == 1):
                found.append(f"{[hex(n) for n in (*call[:2], *call[2])]}: {ours:#x}, libseccomp {expected:#x}")
            else:
                assert ours in right, call
    assert not found, "\n".join([f"{len(found)} differences", *found[:5]])


CAPABILITY_SETS = {
    "none": frozenset[str](),
    "default": frozenset({"CAP_CHOWN", "CAP_SYS_CHROOT"}),
    "admin": frozenset({"CAP_SYS_ADMIN", "CAP_SYS_CHROOT"}),
    "all": frozenset(CAPABILITIES),
}


@pytest.mark.parametrize("capabilities", CAPABILITY_SETS)
@pytest.mark.parametrize("machine", FAMILIES)
def test_default_policy(library: ctypes.CDLL, machine: str, capabilities: str) -> None:
    seccomp = default_seccomp(CAPABILITY_SETS[capabilities], native_arch=machine, kernel=(6, 1))
    check(library, seccomp, machine, CALLS if machine == "x86_64" else CALLS // 10)


ALLOWED = (
    "read write close_range accept accept4 connect socketcall execve exit_group fork futex futex_time64 mmap mmap2 recv"
    " rt_sigaction rt_sigreturn sigreturn semop semget set_tls breakpoint select _newselect send uname"
)
DOCKER_FORM = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {"names": ALLOWED.split(), "action": "SCMP_ACT_ALLOW"},
        {"name": "ptrace", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        *[
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": value, "op": op}]}
            for value, op in ((38, "SCMP_CMP_LT"), (39, "SCMP_CMP_EQ"), (40, "SCMP_CMP_GT"))
        ],
        {"names": ["mount", "clone"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"]},
        },
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
    ],
}
DENYING = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
    "syscalls": [
        {"names": ["keyctl", "add_key", "io_uring_setup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        {"names": ["unshare", "no_such_call"], "action": "SCMP_ACT_KILL_PROCESS"},
        {
            "names": ["prctl", "ioctl"],
            "action": "SCMP_ACT_TRAP",
            "args": [
                {"index": 1, "value": 0x5412, "op": "SCMP_CMP_EQ"},
                {"index": 2, "value": 1 << 40, "op": "SCMP_CMP_GE"},
            ],
        },
        {
            "names": ["personality"],
            "action": "SCMP_ACT_LOG",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_NE"} for value in (0, 8)],
        },
    ],
}


@pytest.mark.parametrize("capability", ["CAP_CHOWN", "CAP_SYS_ADMIN"])
@pytest.mark.parametrize("profile", [DOCKER_FORM, DENYING], ids=["allowing", "denying"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_profiles_in_docker_form(library: ctypes.CDLL, machine: str, profile: object, capability: str) -> None:
    data = dumps(profile).encode()
    if machine == "aarch64":
        data = data.replace(b"SCMP_ARCH_X86_64", b"SCMP_ARCH_AARCH64").replace(b"SCMP_ARCH_X32", b"SCMP_ARCH_ARM")
    seccomp = decode_profile(data, capabilities=frozenset({capability}), native_arch=machine, kernel=(6, 1))
    check(library, seccomp, machine, CALLS)


@pytest.mark.parametrize("machine", FAMILIES)
def test_programs_are_at_most_half_as_long(library: ctypes.CDLL, machine: str) -> None:
    seccomp = known(library, default_seccomp(CAPABILITY_SETS["default"], native_arch=machine, kernel=(6, 1)))
    mine, theirs = programs(library, seccomp, machine)
    assert 2 * len(mine) <= len(theirs)


@settings(
    max_examples=CALLS // 100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@given(policies())
def test_small_policies(library: ctypes.CDLL, drawn: tuple[str, Seccomp]) -> None:
    machine, seccomp = drawn
    try:
        check(library, seccomp, machine, 250, patient_oracle)
    except Contradiction:
        reject()
