"""What a seccomp policy, OCI `linux.seccomp`, means, and the BPF program that does it.

What a policy means is what libseccomp and runc make of it; tests hold us to it. On purpose different:
- A call of an architecture that is not listed kills the process; libseccomp kills the thread, which leaves the rest of
  the process waiting for it. x32 counts as such (its bit in the number of an x86_64 call), before anything else.
- Where rules for one call contradict each other and libseccomp gives up (EEXIST), the first one holds. Where several
  inequalities with different actions fit a call, libseccomp's choice may depend on the halves of the argument.
- Calls that may also come through socketcall(2) or ipc(2) count for the horizon below, as all others do; arm's private
  calls (0xf0000 and up) don't.

The horizon: a call with a number above all that the policy names is newer than the policy, whose author could not have
allowed it: it gets ENOSYS, so that programs fall back to what they did before the call existed; EPERM would make them
fail (glibc and clone3). This is runc's rule (libcontainer/seccomp/patchbpf). The newest call in our tables would be the
wrong horizon: it says what kist knows, not what the policy's author knew. It does not apply where the default action
lets calls through: then the kernel itself answers ENOSYS.

Source: OCI runtime spec, config-linux.md, "Seccomp"; seccomp(2); libseccomp 2.5.
"""

from __future__ import annotations

from kist.errors import InvalidInput, Unsupported
from kist.plan._syscalls import ABIS, FAMILIES, MUXED, X32_BIT, Abi, elsewhere, numbers
from kist.plan.seccomp import Filter
from kist.plan.seccomp_bpf import ALL_32, ALL_64, ARCH, JEQ, JGE, JGT, NUMBER, Assembler, Condition
from kist.spec.runtime import Seccomp, SeccompArg, Syscall
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

EPERM, ENOSYS = 1, 38
KILL_PROCESS, ALLOW = 0x8000_0000, 0x7FFF_0000  # SECCOMP_RET_*, linux/seccomp.h
ERRNO, TRACE, NOTIFY, LOG = 0x0005_0000, 0x7FF0_0000, 0x7FC0_0000, 0x7FFC_0000
ACTIONS = {
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_NOTIFY": NOTIFY,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
# By operator: the BPF comparison, and whether to negate it.
OPERATORS = {
    "SCMP_CMP_NE": (JEQ, True),
    "SCMP_CMP_LT": (JGE, True),
    "SCMP_CMP_LE": (JGT, True),
    "SCMP_CMP_EQ": (JEQ, False),
    "SCMP_CMP_GE": (JGE, False),
    "SCMP_CMP_GT": (JGT, False),
    "SCMP_CMP_MASKED_EQ": (JEQ, False),
}
NEW_LISTENER, WAIT_KILLABLE = 1 << 3, 1 << 5
# TSYNC is about the other threads of the one who loads the filter: the launcher has none.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": WAIT_KILLABLE,
}
FOREIGN = (  # the OCI's other architectures: none is run by a machine that kist knows
    "MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PARISC PARISC64 LOONGARCH64 M68K SH SHEB"
)
ARM_PRIVATE = 0xF_0000

Conditions = tuple[Condition, ...]  # all must be met
Target = int | tuple[tuple[Conditions, int], ...]  # SECCOMP_RET_*, or rules to try in turn; the last has no conditions


class _Rule(Value):
    names: tuple[str, ...]
    value: int  # SECCOMP_RET_*
    alternatives: tuple[Conditions, ...]  # one of them must be met


def assemble_from_scratch(seccomp: Seccomp, *, native_arch: str) -> Filter:
    """`seccomp.assemble`, without the programs assembled beforehand."""
    family = family_of(native_arch)
    where = "$.linux.seccomp"
    for i, name in enumerate(seccomp.architectures):
        check_architecture(name, f"{where}.architectures[{i}]")
    default = action_value(seccomp.default_action, seccomp.default_errno_ret, f"{where}.defaultAction")
    rules = [_prepare(rule, f"{where}.syscalls[{i}]") for i, rule in enumerate(seccomp.syscalls)]
    notify = _notifies(default, rules, where)
    flags = flag_bits(seccomp.flags or (), notify, f"{where}.flags")

    abis = [ABIS[name] for name in family if name == family[0] or name in seccomp.architectures]
    tables = {abi.name: numbers(abi.name) for abi in abis}
    sections: dict[int, list[tuple[int, Target]]] = {}
    for abi in abis:
        ranges = _ranges(abi, tables[abi.name], rules, default)
        below = sections.get(abi.audit, [])
        sections[abi.audit] = [r for r in below if r[0] < abi.base] + ranges

    out = Assembler(big_endian=native_arch == "s390x")
    start = out.ret(KILL_PROCESS).label
    for audit, ranges in reversed(sections.items()):
        section = out.load(NUMBER, out.search(ranges, lambda target: _write(out, target)))
        start = out.jump(JEQ, audit, section, start)
    out.load(ARCH, start)
    return Filter(out.program(), flags, notify, _unknown(rules, abis, tables))


