"""Read a seccomp profile: the file of `--security-opt seccomp=FILE`, in Docker's form or the OCI's.

Docker's form is the OCI's `linux.seccomp` and more: archMap in place of architectures, and rules that hold only with or
without certain capabilities, architectures (named as Go does) or kernels. What holds here becomes the OCI's form.

Source: github.com/moby/profiles, seccomp; OCI runtime spec, config-linux.md, "Seccomp".
"""

from __future__ import annotations

from kist.codec import decode_text
from kist.errors import InvalidInput
from kist.plan.seccomp_policy import action_value, check_architecture, condition, family_of, flag_bits
from kist.spec.runtime import Seccomp, SeccompArg, Syscall
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}  # by `uname -m`, where they differ


class _Json(Value):
    case: ClassVar[str] = "camel"


class _When(_Json):
    caps: tuple[str, ...] | None = None
    arches: tuple[str, ...] | None = None
    min_kernel: str | None = None


class _Arg(_Json):
    index: int
    value: int
    op: str
    value_two: int = 0


class _Call(_Json):
    action: str
    names: tuple[str, ...] | None = None
    name: str | None = None
    errno_ret: int | None = None
    args: tuple[_Arg, ...] | None = None
    includes: _When | None = None
    excludes: _When | None = None


class _ArchMap(_Json):
    architecture: str
    sub_architectures: tuple[str, ...] | None = None


class _Profile(_Json):
    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = None
    arch_map: tuple[_ArchMap, ...] | None = None
    flags: tuple[str, ...] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[_Call, ...] | None = None


class _Host(Value):
    capabilities: frozenset[str]
    arch: str
    kernel: tuple[int, int]


def decode_profile(data: bytes, capabilities: frozenset[str], native_arch: str, kernel: tuple[int, int]) -> Seccomp:
    """The policy for a container with these capabilities in its bounding set, on this machine (`uname -m`) and kernel.

    Every rule is checked, also those that don't hold here.
    Raises InvalidInput with the JSON path of what is wrong; Unsupported for a machine kist has no tables for.
    """
    profile = _decode(data)
    host = _Host(capabilities, GO_NAMES.get(native_arch, native_arch), kernel)
    action_value(profile.default_action, profile.default_errno_ret, "$.defaultAction")
    rules = []
    for i, call in enumerate(profile.syscalls or ()):
        rule = _rule(call, f"$.syscalls[{i}]")
        if _holds(call, host, f"$.syscalls[{i}]"):
            rules.append(rule)
    flags = profile.flags
    flag_bits(flags or (), any(rule.action == "SCMP_ACT_NOTIFY" for rule in rules), "$.flags")
    return Seccomp(
        default_action=profile.default_action,
        default_errno_ret=profile.default_errno_ret,
        architectures=_architectures(profile, family_of(native_arch)[0]),
        flags=flags,
        listener_path=profile.listener_path or "",
        listener_metadata=profile.listener_metadata or "",
        syscalls=tuple(rules),
    )


def _decode(data: bytes) -> _Profile:
    return decode_text(_Profile, data, "the seccomp profile")


def _architectures(profile: _Profile, own: str) -> tuple[str, ...]:
    if profile.architectures and profile.arch_map:
        raise InvalidInput("give either architectures or archMap, not both", path="$.archMap")
    for i, name in enumerate(profile.architectures or ()):
        check_architecture(name, f"$.architectures[{i}]")
    for i, entry in enumerate(profile.arch_map or ()):
        if entry.architecture == own:
            for j, name in enumerate(entry.sub_architectures or ()):
                check_architecture(name, f"$.archMap[{i}].subArchitectures[{j}]")
            return own, *(entry.sub_architectures or ())
    return profile.architectures or ()


def _rule(call: _Call, path: str) -> Syscall:
    if call.name and call.names:
        raise InvalidInput("give either name or names, not both", path=f"{path}.name")
    names = call.names if call.names is not None else (call.name or "",)
    if "" in names:
        raise InvalidInput("a rule needs the names of system calls", path=f"{path}.names")
    action_value(call.action, call.errno_ret, f"{path}.action")
    args = []
    for i, arg in enumerate(call.args or ()):
        args.append(SeccompArg(index=arg.index, value=arg.value, value_two=arg.value_two, op=arg.op))
        condition(args[-1], f"{path}.args[{i}]")
    return Syscall(names=names, action=call.action, errno_ret=call.errno_ret, args=tuple(args))


def _holds(call: _Call, host: _Host, path: str) -> bool:
    """`includes` must all be true, and nothing of `excludes`."""
    wanted, unwanted = call.includes or _When(), call.excludes or _When()
    since = _kernel(wanted.min_kernel, f"{path}.includes.minKernel")
    until = _kernel(unwanted.min_kernel, f"{path}.excludes.minKernel")
    return (
        host.capabilities.issuperset(wanted.caps or ())
        and (not wanted.arches or host.arch in wanted.arches)
        and (since is None or host.kernel >= since)
        and host.capabilities.isdisjoint(unwanted.caps or ())
        and host.arch not in (unwanted.arches or ())
        and (until is None or host.kernel < until)
    )


def _kernel(version: str | None, path: str) -> tuple[int, int] | None:
    if not version:
        return None
    major, _, minor = version.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and version.isascii() and len(version) <= 7):
        raise InvalidInput(f"{version!r} is not a kernel version", path=path, next='write it as in "5.12"')
    return int(major), int(minor)
