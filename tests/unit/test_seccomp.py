"""The assembler of seccomp policies: what it answers, flags and refuses."""

import pytest
from test_seccomp_bpf import decode, run

from kist.errors import InvalidInput, Unsupported
from kist.plan.seccomp import Filter, assemble
from kist.spec.runtime import Seccomp, SeccompArg, Syscall

X86_64, X86, X32_BIT = 0xC000_003E, 0x4000_0003, 0x4000_0000
ALLOW, EPERM, ENOSYS, KILL_PROCESS = 0x7FFF_0000, 0x0005_0001, 0x0005_0026, 0x8000_0000
MINUS_ONE = 0xFFFF_FFFF


def policy(*rules: Syscall, default: str = "SCMP_ACT_ERRNO", architectures: tuple[str, ...] = ()) -> Seccomp:
    return Seccomp(default_action=default, architectures=architectures, syscalls=rules)


def allow(*names: str, args: tuple[SeccompArg, ...] = ()) -> Syscall:
    return Syscall(names=names, action="SCMP_ACT_ALLOW", args=args)


def arg(index: int, op: str, value: int, value_two: int = 0) -> SeccompArg:
    return SeccompArg(index=index, value=value, value_two=value_two, op=f"SCMP_CMP_{op}")


def answer(seccomp: Seccomp, nr: int, *args: int, arch: int = X86_64, machine: str = "x86_64") -> int:
    program = decode(assemble(seccomp, native_arch=machine).program)
    return run(program, arch, nr, (*args, *(0,) * (6 - len(args))))


@pytest.mark.parametrize(
    ("action", "errno_ret", "value"),
    [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, 0x0005_0001),
        ("SCMP_ACT_ERRNO", 0, 0x0005_0000),
        ("SCMP_ACT_ERRNO", 4095, 0x0005_0FFF),
        ("SCMP_ACT_NOTIFY", None, 0x7FC0_0000),
        ("SCMP_ACT_TRACE", None, 0x7FF0_0001),
        ("SCMP_ACT_TRACE", 0xFFFF, 0x7FF0_FFFF),
        ("SCMP_ACT_LOG", 7, 0x7FFC_0000),
    ],
)
def test_actions(action: str, errno_ret: int | None, value: int) -> None:
    """Source: linux/seccomp.h. errnoRet is for ERRNO and TRACE."""
    rule = Syscall(names=("read",), action=action, errno_ret=errno_ret)
    assert answer(policy(rule, default="SCMP_ACT_ALLOW"), 0) == value


def test_default_action_and_its_errno() -> None:
    seccomp = Seccomp(default_action="SCMP_ACT_ERRNO", default_errno_ret=13, syscalls=(allow("read", "uname"),))
    assert [answer(seccomp, nr) for nr in (0, 1, 63)] == [ALLOW, 0x0005_000D, ALLOW]


def test_both_halves_of_an_argument_count() -> None:
    seccomp = policy(allow("read", args=(arg(0, "EQ", 5),)), allow("write", args=(arg(1, "GT", 1 << 32),)))
    assert answer(seccomp, 0, 5) == ALLOW
    assert answer(seccomp, 0, 1 << 32 | 5) == EPERM
    assert answer(seccomp, 1, 0, 2) == EPERM
    assert answer(seccomp, 1, 0, 1 << 32 | 1) == ALLOW


def test_conditions_on_different_arguments_must_all_be_met() -> None:
    seccomp = policy(allow("read", args=(arg(0, "EQ", 1), arg(2, "LE", 9))))
    assert answer(seccomp, 0, 1, 0, 9) == ALLOW
    assert answer(seccomp, 0, 1, 0, 10) == answer(seccomp, 0, 2, 0, 9) == EPERM


def test_conditions_on_one_argument_are_alternatives() -> None:
    """As in runc: an argument named twice makes each condition a rule of its own."""
    seccomp = policy(allow("read", args=(arg(0, "EQ", 1), arg(0, "EQ", 3), arg(1, "EQ", 7))))
    assert [answer(seccomp, 0, first) for first in (1, 2, 3)] == [ALLOW, EPERM, ALLOW]
    assert answer(seccomp, 0, 2, 7) == ALLOW


def test_rules_for_one_call_are_alternatives() -> None:
    seccomp = policy(allow("read", args=(arg(0, "LT", 2),)), allow("read", args=(arg(0, "GE", 8),)))
    assert [answer(seccomp, 0, first) for first in (1, 2, 7, 8)] == [ALLOW, EPERM, EPERM, ALLOW]


def test_a_rule_without_conditions_beats_those_with() -> None:
    deny = Syscall(names=("read",), action="SCMP_ACT_KILL", args=(arg(0, "EQ", 1),))
    assert answer(policy(deny, allow("read")), 0, 1) == ALLOW
    assert answer(policy(allow("read"), deny), 0, 1) == ALLOW


