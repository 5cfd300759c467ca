"""What a policy means, worked out call by call from its words; our filters held against that.

The comparison with libseccomp (test_seccomp_libseccomp) uses it to tell libseccomp's known mistakes from ours.
"""

import operator
import random
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from test_seccomp_bpf import decode, run

from kist.plan._syscalls import ABIS, FAMILIES, MUXED, X32_BIT, Abi, numbers
from kist.plan.seccomp import assemble
from kist.plan.seccomp_policy import ACTIONS, OPERATORS, action_value
from kist.spec.runtime import Seccomp, SeccompArg, Syscall
from kist.value import replace

KILL_PROCESS, ENOSYS = 0x8000_0000, 0x0005_0000 | 38
OPS = {
    "SCMP_CMP_NE": operator.ne,
    "SCMP_CMP_LT": operator.lt,
    "SCMP_CMP_LE": operator.le,
    "SCMP_CMP_EQ": operator.eq,
    "SCMP_CMP_GE": operator.ge,
    "SCMP_CMP_GT": operator.gt,
}
LETS_THROUGH = {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"}
Call = tuple[int, int, tuple[int, ...]]  # arch, number, arguments


class Meaning:
    def __init__(self, seccomp: Seccomp, machine: str) -> None:
        self.seccomp = seccomp
        self.default = action_value(seccomp.default_action, seccomp.default_errno_ret, "")
        listed = [name for name in FAMILIES[machine] if name == FAMILIES[machine][0] or name in seccomp.architectures]
        self.abis = {(ABIS[name].audit, ABIS[name].base): ABIS[name] for name in listed}
        self.tables = {abi.name: numbers(abi.name) for abi in self.abis.values()}
        self.named = {abi.name: self._named(abi) for abi in self.abis.values()}

    def _named(self, abi: Abi) -> set[int]:
        names = {name for rule in self.seccomp.syscalls for name in rule.names}
        muxes = {mux for mux, muxed in MUXED.items() if abi.muxed and names & muxed.keys()}
        table = self.tables[abi.name]
        return {table[name] for name in names | muxes if name in table}

    def answers(self, arch: int, nr: int, args: tuple[int, ...]) -> set[int]:
        """The SECCOMP_RET_* that are right: several only where rules with different actions apply."""
        base = X32_BIT if arch == ABIS["SCMP_ARCH_X32"].audit and nr >= X32_BIT else 0
        abi = self.abis.get((arch, base))
        if not abi:
            return {self.default if base and nr == 0xFFFF_FFFF else KILL_PROCESS}
        if self.is_newer(abi, nr - base):
            return {ENOSYS}
        found = self._rules(abi, nr - base)
        if always := [value for args_wanted, value in found if not args_wanted]:
            return {always[0]}
        return {value for wanted, value in found if all(met(arg, args, abi) for arg in wanted)} or {self.default}

    def is_newer(self, abi: Abi, number: int) -> bool:
        horizon = max((n for n in self.named[abi.name] if n < 0xF_0000), default=0)
        if not horizon or self.seccomp.default_action in LETS_THROUGH or number in self.named[abi.name] - {0}:
            return False
        return number > horizon or (number == 0 and abi.name in {"s390", "s390x"})

    def _rules(self, abi: Abi, number: int) -> list[tuple[list[SeccompArg], int]]:
        found, table = [], self.tables[abi.name]
        for rule in self.seccomp.syscalls:
            value = action_value(rule.action, rule.errno_ret, "")
            together = len({arg.index for arg in rule.args}) == len(rule.args)
            for wanted in [list(rule.args)] if together else [[arg] for arg in rule.args]:
                ways = [wanted for name in rule.names if table.get(name) == number]
                for mux, muxed in MUXED.items() if abi.muxed else ():
                    if table[mux] == number:
                        rest = [arg for arg in wanted if arg.index]
                        which = [muxed[name] for name in rule.names if name in muxed]
                        ways += [[SeccompArg(index=0, value=n, value_two=0, op="SCMP_CMP_EQ"), *rest] for n in which]
                found += [
                    ([arg for arg in way if not is_void(arg, abi)], value) for way in ways if value != self.default
                ]
        return found


def is_void(arg: SeccompArg, abi: Abi) -> bool:
    return arg.op == "SCMP_CMP_MASKED_EQ" and not arg.value & (0xFFFF_FFFF_FFFF_FFFF if abi.wide else 0xFFFF_FFFF)


def met(arg: SeccompArg, args: tuple[int, ...], abi: Abi) -> bool:
    seen, value, mask = args[arg.index], arg.value, 0xFFFF_FFFF_FFFF_FFFF if abi.wide else 0xFFFF_FFFF
    if arg.op == "SCMP_CMP_MASKED_EQ":
        return not (seen ^ arg.value_two) & value & mask
    return bool(OPS[arg.op](seen & mask, value & mask))


def calls(seccomp: Seccomp, machine: str, count: int) -> Iterator[Call]:
    """Random calls. A third are calls whose arguments the policy looks at, with arguments near what it asks for."""
    chance = random.Random(1)
    everywhere, watched = [], []
    names = {name for rule in seccomp.syscalls if rule.args for name in rule.names}
    names |= {mux for mux, muxed in MUXED.items() if names & muxed.keys()}
    for abi in [ABIS[name] for name in FAMILIES[machine]]:
        everywhere += [(abi.audit, abi.base + n) for n in (*range(560), *range(0xF_0000, 0xF_0008))]
        everywhere += [(abi.audit, n) for n in (0x3FFF_FFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)]
        watched += [(abi.audit, abi.base + n) for name, n in numbers(abi.name).items() if name in names]
    everywhere += [(arch, n) for arch in (0, 0x4000_0000, 0xC000_0000) for n in (0, 1, 59, 0xFFFF_FFFF)]
    values = {0, 1, 2, 20, 24, 0xFFFF_FFFF, 1 << 32, 1 << 63, (1 << 64) - 1}
    for arg in [arg for rule in seccomp.syscalls for arg in rule.args]:
        for v in (arg.value, arg.value_two, arg.value & arg.value_two):
            near = {v, v + 1, v - 1, v ^ 1 << 32, v | 1 << 63, v & 0xFFFF_FFFF, v ^ 0xFF, ~v, 1 << v.bit_length()}
            values |= {n & (1 << 64) - 1 for n in near}
    choices = sorted(values)
    for _ in range(count):
        arch, nr = chance.choice(watched if watched and chance.random() < 0.33 else everywhere)
        at_random = chance.random() < 0.1
        yield arch, nr, tuple([chance.getrandbits(64) if at_random else chance.choice(choices) for _ in range(6)])


NAMES = "read write socket accept semop shmat socketcall ipc clone getxattrat arch_prctl mmap2 set_tls no_such_call"
VALUES = st.sampled_from([0, 1, 2, 5, 0xFFFF_FFFF, 1 << 32, 1 << 32 | 5, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1)


@st.composite
def policies(draw: st.DrawFn) -> tuple[str, Seccomp]:
    """A machine and a small policy for it."""
    machine = draw(st.sampled_from(["x86_64", "x86_64", *FAMILIES]))
    defaults = st.sampled_from([name for name in ACTIONS if name != "SCMP_ACT_NOTIFY"])
    errno = st.none() | st.integers(0, 4094)  # libseccomp refuses 4095
    args = st.builds(
        SeccompArg,
        index=st.integers(0, 2) | st.integers(0, 5),
        value=VALUES,
        value_two=VALUES,
        op=st.sampled_from(list(OPERATORS)),
    )
    names = st.sampled_from(NAMES.split()) | st.sampled_from(list(numbers(ABIS[FAMILIES[machine][0]].name)))
    rule = st.builds(
        Syscall,
        names=st.lists(names, min_size=1, max_size=3, unique=True).map(tuple),
        action=st.sampled_from(list(ACTIONS)),
        errno_ret=errno,
        args=st.lists(args, max_size=3).map(tuple),
    )
    seccomp = Seccomp(
        default_action=draw(defaults),
        default_errno_ret=draw(errno),
        architectures=draw(st.lists(st.sampled_from(FAMILIES[machine]), unique=True).map(tuple)),
        syscalls=draw(st.lists(rule.map(_without_notified_write), max_size=6).map(tuple)),
    )
    return machine, seccomp


def _without_notified_write(rule: Syscall) -> Syscall:
    """write(2) cannot be notified: with it the listener is handed over."""
    if rule.action != "SCMP_ACT_NOTIFY" or "write" not in rule.names:
        return rule
    return replace(rule, action="SCMP_ACT_TRACE")


@settings(max_examples=100, deadline=None)
@given(policies())
def test_filter_does_what_the_policy_says(drawn: tuple[str, Seccomp]) -> None:
    machine, seccomp = drawn
    meaning = Meaning(seccomp, machine)
    big = machine == "s390x"
    program = decode(assemble(seccomp, native_arch=machine).program, big_endian=big)
    for call in calls(seccomp, machine, 250):
        assert run(program, *call, big_endian=big) in meaning.answers(*call), call
