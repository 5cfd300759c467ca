"""Device rules: the v2 program is run by a small BPF interpreter, the v1 lines by a model of the kernel's list."""

from struct import iter_unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput, Unsupported
from kist.plan.cgroup_devices import device_program, device_rules, device_writes
from kist.spec.runtime import DeviceCgroup

BITS = {"m": 1, "r": 2, "w": 4}
KINDS = {"b": 1, "c": 2}
NOTHING = DeviceCgroup(allow=False, access="rwm")
EVERYTHING = DeviceCgroup(allow=True, access="rwm")


def rule(allow: bool, kind: str = "a", major: int | None = None, minor: int | None = None, access: str = "rwm"):
    return DeviceCgroup(allow=allow, type=kind, major=major, minor=minor, access=access)


NUMBERS = st.sampled_from([None, -1, 0, 1, 3, 2**31 - 1])
RULES = st.lists(
    st.sampled_from([NOTHING, EVERYTHING])
    | st.builds(
        rule,
        st.booleans(),
        st.sampled_from("abc"),
        NUMBERS,
        NUMBERS,
        st.sets(st.sampled_from("rwm"), min_size=1).map("".join),
    ),
    min_size=1,
    max_size=8,
)
REQUESTS = st.tuples(
    st.sampled_from("bc"), st.sampled_from([0, 1, 2, 3, 2**31 - 1]), st.sampled_from([0, 1, 3, 7]), st.integers(1, 7)
)


def expected(rules, kind: str, major: int, minor: int, access: int) -> bool:
    """The meaning: nothing is allowed, and for each bit the last rule that speaks of it decides."""

    def allowed(bit: int) -> bool:
        for r in reversed(rules):
            if r.type not in ("a", kind) or r.major not in (None, -1, major) or r.minor not in (None, -1, minor):
                continue
            if any(BITS[letter] == bit for letter in r.access):
                return r.allow
        return False

    return all(allowed(bit) for bit in BITS.values() if access & bit)


def decode(program: bytes):
    assert len(program) % 8 == 0
    return [(code, regs & 15, regs >> 4, off, imm) for code, regs, off, imm in iter_unpack("<BBhi", program)]


def execute(program: bytes, kind: str, major: int, minor: int, access: int) -> bool:
    """The subset of BPF that the program may use; an unknown instruction or a jump outside fails the test."""
    insns = decode(program)
    context = {0: access << 16 | KINDS[kind], 4: major, 8: minor}
    r: dict[int, int] = {1: -1}
    at = 0
    while True:
        code, dst, src, off, imm = insns[at]
        at += 1
        match code:
            case 0x61:
                assert src == 1
                r[dst] = context[off]
            case 0xBF:
                r[dst] = r[src]
            case 0xB7:
                r[dst] = imm
            case 0x57:
                r[dst] &= imm
            case 0x77:
                r[dst] >>= imm
            case 0x15:
                at += off if r[dst] == imm else 0
            case 0x45:
                at += off if r[dst] & imm else 0
            case 0x16:
                at += off if r[dst] & 0xFFFFFFFF == imm & 0xFFFFFFFF else 0
            case 0x05:
                at += off
            case 0x95:
                assert r[0] in (0, 1)
                return bool(r[0])
            case _:
                raise AssertionError(f"instruction {code:#x}")


@given(RULES, REQUESTS)
def test_program_means_what_the_rules_mean(rules, request_):
    program = device_program(device_rules(rules))
    assert (execute(program, *request_) if program else True) == expected(rules, *request_)


@given(RULES)
def test_every_instruction_can_be_reached(rules):
    insns = decode(device_program(device_rules(rules)))
    reached, todo = set(), [0] if insns else []
    while todo:
        at = todo.pop()
        if at in reached:
            continue
        reached.add(at)
        code, _, _, off, _ = insns[at]
        if code == 0x95:
            continue
        if code != 0x05:
            todo.append(at + 1)
        if code in (0x05, 0x15, 0x16, 0x45):
            assert off >= 0
            todo.append(at + 1 + off)
    assert reached == set(range(len(insns)))  # else the verifier says "unreachable insn"


