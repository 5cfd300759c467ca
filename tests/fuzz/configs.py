"""Configs that are almost right, a new one for each number.

Structure-aware: what is put into a valid config is made after the annotations of spec.runtime, mostly within them. Then
the text itself may be damaged.
"""

from __future__ import annotations

import copy
import json
import os
import random
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../unit"))

from facts import ROOT_V1, ROOT_V2, USER_ONE_ID, USER_V2

from kist.codec import _annotations, _keys, _split, plain
from kist.faces.oci.spec import template
from kist.plan._syscalls import ABIS, numbers
from kist.plan.facts import CAPABILITIES
from kist.plan.mount_options import known_words
from kist.plan.seccomp_policy import ACTIONS, FLAGS
from kist.plan.setting import CREATE, DETACH, RUN
from kist.spec import runtime as oci
from kist.value import Value

HOSTS = (ROOT_V1, ROOT_V2, USER_V2, USER_ONE_ID)
EXEC, UPDATE = "exec", "update"
MODES = (CREATE, RUN, DETACH, EXEC, UPDATE)

RAW = "\ue000"  # marks a string that becomes bare text


def _words(text: str) -> list[str]:
    return text.split()


STRANGE = _words('NaN -Infinity 1e999 -0 0.5 1E2 "\\ud800" "\\u0000" [[[[]]]] {"a":1,"a":2}')
STRANGE += ["9" * 30, "9" * 5000, "[" * 50 + "]" * 50]
WORDS = _words("/ . .. /../.. /tmp /proc/self/fd/3 /dev/null a é \udc80 - * 0 1 -1 rootfs $init_pid /a/$init_pid/b")
WORDS += ["", "a\nb", "x" * 300]
NUMBERS = [0, 1, 2, 5, 7, 10, 100, 1000, 4095, *(n for e in (16, 31, 32, 53, 63, 64) for n in (2**e - 1, 2**e))]
NUMBERS += [-1, -2, -(2**31), -(2**63), -(2**63) - 1]
# What fits where, by field.
FITTING = {
    "options": [*known_words(), *_words("mode=755 mode=9 size=64k size= uid=5 idmap ridmap = lowerdir=/a"), "x" * 5000],
    "type": [*_words("proc tmpfs sysfs bind cgroup devpts mqueue none overlay a c b"), ""],
    "destination": _words("/proc /dev /dev/pts /sys /sys/fs/cgroup /data data /dev/shm / /data/../etc /dev/console"),
    "source": [*_words("/tmp proc tmpfs /etc/hosts relative /proc/self"), ""],
    "path": _words("/dev/kmsg /proc/1/ns/net /bin/true net /dev/fuse /proc/self/ns/user"),
    "args": [*_words("sh -c true /bin/sh"), ""],
    "env": _words("A=b PATH=/bin A =b HOME=/x A= PATH="),
    "op": [f"SCMP_CMP_{word}" for word in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ", "XX")],
    "action": list(ACTIONS),
    "architectures": [*ABIS, "SCMP_ARCH_MIPS", "X86"],
    "flags": [*FLAGS, "LOG"],
    "names": [*list(numbers("x86_64"))[::7], "clone", "socketcall", "no_such_call"],
    "access": _words("r rw rwm m x"),
    "page_size": _words("2MB 1GB 64KB 2M -1MB"),
    "cgroups_path": _words("/a/b a system.slice:kist:a /../x :: /"),
    "cpus": [*_words("0 0-1 0- 1-0 0-99999 99999999"), ",".join(["0-99999"] * 5000)],
    "schemata": ["L3:0=f"],
    "nodes": ["0", "0-3"],
    "oci_version": ["1.0.0", "1.3.0", "1", "1.2.0-dev", "2"],
    "listener_path": ["/run/l", ""],
    "bounding": [*CAPABILITIES, "CAP_NONE", "cap_kill"],
    "keys": _words("net.ipv4.ip_forward kernel.shmmax kernel.domainname fs.mqueue.msg_max kernel.hostname net/x net..x"
    " monotonic boottime eth0 cpu.max memory.max ../x run.oci.handler"),
}  # fmt: skip
SAME = dict.fromkeys(("effective", "inheritable", "permitted", "ambient"), "bounding")
SAME |= dict.fromkeys(("mems", "initial", "final"), "cpus") | {"default_action": "action"}
SAME |= dict.fromkeys(("masked_paths", "readonly_paths", "cwd"), "destination")


class Maker:
    """Values by annotation. `odd`: how likely each of them is of another type, or out of bounds."""

    def __init__(self, chance: random.Random, odd: float) -> None:
        self.chance, self.odd = chance, odd

    def make(self, kind: str, owner: type, field: str, depth: int = 0) -> object:
        chance = self.chance
        if chance.random() < self.odd:
            return self.strange(depth)
        kind = kind.removesuffix(" | None")
        base, _, rest = kind.partition("[")
        if base in ("tuple", "frozenset"):
            count = chance.choice([0, 1, 1, 2, 3]) if chance.random() > self.odd / 8 else chance.choice([50, 300, 9000])
            one = rest.removesuffix(", ...]").removesuffix("]")
            if count > 3:
                return [self.make(one, owner, field, depth + 1)] * count
            return [self.make(one, owner, field, depth + 1) for _ in range(count)]
        if base in ("dict", "Mapping"):
            item = _split(rest[:-1])[1]
            return {self.word("keys"): self.make(item, owner, field, depth + 1) for _ in range(chance.randint(0, 2))}
        module = sys.modules[owner.__module__]
        choices = getattr(module, "CHOICES", {})
        if kind in choices:
            return chance.choice(choices[kind])
        if kind == "bool":
            return chance.random() < 0.5
        if kind == "str":
            return self.word(field)
        if kind in ("int", "U8", "U16", "U32", "U64", "I32", "I64"):
            return chance.choice(NUMBERS[: 6 if chance.random() < 0.7 else None])
        return self.object(getattr(module, kind), depth)

    def object(self, cls: type[Value], depth: int) -> object:
        kinds, found, much = _annotations(cls), {}, self.chance.choice([0.1, 0.4, 0.8])
        for name, key in _keys(cls).items():
            if self.chance.random() < (1 - self.odd if name in cls.__required__ else much):
                found[key] = self.make(*kinds[name], name, depth + 1)
        return found

    def word(self, field: str) -> str:
        fitting = FITTING.get(SAME.get(field, field), ())
        return self.chance.choice(fitting if fitting and self.chance.random() < 0.85 else WORDS)

    def strange(self, depth: int) -> object:
        kind = self.chance.randrange(8)
        if kind < 3:
            return self.chance.choice([None, True, False, [], {}, "", [[]], {"": None}, 0.5, 1e300])
        return RAW + self.chance.choice(STRANGE) if kind < 5 else self.chance.choice(NUMBERS if kind < 7 else WORDS)

    def vary(self, value: object, kind: str, owner: type, field: str) -> object:
        """`value` with something changed in it."""
        chance, kind = self.chance, kind.removesuffix(" | None")
        base, _, rest = kind.partition("[")
        if value is None or chance.random() < 0.05:
            return self.make(kind, owner, field)
        if isinstance(value, list) and base == "tuple":
            one, found = rest.removesuffix(", ...]"), list(value)
            what = chance.randrange(4)
            if what == 0 or not found:
                found.insert(chance.randint(0, len(found)), self.make(one, owner, field))
            elif what == 1:
                del found[chance.randrange(len(found))]
            elif what == 2:
                found.append(copy.deepcopy(chance.choice(found)))
            else:
                at = chance.randrange(len(found))
                found[at] = self.vary(found[at], one, owner, field)
            return found
        cls = vars(sys.modules[owner.__module__]).get(kind)
        if isinstance(value, dict) and isinstance(cls, type) and issubclass(cls, Value):
            kinds, keys, found = _annotations(cls), _keys(cls), dict(value)
            for name in chance.sample(list(keys), min(len(keys), chance.choice([1, 1, 2]))):
                if chance.random() < 0.1:
                    found.pop(keys[name], None)
                else:
                    found[keys[name]] = self.vary(found.get(keys[name]), *kinds[name], name)
            return found
        return self.make(kind, owner, field)


SIMPLE = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "linux": {"namespaces": [{"type": "mount"}]},
}
HOOK = {"path": "/bin/true", "args": ["true", "a"], "env": ["A=b"], "timeout": 5}
FULL = plain(template(rootless=False)) | {
    "domainname": "d",
    "hooks": {name: [HOOK] for name in _keys(oci.Hooks).values()},
    "annotations": {"a": "b"},
    "linux": {
        "namespaces": [{"type": kind} for kind in ("user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time")],
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "timeOffsets": {"monotonic": {"secs": 5}},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
        "cgroupsPath": "/a/b",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "access": "rw"}],
            "memory": {"limit": 1 << 26, "reservation": 1 << 25, "swap": 1 << 27},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 10},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                {"names": ["read", "write", "close"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                 "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            ],
        },
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "rootfsPropagation": "rprivate",
    },
}  # fmt: skip


