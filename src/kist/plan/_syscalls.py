"""System call numbers by ABI. The tables, _syscalls_<abi>.py, are generated; only those a filter needs are imported."""

from __future__ import annotations

from kist.value import Value


class Abi(Value):
    """One way to call the kernel, as seccomp(2) sees it."""

    name: str  # as in _syscalls_<name>.py
    audit: int  # seccomp_data.arch: AUDIT_ARCH_* of linux/audit.h
    wide: bool  # arguments count as 64 bits; else only the low half is looked at, as libseccomp does
    base: int = 0  # added to each number
    muxed: bool = False  # socket and System V IPC calls may also come through socketcall(2) and ipc(2)


X32_BIT = 0x4000_0000  # __X32_SYSCALL_BIT: x32 has the audit number of x86_64, and this bit in the call's number

ABIS = {
    "SCMP_ARCH_X86_64": Abi("x86_64", 0xC000_003E, True),
    "SCMP_ARCH_X86": Abi("x86", 0x4000_0003, False, muxed=True),
    "SCMP_ARCH_X32": Abi("x32", 0xC000_003E, False, base=X32_BIT),
    "SCMP_ARCH_AARCH64": Abi("aarch64", 0xC000_00B7, True),
    "SCMP_ARCH_ARM": Abi("arm", 0x4000_0028, False),
    "SCMP_ARCH_PPC64LE": Abi("ppc64le", 0xC000_0015, True, muxed=True),
    "SCMP_ARCH_S390X": Abi("s390x", 0x8000_0016, True, muxed=True),
    "SCMP_ARCH_S390": Abi("s390", 0x0000_0016, False, muxed=True),
    "SCMP_ARCH_RISCV64": Abi("riscv64", 0xC000_00F3, True),
}

# What `uname -m` says: the ABIs such a kernel has, its own first.
FAMILIES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
}

# The first argument of socketcall(2) and ipc(2) for each call that may come through them (linux/net.h, linux/ipc.h).
MUXED = {
    "socketcall": {
        "socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
        "socketpair": 8, "send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14,
        "getsockopt": 15, "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
    },
    "ipc": {
        "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
        "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
    },
}  # fmt: skip


def parse(text: str) -> dict[str, int]:
    """Numbers by name, from the tables' form: a number, then the names from that number on."""
    number, table = 0, {}
    for token in text.split():
        if token.isdecimal():
            number = int(token)
        else:
            table[token] = number
            number += 1
    return table


def numbers(abi: str) -> dict[str, int]:
    """The system calls of an ABI: number by name. x32's are without X32_BIT."""
    return parse(_table(abi, "CALLS"))


def elsewhere(abi: str) -> frozenset[str]:
    """Names of system calls that other ABIs have, and this one has not."""
    return frozenset(_table(abi, "ELSEWHERE").split())


def _table(abi: str, name: str) -> str:
    # Not importlib: `kist run` does without it.
    text: str = getattr(__import__(f"kist.plan._syscalls_{abi}", fromlist=[name]), name)
    return text
