"""Which devices a container may open or make: an ordered rule list, as v1 file writes or as a v2 BPF program.

The list starts from "nothing is allowed"; each rule then grants or takes access bits, and the last rule that speaks of
a bit decides about it. Source: OCI config-linux.md, "Allowed Device list"; kernel cgroup-v1/devices.rst, cgroup-v2.rst
"Device controller".
"""

from __future__ import annotations

from kist.errors import InvalidInput, Unsupported
from kist.spec.runtime import DeviceCgroup
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# uapi/linux/bpf.h: BPF_DEVCG_ACC_*, BPF_DEVCG_DEV_*
ACCESS = {"m": 1, "r": 2, "w": 4}
ALL = 7
KINDS = {"b": 1, "c": 2}
ANY = -1
MAX_RULES = 2048  # keeps every jump of the program within 16 bits

_Key = tuple[str, int, int]  # "b", "c" or "a" for both; major and minor or ANY


# What every container needs, and the right to make nodes that it may not open: OCI config-linux.md, "Default Devices".
DEFAULT_RULES = (
    DeviceCgroup(True, "c", None, None, "m"),
    DeviceCgroup(True, "b", None, None, "m"),
    *(DeviceCgroup(True, "c", major, minor, "rwm")
      for major, minor in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None))),
)  # fmt: skip


class DeviceRule(Value):
    """One checked rule."""

    allow: bool
    key: _Key
    access: int  # bits of ACCESS


class DeviceRules(Value):
    """A checked list. What stood before a rule that speaks of everything has no effect and is left out."""

    default: bool  # what holds where no rule speaks
    rules: tuple[DeviceRule, ...]

    @property
    def restrict(self) -> bool:
        """Whether anything is forbidden."""
        return not self.default or not all(rule.allow for rule in self.rules)

    @property
    def only_allow(self) -> bool:
        """Whether the rules only ever add to nothing."""
        return not self.default and all(rule.allow for rule in self.rules)


def _number(value: int | None, where: str) -> int:
    if value is None or value == ANY:
        return ANY
    if not 0 <= value < 2**31:
        raise InvalidInput(f"{value} is no device number", path=where)
    return value


def device_rules(devices: Sequence[DeviceCgroup]) -> DeviceRules:
    """Check `linux.resources.devices`. Without any rule everything is allowed. Raises InvalidInput."""
    if len(devices) > MAX_RULES:
        raise InvalidInput(f"{len(devices)} device rules; at most {MAX_RULES}", path="$.linux.resources.devices")
    default = not devices
    rules: list[DeviceRule] = []
    for index, device in enumerate(devices):
        where = f"$.linux.resources.devices[{index}]"
        kind, letters = device.type or "a", device.access or "rwm"
        if kind not in ("a", "b", "c"):
            raise InvalidInput(f"{kind!r} is no device type; a, b or c", path=f"{where}.type")
        access = 0
        for letter in letters:
            if letter not in ACCESS:
                raise InvalidInput(f"{letters!r} is no access; letters of rwm", path=f"{where}.access")
            access |= ACCESS[letter]
        key = (kind, _number(device.major, f"{where}.major"), _number(device.minor, f"{where}.minor"))
        if (key, access) == (("a", ANY, ANY), ALL):
            default = device.allow
            rules.clear()
        else:
            rules.append(DeviceRule(device.allow, key, access))
    return DeviceRules(default, tuple(rules))


# --- v1 -----------------------------------------------------------------------------------------------------------


def _covers(outer: _Key, inner: _Key) -> bool:
    return outer[0] == inner[0] and outer[1] in (ANY, inner[1]) and outer[2] in (ANY, inner[2])


def _overlaps(one: _Key, other: _Key) -> bool:
    return one[0] == other[0] and all(ANY in (a, b) or a == b for a, b in zip(one[1:], other[1:], strict=True))


def _exceptions(devices: DeviceRules) -> dict[_Key, int]:
    """The rules as v1 keeps them: exceptions from the default.

    v1 removes an exception only when it is named exactly, and does nothing otherwise without saying so.
    Raises Unsupported for a hole in a wider exception: "allow c *:*, deny c 1:3".
    """
    kept: dict[_Key, int] = {}
    for rule in devices.rules:
        kinds = KINDS if rule.key[0] == "a" else (rule.key[0],)  # a v1 line of type "a" would mean all access
        for key in [(kind, *rule.key[1:]) for kind in kinds]:
            if rule.allow != devices.default:
                kept[key] = kept.get(key, 0) | rule.access
                continue
            for other in [other for other in kept if kept[other] & rule.access and _overlaps(key, other)]:
                if not _covers(key, other):
                    raise Unsupported(
                        f"cgroup v1 cannot make an exception for {_line(key, rule.access)!r}"
                        f" from the device rule {_line(other, kept[other])!r}",
                        why="v1 keeps one list of exceptions from one default; exceptions have none themselves",
                        next="name the single devices instead of a wildcard, or use cgroup v2",
                        code="cgroup-device-rules",
                    )
                kept[other] &= ~rule.access
                if not kept[other]:
                    del kept[other]
    if (
        not devices.default
    ):  # one entry must cover a request to read and write: a narrow one carries what wider ones grant
        both = ACCESS["r"] | ACCESS["w"]
        for wide, access in [(key, access & both) for key, access in kept.items() if ANY in key]:
            for key, narrow in kept.items():
                if narrow & both and _covers(wide, key):
                    kept[key] = narrow | access
    return kept