# What every host can do, and what root can.
ROOTLESS, ROOTFUL = (
    (SIMPLE | {"linux": plain(template(rootless=True))["linux"]}, plain(template(rootless=True))),
    (SIMPLE, plain(template(rootless=False)), FULL, FULL),
)


def config(seed: int) -> tuple[bytes, str]:
    """The text of a config (or, with EXEC, of a process; with UPDATE, of resources), and what it is for."""
    chance = random.Random(seed)
    mode = chance.choice(MODES)
    maker = Maker(chance, chance.choice([0, 0, 0.003, 0.02]))
    value = copy.deepcopy(chance.choice(ROOTLESS if HOSTS[seed % len(HOSTS)].uid else ROOTFUL))
    if mode == UPDATE:
        value = maker.make("Resources", oci.Spec, "")
    elif mode == EXEC:
        value = maker.vary(value["process"], "Process", oci.Spec, "")
    else:
        for _ in range(chance.choice([1, 1, 2, 4, 8])):
            value = maker.vary(value, "Spec", oci.Spec, "")
    return damaged(chance, written(value)), mode


def written(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=True)
    return re.sub(r'"\\ue000((?:[^"\\]|\\.)*)"', lambda m: json.loads(f'"{m[1]}"'), text).encode()


def damaged(chance: random.Random, text: bytes) -> bytes:
    if chance.random() < 0.85 or len(text) < 2:
        return text
    at, to = sorted(chance.choices(range(len(text)), k=2))
    to = min(to, at + 40)
    what = chance.randrange(8)
    if what == 0:
        return text[:at] + text[to:]
    if what == 1:
        return text[:to] + text[at:]
    if what == 2:
        return text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]
    if what == 3:
        return text[:at]
    if what == 4:
        return b"\xef\xbb\xbf" + text
    if what == 5:
        return text[:at] + b"[" * 100_000 + text[at:]
    if what == 6:
        return b'{"linux":{"namespaces":[]},' + text[1:]  # keys that are there twice
    return text.replace(b":", b': {"a":' * 3000, 1)