def family_of(native_arch: str) -> tuple[str, ...]:
    """The ABIs that this machine can run, its own first. Raises Unsupported for a machine kist has no tables for."""
    if native_arch not in FAMILIES:
        raise Unsupported(
            f"cannot filter system calls on {native_arch}",
            why=f"kist has system call tables for {', '.join(FAMILIES)}",
            next="run with --security-opt seccomp=unconfined",
        )
    return FAMILIES[native_arch]


def check_architecture(name: str, path: str) -> None:
    if name not in ABIS and name.removeprefix("SCMP_ARCH_") not in FOREIGN.split():
        raise InvalidInput(f"unknown architecture {name!r}", path=path, next="write it as in SCMP_ARCH_X86_64")


def action_value(action: str, errno_ret: int | None, path: str) -> int:
    """SECCOMP_RET_* with its data. For TRACE the data is what the tracer gets to see."""
    if action not in ACTIONS:
        raise InvalidInput(f"unknown action {action!r}", path=path, next=f"use one of {', '.join(ACTIONS)}")
    value = ACTIONS[action]
    if value not in {ERRNO, TRACE}:
        return value
    data = EPERM if errno_ret is None else errno_ret
    limit = 4095 if value == ERRNO else 0xFFFF  # MAX_ERRNO; SECCOMP_RET_DATA
    if not 0 <= data <= limit:
        raise InvalidInput(f"errno {data} is not in 0..{limit}", path=path)
    return value | data


def condition(arg: SeccompArg, path: str) -> Condition:
    if arg.op not in OPERATORS:
        raise InvalidInput(f"unknown operator {arg.op!r}", path=f"{path}.op", next=f"use one of {', '.join(OPERATORS)}")
    if not 0 <= arg.index <= 5:
        raise InvalidInput(f"a system call has arguments 0 to 5, not {arg.index}", path=f"{path}.index")
    for name, number in (("value", arg.value), ("valueTwo", arg.value_two)):
        if not 0 <= number <= ALL_64:
            raise InvalidInput(f"{number} is not an unsigned number of 64 bits", path=f"{path}.{name}")
    op, negated = OPERATORS[arg.op]
    if arg.op == "SCMP_CMP_MASKED_EQ":
        return Condition(arg.index, op, arg.value_two & arg.value, arg.value, negated, wide=True)
    return Condition(arg.index, op, arg.value, ALL_64, negated, wide=True)


def flag_bits(flags: Iterable[str], notify: bool, path: str) -> int:
    """SECCOMP_FILTER_FLAG_* for seccomp(2)."""
    bits = NEW_LISTENER if notify else 0
    for i, flag in enumerate(flags):
        if flag not in FLAGS:
            raise InvalidInput(f"unknown flag {flag!r}", path=f"{path}[{i}]", next=f"use one of {', '.join(FLAGS)}")
        bits |= FLAGS[flag]
    if bits & WAIT_KILLABLE and not notify:
        raise InvalidInput("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY", path=path)
    return bits


def _prepare(rule: Syscall, path: str) -> _Rule:
    value = action_value(rule.action, rule.errno_ret, f"{path}.action")
    conditions = tuple([condition(arg, f"{path}.args[{i}]") for i, arg in enumerate(rule.args)])
    if len({c.arg for c in conditions}) < len(conditions):
        # An argument named twice: each condition is a rule of its own, as in runc since its first days.
        return _Rule(tuple(rule.names), value, tuple([(c,) for c in conditions]))
    return _Rule(tuple(rule.names), value, (tuple(sorted(conditions)),))


def _notifies(default: int, rules: Iterable[_Rule], path: str) -> bool:
    if default == NOTIFY:
        raise InvalidInput("SCMP_ACT_NOTIFY can't be the default: not even its own set-up would run", path=path)
    notifying = [rule for rule in rules if rule.value == NOTIFY]
    if any("write" in rule.names for rule in notifying):
        raise InvalidInput("SCMP_ACT_NOTIFY cannot be used for the write syscall: the set-up needs it", path=path)
    return bool(notifying)