def v1_allows(lines, kind: str, major: int, minor: int, access: int) -> bool:
    """security/device_cgroup.c: a fresh group allows all; the lines change its default and its exceptions."""
    default, exceptions = True, []
    for file, line in lines:
        allow = file == "devices.allow"
        if line == "a":
            default, exceptions = allow, []
            continue
        assert allow != default  # taking exceptions back needs the exact entry: never used
        k, numbers, letters = line.split()
        ma, mi = (None if n == "*" else int(n) for n in numbers.split(":"))
        exceptions.append((k, ma, mi, sum(BITS[letter] for letter in letters)))
    here = [a for k, ma, mi, a in exceptions if k == kind and ma in (None, major) and mi in (None, minor)]
    return not any(a & access for a in here) if default else any(not access & ~a for a in here)


@given(RULES, REQUESTS)
def test_v1_lines_mean_what_the_rules_mean(rules, request_):
    kind, major, minor, access = request_
    try:
        lines = device_writes(device_rules(rules))
    except Unsupported:
        return
    if v1_allows(lines, *request_):
        assert expected(rules, *request_)
    for bit in BITS.values():  # one v1 entry must cover all bits: two that only overlap together grant less, never more
        if access & bit:
            assert v1_allows(lines, kind, major, minor, bit) == expected(rules, kind, major, minor, bit)


def test_v1_lines():
    rules = [NOTHING, rule(True, "c", 1, 3), rule(True, "a", 8, None, "r"), rule(True, "b", 8, 1, "w")]
    assert device_writes(device_rules(rules)) == (
        ("devices.deny", "a"),
        ("devices.allow", "c 1:3 rwm"),
        ("devices.allow", "b 8:* r"),
        ("devices.allow", "c 8:* r"),
        ("devices.allow", "b 8:1 rw"),
    )


def test_v1_refuses_a_hole_in_a_wildcard_instead_of_ignoring_it():
    with pytest.raises(Unsupported, match="cgroup v1 cannot"):
        device_writes(device_rules([NOTHING, rule(True, "c"), rule(False, "c", 1, 3)]))
    assert device_writes(device_rules([NOTHING, rule(True, "c", 1, 3), rule(False, "c", access="w")])) == (
        ("devices.deny", "a"),
        ("devices.allow", "c 1:3 rm"),
    )


@pytest.mark.parametrize("rules", [[], [EVERYTHING], [NOTHING, EVERYTHING], [EVERYTHING, rule(True, "c", 1, 3)]])
def test_nothing_forbidden_needs_no_filter(rules):
    assert not device_rules(rules).restrict
    assert device_writes(device_rules(rules)) == ()
    assert device_program(device_rules(rules)) == b""


def test_rules_without_a_beginning_start_from_nothing():
    rules = [rule(True, "c", 1, 3)]
    assert device_rules(rules).restrict
    assert not execute(device_program(device_rules(rules)), "c", 1, 5, 2)
    assert device_writes(device_rules(rules))[0] == ("devices.deny", "a")


def test_allow_list():
    assert device_rules([NOTHING, rule(True, "c", 1, 3)]).only_allow
    assert not device_rules([NOTHING, rule(True, "c", 1, 3), rule(False, "c", 1, 3, "w")]).only_allow
    assert not device_rules([EVERYTHING, rule(False, "b", 8, 0)]).only_allow


@pytest.mark.parametrize(
    "bad", [rule(True, "x"), rule(True, "p"), rule(True, access="rx"), rule(True, major=-2), rule(True, minor=2**31)]
)
def test_malformed_rules(bad):
    with pytest.raises(InvalidInput, match=r"devices\[1\]"):
        device_program(device_rules([NOTHING, bad]))


def test_largest_list_still_has_jumps_in_range():
    rules = [rule(i % 2 == 0, "c", i, i, "r") for i in range(2048)]
    program = device_program(device_rules(rules))
    assert execute(program, "c", 0, 0, 2)
    assert not execute(program, "c", 1, 1, 2)
    with pytest.raises(InvalidInput, match="2049"):
        device_program(device_rules([*rules, NOTHING]))
