"""What the compiler's parts share: the plan as it grows, and what follows from the config before the first step."""

from __future__ import annotations

from kist.errors import InvalidInput, Refused, Unsupported
from kist.plan import flags as f
from kist.plan.facts import CAPABILITIES
from kist.plan.setting import Setting
from kist.plan.steps import HOST, INIT, STAGE, Entry, Slots, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kist.plan.facts import HostFacts
    from kist.spec.runtime import IdMapping, Spec

# OCI's names -> (clone flag, the name in /proc/PID/ns and of `--without NAMEns`).
NAMESPACES = {
    "user": (f.CLONE_NEWUSER, "user"),
    "mount": (f.CLONE_NEWNS, "mnt"),
    "pid": (f.CLONE_NEWPID, "pid"),
    "network": (f.CLONE_NEWNET, "net"),
    "ipc": (f.CLONE_NEWIPC, "ipc"),
    "uts": (f.CLONE_NEWUTS, "uts"),
    "cgroup": (f.CLONE_NEWCGROUP, "cgroup"),
    "time": (f.CLONE_NEWTIME, "time"),
}


class Builder:
    """One compilation under way."""

    def __init__(self, spec: Spec, facts: HostFacts, setting: Setting, *, joining: int = 0) -> None:
        self.spec, self.facts, self.setting = spec, facts, setting
        self.plan: list[Entry] = []
        self.notes: list[str] = []
        self.not_enforced: list[str] = []
        self._slots = Slots.FIRST_FREE
        self.host_root = facts.uid == 0 and not facts.in_user_namespace
        self.new = 0  # clone flags of the namespaces to make
        self.joined: list[tuple[int, str]] = []  # (clone flag, path) of those that exist
        self.joining = joining  # clone flags of those that are entered all at once: exec
        if not joining:
            self._read_namespaces()

    def host(self, group: str, step: Step, why: str) -> None:
        self.plan.append(Entry(step, HOST, group, why))

    def stage(self, group: str, step: Step, why: str) -> None:
        self.plan.append(Entry(step, STAGE, group, why))

    def init(self, group: str, step: Step, why: str) -> None:
        self.plan.append(Entry(step, INIT, group, why))

    def slot(self) -> int:
        """A slot that nothing else uses."""
        if self._slots == Slots.COUNT:
            raise InvalidInput(f"more than {Slots.COUNT} files would have to be held open at once")
        self._slots += 1
        return self._slots - 1

    def makes(self, flag: int) -> bool:
        return bool(self.new & flag)

    def has(self, flag: int) -> bool:
        """Whether the container is in a namespace of this kind other than the caller's."""
        return bool((self.new | self.joining) & flag) or any(flag == joined for joined, _ in self.joined)

    @property
    def userns(self) -> bool:
        return self.has(f.CLONE_NEWUSER)

    @property
    def privileged_host(self) -> bool:
        """The supervisor may mount for the container and join its cgroups by itself."""
        return "CAP_SYS_ADMIN" in self.facts.capabilities

    def _read_namespaces(self) -> None:
        seen = set()
        for i, namespace in enumerate(self.spec.linux.namespaces):
            where = f"$.linux.namespaces[{i}]"
            flag, name = NAMESPACES[namespace.type]
            if namespace.type in seen:
                raise InvalidInput(f"{namespace.type} is there twice", path=where)
            seen.add(namespace.type)
            if namespace.path:
                if not namespace.path.startswith("/"):
                    raise InvalidInput(f"{namespace.path!r} is not an absolute path", path=f"{where}.path")
                self.joined.append((flag, namespace.path))
            elif name == "time" and not self.facts.time_namespace:
                raise Unsupported("this kernel has no time namespaces", why="they came with Linux 5.6")
            else:
                self.new |= flag
        if self.makes(f.CLONE_NEWUSER) and not self.facts.user_namespaces:
            raise Refused("no user namespace can be made", why=self.facts.user_namespaces_reason, next="kist doctor")
        if not (self.userns or self.privileged_host):
            raise Refused(
                "an ordinary user cannot make containers without a user namespace",
                why="the other namespaces, mounts and pivot_root need CAP_SYS_ADMIN",
                next="list a user namespace, or run as root",
            )

    def mappings(self, kind: str) -> tuple[IdMapping, ...]:
        linux = self.spec.linux
        return linux.uid_mappings if kind == "uid" else linux.gid_mappings

    @property
    def single_id(self) -> bool:
        """The user namespace has one id only, mapped without privilege: no setgroups(2), no other owner."""
        return self.knows_ids and not self.helper_maps and not self.maps_any_id

    @property
    def knows_ids(self) -> bool:
        """Those of the user namespace, a new one or one that exists."""
        return self.userns and bool(self.mappings("uid"))

    @property
    def maps_any_id(self) -> bool:
        """CAP_SETUID and CAP_SETGID here: any map may be written directly. Source: user_namespaces(7)."""
        return {"CAP_SETUID", "CAP_SETGID"} <= self.facts.capabilities

    @property
    def helper_maps(self) -> bool:
        """newuidmap and newgidmap are there and the maps need them."""
        facts = self.facts
        if self.maps_any_id or not (facts.newuidmap and facts.newgidmap) or facts.no_new_privs:
            return False
        own = (facts.uid, facts.gid)
        maps = [self.mappings("uid"), self.mappings("gid")]
        return any(len(m) != 1 or m[0].size != 1 or m[0].host_id != i for m, i in zip(maps, own, strict=True))


def host_id(mappings: Iterable[IdMapping], id: int, path: str) -> int:
    """What an id inside is outside. Raises InvalidInput when it is not mapped."""
    for m in mappings:
        if m.container_id <= id < m.container_id + m.size:
            return m.host_id + id - m.container_id
    raise InvalidInput(f"{id} does not exist in the container's user namespace", path=path, code="id-not-mapped")


def id_map_text(mappings: Iterable[IdMapping]) -> str:
    """As /proc/PID/uid_map takes it."""
    return "\n".join([f"{m.container_id} {m.host_id} {m.size}" for m in mappings])


def capability_mask(names: Iterable[str], last: int) -> tuple[int, list[str]]:
    """The bits, and the names that this kernel does not know."""
    mask, unknown = 0, []
    for name in names:
        number = CAPABILITIES.index(name) if name in CAPABILITIES else 64
        if number <= last:
            mask |= 1 << number
        else:
            unknown.append(name)
    return mask, unknown
