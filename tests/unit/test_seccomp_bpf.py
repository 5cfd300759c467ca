"""The BPF assembler, held against an interpreter of classic BPF. Other seccomp tests use the interpreter, too."""

import struct
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kist.errors import InvalidInput
from kist.plan.seccomp_bpf import ALL_64, JEQ, JGE, JGT, MAX_INSTRUCTIONS, Assembler, Condition, Entry

Program = list[tuple[int, int, int, int]]
U64 = st.integers(0, ALL_64) | st.integers(0, 3) | st.integers(0, 3).map(lambda n: n << 32 | 1)


def decode(program: bytes, *, big_endian: bool = False) -> Program:
    assert len(program) % 8 == 0
    return list(struct.iter_unpack(">HBBI" if big_endian else "<HBBI", program))


def run(program: Program, arch: int, nr: int, args: tuple[int, ...], *, big_endian: bool = False) -> int:
    """What the kernel would answer: SECCOMP_RET_*."""
    data = [nr, arch, 0, 0]
    for arg in args:
        halves = [arg & 0xFFFF_FFFF, arg >> 32]
        data += reversed(halves) if big_endian else halves
    a, pc = 0, 0
    while True:
        code, jt, jf, k = program[pc]
        pc += 1
        if code == 0x15:
            pc += jt if a == k else jf
        elif code == 0x35:
            pc += jt if a >= k else jf
        elif code == 0x25:
            pc += jt if a > k else jf
        elif code == 0x20:
            a = data[k >> 2]
        elif code == 0x06:
            return k
        elif code == 0x05:
            pc += k
        elif code == 0x54:
            a &= k
        else:
            raise AssertionError(f"instruction {code:#x} is not one that the kernel can follow by itself")


def search(ranges: list[tuple[int, int]]) -> Program:
    out = Assembler()
    out.load(0, out.search(ranges, lambda value: out.ret(value).label))
    return decode(out.program())


@given(st.sets(st.integers(1, 60), max_size=40), st.integers(1, 3))
def test_search_finds_the_range(starts: set[int], outcomes: int) -> None:
    ranges = [(start, i % (outcomes + 1)) for i, start in enumerate([0, *sorted(starts)])]
    program = search(ranges)
    for number in range(64):
        assert run(program, 0, number, ()) == max(r for r in ranges if r[0] <= number)[1]


def test_search_is_short_and_balanced() -> None:
    """Single exceptions in one long range: about 4 instructions for 3 of them, and a logarithmic way to each."""
    ranges = [(n, n % 2) for n in range(401)]
    program = search([(0, 0), *((n, n % 2) for n in range(1, 401))])
    assert len(program) < 300
    assert [run(program, 0, n, ()) for n, _ in ranges] == [value for _, value in ranges]


def test_far_jumps_reach_their_target() -> None:
    """1500 different outcomes: no conditional jump reaches past 255 instructions."""
    ranges = [(n * 3, n) for n in range(1500)]
    program = search(ranges)
    assert {code for code, *_ in program} == {0x20, 0x35, 0x06, 0x05}
    for (first, value), (after, _) in pairwise(ranges):
        assert run(program, 0, first, ()) == run(program, 0, after - 1, ()) == value


def test_far_return_is_repeated_not_jumped_to() -> None:
    program = search([(n, n if n % 2 else 0) for n in range(1000)])
    assert all(run(program, 0, n, ()) == (n if n % 2 else 0) for n in range(1000))


def test_more_than_the_kernel_takes_is_refused() -> None:
    with pytest.raises(InvalidInput, match=f"the kernel takes {MAX_INSTRUCTIONS}"):
        search([(n, n) for n in range(3000)])


COMPARE = {JEQ: lambda a, b: a == b, JGT: lambda a, b: a > b, JGE: lambda a, b: a >= b}


@given(st.integers(0, 5), st.sampled_from([JEQ, JGT, JGE]), U64, U64, st.booleans(), st.booleans(), st.booleans(), U64)
def test_condition(
    arg: int, op: int, value: int, mask: int, negated: bool, wide: bool, big_endian: bool, actual: int
) -> None:
    full = ALL_64 if wide else 0xFFFF_FFFF
    mask = full & mask if op == JEQ else full
    out = Assembler(big_endian=big_endian)
    assume(mask)
    out.enter(out.condition(Condition(arg, op, value & mask, mask, negated, wide), out.ret(1), out.ret(0)))
    program = decode(out.program(), big_endian=big_endian)
    for seen in (actual, value, value + 1 & ALL_64, value - 1 & ALL_64, value ^ 1 << 32, value ^ 1 << 63):
        args = [ALL_64] * 6
        args[arg] = seen
        expected = COMPARE[op](seen & mask, value & mask) != negated
        assert run(program, 0, 0, tuple(args), big_endian=big_endian) == expected


def test_a_word_is_loaded_once_for_several_conditions() -> None:
    out = Assembler()
    entry: Entry = out.ret(0)
    for value in range(20):
        entry = out.condition(Condition(0, JEQ, value, 0xFFFF_FFFF, False, False), out.ret(1), entry)
    out.enter(entry)
    program = decode(out.program())
    assert len(program) == 1 + 20 + 2
    assert [run(program, 0, 0, (n,) + (0,) * 5) for n in (0, 19, 20)] == [1, 1, 0]