def test_equality_is_looked_at_before_inequality() -> None:
    """Of rules with different actions for one call; as in libseccomp, whatever their order in the policy."""
    wide = allow("read", args=(arg(0, "GE", 0),))
    narrow = Syscall(names=("read",), action="SCMP_ACT_KILL", args=(arg(0, "EQ", 1),))
    for rules in ((wide, narrow), (narrow, wide)):
        assert [answer(policy(*rules), 0, first) for first in (1, 2)] == [0, ALLOW]


def test_of_rules_that_contradict_each_other_the_first_holds() -> None:
    kill, trap = (
        Syscall(names=("read",), action=action, args=(arg(0, "EQ", 1),))
        for action in ("SCMP_ACT_KILL", "SCMP_ACT_TRAP")
    )
    assert answer(policy(kill, trap), 0, 1) == 0
    assert answer(policy(trap, kill), 0, 1) == 0x0003_0000


def test_calls_newer_than_the_policy_do_not_exist() -> None:
    """ENOSYS above the newest call named (close_range, 436), EPERM below; the machine's tables know newer calls."""
    seccomp = policy(allow("read", "close_range"))
    assert [answer(seccomp, nr) for nr in (0, 1, 435, 436, 437, 462, 9999)] == [
        *(ALLOW, EPERM, EPERM, ALLOW, ENOSYS, ENOSYS, ENOSYS)
    ]
    killing = policy(allow("read", "close_range"), default="SCMP_ACT_KILL")
    assert answer(killing, 437) == ENOSYS


def test_where_calls_go_through_by_default_newer_ones_do_too() -> None:
    deny = Syscall(names=("close_range",), action="SCMP_ACT_KILL")
    assert answer(policy(deny, default="SCMP_ACT_ALLOW"), 437) == ALLOW
    assert answer(policy(deny, default="SCMP_ACT_LOG"), 437) == 0x7FFC_0000


def test_private_calls_of_arm_do_not_move_the_horizon() -> None:
    seccomp = policy(allow("close_range", "set_tls"), architectures=("SCMP_ARCH_ARM",))
    arm = [answer(seccomp, nr, arch=0x4000_0028, machine="aarch64") for nr in (436, 437, 0xF0004, 0xF0005, 0xF0006)]
    assert arm == [ALLOW, ENOSYS, ENOSYS, ALLOW, ENOSYS]


def test_architectures_not_listed_are_killed() -> None:
    only_native, with_x86 = policy(allow("read")), policy(allow("read"), architectures=("SCMP_ARCH_X86",))
    assert answer(only_native, 3, arch=X86) == KILL_PROCESS
    assert answer(with_x86, 3, arch=X86) == answer(with_x86, 0) == ALLOW
    assert answer(with_x86, 3, arch=0xC000_00B7) == KILL_PROCESS
    everything = policy(default="SCMP_ACT_ALLOW")
    assert answer(everything, 3, arch=X86) == KILL_PROCESS


def test_x32_is_killed_unless_listed() -> None:
    names = ("read", "close_range", "rt_sigaction")  # 0; 436; 13 on x86_64, 512 on x32
    without, listed = policy(allow(*names)), policy(allow(*names), architectures=("SCMP_ARCH_X32",))
    for nr in (0, 13, 436, 512, 9999, 0x8000_0000):
        assert answer(without, X32_BIT | nr) == KILL_PROCESS
    assert [answer(listed, X32_BIT | nr) for nr in (0, 13, 436, 512, 513)] == [ALLOW, EPERM, ALLOW, ALLOW, ENOSYS]
    assert [answer(listed, nr) for nr in (0, 13, 436, 512)] == [ALLOW, ALLOW, ALLOW, ENOSYS]


def test_a_call_made_void_by_a_tracer_is_not_killed() -> None:
    """Source: seccomp(2): since Linux 4.8 the filter also sees the -1 that a tracer writes to skip a call."""
    assert answer(policy(allow("close_range")), MINUS_ONE) == EPERM


def test_socketcall_and_ipc_follow_the_calls_they_carry() -> None:
    seccomp = policy(
        allow("socket", "shmat"), allow("accept", args=(arg(0, "EQ", 99),)), architectures=("SCMP_ARCH_X86",)
    )
    socketcall = [answer(seccomp, 102, which, arch=X86) for which in (1, 2, 5)]
    assert socketcall == [ALLOW, EPERM, ALLOW]  # socket; bind; accept: its argument is out of BPF's sight
    assert [answer(seccomp, 117, which, arch=X86) for which in (20, 21)] == [EPERM, ALLOW]
    assert [answer(seccomp, nr, arch=X86) for nr in (359, 397)] == [ALLOW, ALLOW]  # the calls' own numbers