def _line(key: _Key, access: int) -> str:
    kind, major, minor = key
    numbers = ":".join("*" if n == ANY else str(n) for n in (major, minor))
    return f"{kind} {numbers} {''.join(letter for letter in 'rwm' if ACCESS[letter] & access)}"


def device_writes(devices: DeviceRules) -> tuple[tuple[str, str], ...]:
    """v1: (file, line) pairs to write into a fresh cgroup, in order. Empty when nothing is forbidden.

    Raises Unsupported for rules that v1 can't express.
    """
    if not devices.restrict:
        return ()
    base, other = ("allow", "deny") if devices.default else ("deny", "allow")
    lines = [(f"devices.{other}", _line(key, access)) for key, access in _exceptions(devices).items()]
    return (f"devices.{base}", "a"), *lines


# --- v2 -----------------------------------------------------------------------------------------------------------

# Instructions of uapi/linux/bpf.h: class | source | operation.
_LDX_W = 0x61
_MOV_IMM, _MOV_REG, _AND_IMM, _RSH_IMM = 0xB7, 0xBF, 0x57, 0x77
_JA, _JEQ, _JEQ32, _JSET = 0x05, 0x15, 0x16, 0x45
_EXIT = 0x95
_R0, _CTX, _KIND, _WANTED, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5


def _insn(code: int, dst: int = 0, src: int = 0, jump: int = 0, imm: int = 0) -> bytes:
    from struct import pack  # a library to load, for v2 only

    return pack("<BBhi", code, src << 4 | dst, jump, imm)


def _rule_insns(rule: DeviceRule) -> list[tuple[int, int, int]]:
    """(code, register, operand) of one rule. Jumps: JEQ32 over the next one, JA to the next rule, JEQ to "allow", JSET
    to "deny"."""
    kind, major, minor = rule.key
    insns = []
    for register, value in ((_KIND, KINDS.get(kind, ANY)), (_MAJOR, major), (_MINOR, minor)):
        if value != ANY:
            # Two, where one JNE would do: the verifier walks the fall-through first, and what it learns there, about
            # any other number, covers the special one. With JNE it took a second for 500 rules and gave up at 1,000.
            insns += [(_JEQ32, register, value), (_JA, 0, 0)]
    if rule.allow:
        return [*insns, (_AND_IMM, _WANTED, ALL & ~rule.access), (_JEQ, _WANTED, 0)]
    return [*insns, (_JSET, _WANTED, rule.access)]


def device_program(devices: DeviceRules) -> bytes:
    """v2: a BPF_PROG_TYPE_CGROUP_DEVICE program. Empty when nothing is forbidden.

    It asks the rules from the last to the first; each takes the wanted access bits it decides about off the list.
    Source: kernel/bpf/cgroup.c; uapi/linux/bpf.h, struct bpf_cgroup_dev_ctx.
    """
    if not devices.restrict:
        return b""
    head = [
        _insn(_LDX_W, _KIND, _CTX, jump=0),  # access << 16 | kind
        _insn(_MOV_REG, _WANTED, _KIND),
        _insn(_AND_IMM, _KIND, imm=0xFFFF),
        _insn(_RSH_IMM, _WANTED, imm=16),
        _insn(_LDX_W, _MAJOR, _CTX, jump=4),
        _insn(_LDX_W, _MINOR, _CTX, jump=8),
    ]
    body = [_rule_insns(rule) for rule in reversed(devices.rules)]
    size = sum(map(len, body))
    allow, deny = (size, size + 2) if devices.default else (size + 2, size)
    code: list[bytes] = []
    for rule in body:
        after = len(code) + len(rule)
        for op, register, operand in rule:
            here = len(code) + 1
            jump = {_JEQ32: 1, _JA: after - here, _JEQ: allow - here, _JSET: deny - here}.get(op, 0)
            code.append(_insn(op, register, jump=jump, imm=operand))
    # The verifier refuses code that nothing leads to: the second verdict is there only if some rule gives it.
    verdicts = [devices.default]
    if any(rule.allow != devices.default for rule in devices.rules):
        verdicts.append(not devices.default)
    tail = [insn for verdict in verdicts for insn in (_insn(_MOV_IMM, _R0, imm=int(verdict)), _insn(_EXIT))]
    return b"".join([*head, *code, *tail])