def _ranges(abi: Abi, table: Mapping[str, int], rules: Sequence[_Rule], default: int) -> list[tuple[int, Target]]:
    """What happens to each number from 0 to 2^32-1, as ranges of equal outcome."""
    targets = _targets(abi, table, rules, default)
    named = _named(abi, table, rules)
    horizon = max([number for number in named if number < ARM_PRIVATE], default=0)
    targets |= {number: default for number in named if number >= ARM_PRIVATE and number not in targets}
    beyond: Target = default
    if horizon and default not in {ALLOW, LOG} and default & 0xFFFF_0000 != TRACE:
        beyond = ERRNO | ENOSYS
        if abi.name in {"s390", "s390x"}:
            targets[0] = beyond  # the number the kernel shows for calls it does not know
    starts: dict[int, Target] = {0: default, horizon + 1: beyond}
    for number in targets:
        starts.setdefault(number + 1, default if number < horizon else beyond)
    starts |= targets
    if abi.name == "x86_64":
        starts[X32_BIT] = KILL_PROCESS
        starts[ALL_32] = default  # -1: a tracer made the call void, see seccomp(2)
    ranges: list[tuple[int, Target]] = []
    for start in sorted(starts):
        if not ranges or ranges[-1][1] != starts[start]:
            ranges.append((abi.base + start, starts[start]))
    return ranges


def _named(abi: Abi, table: Mapping[str, int], rules: Iterable[_Rule]) -> list[int]:
    """The calls that the policy names, whatever it says of them."""
    named = [table[name] for rule in rules for name in rule.names if name in table]
    if abi.muxed:
        names = {name for rule in rules for name in rule.names}
        named += [table[mux] for mux, calls in MUXED.items() if not names.isdisjoint(calls)]
    return named


def _targets(abi: Abi, table: Mapping[str, int], rules: Iterable[_Rule], default: int) -> dict[int, Target]:
    """What is done for each number that the policy names. The first rule without conditions goes before all others."""
    always: dict[int, Target] = {}
    if_met: dict[int, list[tuple[Conditions, int]]] = {}

    def add(number: int, conditions: Conditions, value: int) -> None:
        if not abi.wide:
            conditions = tuple([c.narrow() for c in conditions])
        conditions = tuple([c for c in conditions if c.mask])
        if conditions:
            if_met.setdefault(number, []).append((conditions, value))
        else:
            always.setdefault(number, value)

    for rule in rules:
        if rule.value == default:
            continue
        for conditions in rule.alternatives:
            for name in rule.names:
                if name in table:
                    if conditions:
                        add(table[name], conditions, rule.value)
                    else:
                        always.setdefault(table[name], rule.value)
            others = tuple([c for c in conditions if c.arg])  # mux(2)'s first argument says which call it is
            names = frozenset(rule.names)
            for mux, calls in MUXED.items() if abi.muxed else ():
                for name in [name for name in calls if name in names]:
                    call = Condition(0, JEQ, calls[name], ALL_64, negated=False, wide=True)
                    add(table[mux], (call, *others), rule.value)
    for number, tried in if_met.items():
        always.setdefault(number, (*_ordered(tried), ((), default)))
    return always


def _ordered(rules: list[tuple[Conditions, int]]) -> list[tuple[Conditions, int]]:
    """The rules in the order to try them. It matters only where actions differ: libseccomp then looks at higher
    arguments first, at equality before less-than before greater-than, and at the narrower of two inequalities."""
    if len({value for _, value in rules}) == 1:
        return rules
    ordered: list[tuple[Conditions, int]] = []
    for rule in rules:
        position = next((i for i, other in enumerate(ordered) if _goes_before(rule[0], other[0])), len(ordered))
        ordered.insert(position, rule)
    return ordered


def _goes_before(conditions: Conditions, others: Conditions) -> bool:
    mine, theirs = ([step for c in of for step in _steps(c)] for of in (conditions, others))
    for (step, rank), (other, other_rank) in zip(mine, theirs, strict=False):
        if step != other:
            return rank > other_rank
    return False


def _steps(c: Condition) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The tests of 32 bits that libseccomp makes of a condition: what each is, and its rank."""
    below = c.negated and c.op != JEQ
    kind = 3 if c.op == JEQ else 2 if below else 1
    low, high = c.value & ALL_32, c.value >> 32
    steps: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    if c.wide:
        op = JEQ if c.op == JEQ else JGT
        steps.append(((c.arg, 1, op, high, c.mask >> 32), (c.arg, 1, kind, -high if below else high)))
    return [*steps, ((c.arg, 0, c.op, low, c.mask & ALL_32), (c.arg, 0, kind, -low if below else low))]


def _write(out: Assembler, target: Target) -> int:
    """The code for what happens to a call; returns its label."""
    if isinstance(target, int):
        return out.ret(target).label
    *rules, (_, otherwise) = target
    entry = out.ret(otherwise)
    for conditions, value in reversed(rules):
        met = out.ret(value)
        for c in reversed(conditions):
            met = out.condition(c, met, entry)
        entry = met
    return out.enter(entry)


def _unknown(rules: Iterable[_Rule], abis: Sequence[Abi], tables: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    known = elsewhere(abis[0].name).union(*tables.values())
    return tuple(dict.fromkeys([name for rule in rules for name in rule.names if name not in known]))