def test_big_endian() -> None:
    """s390x: instructions, and the halves of arguments, the other way round."""
    seccomp = policy(allow("read", "close_range", args=(arg(0, "EQ", 1 << 32 | 5),)))
    program = decode(assemble(seccomp, native_arch="s390x").program, big_endian=True)
    assert run(program, 0x8000_0016, 3, (1 << 32 | 5, 0, 0, 0, 0, 0), big_endian=True) == ALLOW
    assert run(program, 0x8000_0016, 3, (5 << 32 | 1, 0, 0, 0, 0, 0), big_endian=True) == EPERM
    assert run(program, 0x8000_0016, 0, (0,) * 6, big_endian=True) == ENOSYS


def test_unknown_names_are_told_and_do_nothing() -> None:
    seccomp = policy(allow("read", "raed", "s390_sthyi", "mmap2", "raed"))
    assert assemble(seccomp, native_arch="x86_64") == Filter(
        assemble(policy(allow("read")), native_arch="x86_64").program, flags=0, notify=False, unknown=("raed",)
    )


def test_flags() -> None:
    flags = ("SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW")
    seccomp = Seccomp(default_action="SCMP_ACT_ALLOW", flags=flags)
    assert assemble(seccomp, native_arch="x86_64").flags == 0b110


def test_notify_asks_for_a_listener() -> None:
    rule = Syscall(names=("mount",), action="SCMP_ACT_NOTIFY")
    seccomp = Seccomp(
        default_action="SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",), syscalls=(rule,)
    )
    result = assemble(seccomp, native_arch="x86_64")
    assert (result.notify, result.flags) == (True, 1 << 3 | 1 << 5)


@pytest.mark.parametrize(
    ("seccomp", "path"),
    [
        (policy(default="SCMP_ACT_DENY"), "$.linux.seccomp.defaultAction"),
        (policy(default="SCMP_ACT_NOTIFY"), "$.linux.seccomp"),
        (policy(allow("read"), Syscall(names=("read",), action="ALLOW")), "$.linux.seccomp.syscalls[1].action"),
        (policy(Syscall(names=("a",), action="SCMP_ACT_ERRNO", errno_ret=4096)), "$.linux.seccomp.syscalls[0].action"),
        (policy(Syscall(names=("a",), action="SCMP_ACT_TRACE", errno_ret=-1)), "$.linux.seccomp.syscalls[0].action"),
        (policy(Syscall(names=("read", "write"), action="SCMP_ACT_NOTIFY")), "$.linux.seccomp"),
        (policy(allow("read", args=(arg(0, "IS", 1),))), "$.linux.seccomp.syscalls[0].args[0].op"),
        (policy(allow("read", args=(arg(6, "EQ", 1),))), "$.linux.seccomp.syscalls[0].args[0].index"),
        (policy(allow("read", args=(arg(0, "EQ", 1 << 64),))), "$.linux.seccomp.syscalls[0].args[0].value"),
        (policy(allow("read", args=(arg(0, "EQ", 1, -1),))), "$.linux.seccomp.syscalls[0].args[0].valueTwo"),
        (policy(architectures=("SCMP_ARCH_VAX",)), "$.linux.seccomp.architectures[0]"),
        (Seccomp(default_action="SCMP_ACT_ALLOW", flags=("LOG",)), "$.linux.seccomp.flags[0]"),
        (
            Seccomp(default_action="SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",)),
            "$.linux.seccomp.flags",
        ),
    ],
)
def test_malformed(seccomp: Seccomp, path: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        assemble(seccomp, native_arch="x86_64")
    assert raised.value.path == path


def test_architectures_of_other_machines_are_left_out() -> None:
    listed = policy(allow("read"), architectures=("SCMP_ARCH_MIPS64", "SCMP_ARCH_AARCH64"))
    assert assemble(listed, native_arch="x86_64") == assemble(policy(allow("read")), native_arch="x86_64")


def test_machine_without_tables() -> None:
    with pytest.raises(Unsupported, match="cannot filter system calls on vax"):
        assemble(policy(), native_arch="vax")


def test_too_long_for_the_kernel() -> None:
    rules = [allow("read", args=(arg(0, "EQ", value << 32 | value),)) for value in range(3000)]
    with pytest.raises(InvalidInput, match="BPF instructions; the kernel takes 4096"):
        assemble(policy(*rules), native_arch="x86_64")


def test_many_conditions_within_the_limit() -> None:
    """Their jumps reach far beyond 255 instructions."""
    rules = [allow("read", "write", "close_range", args=(arg(0, "EQ", value << 32 | value),)) for value in range(900)]
    seccomp = policy(*rules)
    program = decode(assemble(seccomp, native_arch="x86_64").program)
    for nr, value, expected in ((0, 0, ALLOW), (1, 899, ALLOW), (436, 450, ALLOW), (0, 900, EPERM), (2, 0, EPERM)):
        assert run(program, X86_64, nr, (value << 32 | value, 0, 0, 0, 0, 0)) == expected
