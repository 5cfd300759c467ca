"""The tables of system calls."""

import subprocess
import sys
from pathlib import Path

import pytest

from kist.plan._syscalls import ABIS, FAMILIES, MUXED, elsewhere, numbers, parse

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def test_this_machine_knows_no_other_calls() -> None:
    """Stale tables: a newer libseccomp or newer kernel headers are installed. Then: python tools/gen_syscalls.py"""
    done = subprocess.run(
        [sys.executable, str(TOOLS / "gen_syscalls.py"), "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_parse() -> None:
    assert parse("0 read write 7 poll 7 also_poll lseek") == {
        **{"read": 0, "write": 1, "poll": 7},
        **{"also_poll": 7, "lseek": 8},
    }


@pytest.mark.parametrize(
    ("abi", "calls"),
    [
        ("x86_64", {"read": 0, "execve": 59, "socket": 41, "close_range": 436, "listns": 470}),
        ("x86", {"read": 3, "execve": 11, "socket": 359, "socketcall": 102, "close_range": 436}),
        ("x32", {"read": 0, "execve": 520, "rt_sigaction": 512, "close_range": 436}),
        ("aarch64", {"read": 63, "execve": 221, "socket": 198, "close_range": 436}),
        ("arm", {"read": 3, "execve": 11, "socket": 281, "set_tls": 0xF0005}),
        ("ppc64le", {"read": 3, "socket": 326, "swapcontext": 249}),
        ("s390x", {"read": 3, "socket": 359, "s390_pci_mmio_read": 353}),
        ("s390", {"read": 3, "socket": 359, "getuid32": 199}),
        ("riscv64", {"read": 63, "riscv_hwprobe": 258, "riscv_flush_icache": 259}),
    ],
)
def test_numbers(abi: str, calls: dict[str, int]) -> None:
    """Source: the kernel's arch/*/tables/syscall*.tbl, asm-generic/unistd.h."""
    table = numbers(abi)
    assert {name: table.get(name) for name in calls} == calls


@pytest.mark.parametrize("name", [abi.name for abi in ABIS.values()])
def test_names_are_either_here_or_elsewhere(name: str) -> None:
    everywhere = set().union(*[numbers(other.name) for other in ABIS.values()])
    assert numbers(name).keys() | elsewhere(name) == everywhere
    assert not numbers(name).keys() & elsewhere(name)


def test_muxed_abis_have_the_multiplexers() -> None:
    for abi in ABIS.values():
        assert abi.muxed == (MUXED.keys() <= numbers(abi.name).keys())


def test_families_are_of_known_abis() -> None:
    assert {name for family in FAMILIES.values() for name in family} == set(ABIS)
