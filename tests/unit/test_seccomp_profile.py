"""Reading seccomp profiles, in Docker's form and the OCI's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput, KistError
from kist.plan.seccomp import assemble
from kist.plan.seccomp_profile import decode_profile
from kist.spec.runtime import Seccomp, SeccompArg, Syscall

Json = dict[str, object]


def decode(profile: object, *capabilities: str, machine: str = "x86_64", kernel: tuple[int, int] = (6, 1)) -> Seccomp:
    data = profile if isinstance(profile, bytes) else json.dumps(profile).encode()
    return decode_profile(data, capabilities=frozenset(capabilities), native_arch=machine, kernel=kernel)


def names(profile: Json, *capabilities: str, machine: str = "x86_64", kernel: tuple[int, int] = (6, 1)) -> list[str]:
    decoded = decode(profile, *capabilities, machine=machine, kernel=kernel)
    return [name for rule in decoded.syscalls for name in rule.names]


def rules(*calls: Json) -> Json:
    allowed = [{"action": "SCMP_ACT_ALLOW", **call} for call in calls]
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": allowed}


def test_oci_form() -> None:
    arg = {"index": 1, "value": 1 << 63, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/run/agent.sock",
        "listenerMetadata": "who",
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": [arg]},
        ],
    }
    assert decode(profile) == Seccomp(
        default_action="SCMP_ACT_ERRNO",
        default_errno_ret=38,
        architectures=("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"),
        flags=("SECCOMP_FILTER_FLAG_LOG",),
        listener_path="/run/agent.sock",
        listener_metadata="who",
        syscalls=(
            Syscall(names=("read", "write"), action="SCMP_ACT_ALLOW"),
            Syscall(
                names=("mount",),
                action="SCMP_ACT_ERRNO",
                errno_ret=13,
                args=(SeccompArg(index=1, value=1 << 63, value_two=7, op="SCMP_CMP_MASKED_EQ"),),
            ),
        ),
    )


def test_docker_form_of_old() -> None:
    """One `name` a rule; null where there is nothing; members unknown to us."""
    profile = rules({"name": "accept", "args": None, "comment": "", "includes": {}, "excludes": {}, "x": 1})
    assert decode({**profile, "architectures": None, "archMap": None, "flags": None}) == Seccomp(
        default_action="SCMP_ACT_ERRNO", syscalls=(Syscall(names=("accept",), action="SCMP_ACT_ALLOW"),)
    )


@pytest.mark.parametrize(
    ("machine", "architectures"),
    [
        ("x86_64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")),
        ("riscv64", ("SCMP_ARCH_RISCV64",)),
        ("aarch64", ()),
    ],
)
def test_arch_map(machine: str, architectures: tuple[str, ...]) -> None:
    arch_map = [
        {"architecture": "SCMP_ARCH_MIPS64", "subArchitectures": ["SCMP_ARCH_MIPS"]},
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
    ]
    assert decode({**rules(), "archMap": arch_map}, machine=machine).architectures == architectures


def test_capabilities() -> None:
    profile = rules(
        {"names": ["all"], "includes": {"caps": ["CAP_A", "CAP_B"]}},
        {"names": ["neither"], "excludes": {"caps": ["CAP_A", "CAP_B"]}},
        {"names": ["only_a"], "includes": {"caps": ["CAP_A"]}, "excludes": {"caps": ["CAP_B"]}},
    )
    assert names(profile) == ["neither"]
    assert names(profile, "CAP_A") == ["only_a"]
    assert names(profile, "CAP_B") == []
    assert names(profile, "CAP_A", "CAP_B") == ["all"]


def test_architectures_are_named_as_go_does() -> None:
    profile = rules(
        {"names": ["pc"], "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["arm"], "includes": {"arches": ["arm", "arm64"]}},
        {"names": ["not_mainframe"], "excludes": {"arches": ["s390", "s390x"]}},
    )
    assert names(profile) == ["pc", "not_mainframe"]
    assert names(profile, machine="aarch64") == ["arm", "not_mainframe"]
    assert names(profile, machine="s390x") == []


def test_kernel() -> None:
    profile = rules(
        {"names": ["since"], "includes": {"minKernel": "4.8"}}, {"names": ["before"], "excludes": {"minKernel": "4.8"}}
    )
    found = [names(profile, kernel=kernel) for kernel in ((3, 19), (4, 7), (4, 8), (4, 10), (5, 0))]
    assert found == [["before"], ["before"], ["since"], ["since"], ["since"]]


ARG = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}


@pytest.mark.parametrize(
    ("profile", "path"),
    [
        ({}, "$"),
        ([], "$"),
        ({"defaultAction": 1}, "$.defaultAction"),
        ({"defaultAction": "ERRNO"}, "$.defaultAction"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": -1}, "$.defaultAction"),
        ({**rules(), "architectures": ["x86"]}, "$.architectures[0]"),
        ({**rules(), "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]}, "$.archMap"),
        (
            {
                **rules(),
                "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "x32"]}],
            },
            "$.archMap[0].subArchitectures[1]",
        ),
        ({**rules(), "flags": ["SECCOMP_FILTER_FLAG_LOG", "x"]}, "$.flags[1]"),
        (rules({"name": "read", "names": ["write"]}), "$.syscalls[0].name"),
        (rules({}), "$.syscalls[0].names"),
        (rules({"names": ["read", ""]}), "$.syscalls[0].names"),
        (rules({"names": ["read"]}, {"names": [7]}), "$.syscalls[1].names[0]"),
        (rules({"names": ["read"], "action": "SCMP_ACT_MAYBE"}), "$.syscalls[0].action"),
        (rules({"names": ["read"], "args": [ARG, {**ARG, "op": "EQ"}]}), "$.syscalls[0].args[1].op"),
        (rules({"names": ["read"], "args": [{**ARG, "index": 6}]}), "$.syscalls[0].args[0].index"),
        (rules({"names": ["read"], "args": [{**ARG, "value": -1}]}), "$.syscalls[0].args[0].value"),
        (rules({"names": ["read"], "args": [{**ARG, "valueTwo": 1 << 64}]}), "$.syscalls[0].args[0].valueTwo"),
        (rules({"names": ["read"], "args": [{"index": 0, "op": "SCMP_CMP_EQ"}]}), "$.syscalls[0].args[0]"),
        (rules({"names": ["read"], "includes": {"minKernel": "4"}}), "$.syscalls[0].includes.minKernel"),
        (rules({"names": ["read"], "excludes": {"minKernel": "4.8.1"}}), "$.syscalls[0].excludes.minKernel"),
        (
            rules({"names": ["read"], "includes": {"caps": ["CAP_X"], "minKernel": "x"}}),
            "$.syscalls[0].includes.minKernel",
        ),
    ],
)
def test_malformed(profile: object, path: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        decode(profile)
    assert raised.value.path == path


@pytest.mark.parametrize("data", [b"", b"{", b"seccomp", b'{"defaultAction": "\xff"}', b"[" * 100_000, b"\0"])
def test_not_json(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode(data)


WORDS = st.sampled_from(
    ["SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY", "SCMP_CMP_EQ", "SCMP_ARCH_X86", "read", "CAP_BPF", "4.8", ""]
)
MEMBERS = (
    "defaultAction defaultErrnoRet architectures archMap architecture subArchitectures flags syscalls name names action"
    " errnoRet args index value valueTwo op includes excludes caps arches minKernel"
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS.split()), inner, max_size=8),
    max_leaves=30,
)


@given(
    JSON | st.fixed_dictionaries({"defaultAction": WORDS}, optional={"syscalls": JSON, "archMap": JSON, "flags": JSON})
)
def test_any_json_is_decoded_or_refused(profile: object) -> None:
    try:
        seccomp = decode(profile)
    except InvalidInput:
        return
    try:
        assemble(seccomp, native_arch="x86_64")
    except KistError as e:
        assert "SCMP_ACT_NOTIFY" in e.what


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode(data)
