"""The part of a plan that turns a process into the command: its terminal, limits, user, privileges, filter, exec.

`kist run`, `kist exec` and the OCI runtime all come through here.
"""

from __future__ import annotations

from kist.errors import InvalidInput, Refused, Unsupported
from kist.plan import flags as f
from kist.plan import steps
from kist.plan.builder import capability_mask
from kist.plan.setting import CREATE, RUN
from kist.plan.steps import (
    RLIMITS,
    AwaitStart,
    BoundingSet,
    Capabilities,
    Chdir,
    CpuAffinity,
    DieWithParent,
    Dup,
    Exec,
    FindCommand,
    FindHome,
    NewKeyring,
    NoNewPrivs,
    OwnNull,
    OwnStdio,
    PrepareExec,
    Rlimit,
    Seccomp,
    SetGroups,
    SetIds,
    Setsid,
    Slots,
    Umask,
    WriteProc,
)  # fmt: skip
from kist.plan.words import members
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.builder import Builder
    from kist.plan.seccomp import Filter
    from kist.spec import runtime as oci

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INFINITY = 2**64 - 1
_CAP_SYS_ADMIN = 21
POSTSTOP_WARNING = "kist: a poststop hook failed with exit code "
_POLICIES = {"SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
             "SCHED_DEADLINE": 6}  # fmt: skip
_SCHED_FLAGS = {"SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4,
                "SCHED_FLAG_KEEP_POLICY": 8, "SCHED_FLAG_KEEP_PARAMS": 16, "SCHED_FLAG_UTIL_CLAMP_MIN": 32,
                "SCHED_FLAG_UTIL_CLAMP_MAX": 64}  # fmt: skip
_IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_MEMORY_MODES = {"MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
                 "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6}  # fmt: skip
_MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
_PERSONALITIES = {"LINUX": 0, "LINUX32": 8}


class ProcessCompiler:
    def __init__(self, b: Builder, process: oci.Process, seccomp: oci.Seccomp | None) -> None:
        self.b, self.process = b, process
        self.filter = self._filter(seccomp)
        self.listener = seccomp if seccomp and self.filter and self.filter.notify else None

    def _filter(self, seccomp: oci.Seccomp | None) -> Filter | None:
        if seccomp is None:
            return None
        if not self.b.facts.seccomp:
            raise Unsupported("this kernel has no seccomp filters", next="--security-opt seccomp=unconfined")
        from kist.plan.seccomp import assemble

        if seccomp.flags is None and self.b.setting.find_home:  # what runc and crun choose
            seccomp = replace(seccomp, flags=("SECCOMP_FILTER_FLAG_SPEC_ALLOW",))
        made = assemble(seccomp, native_arch=self.b.facts.arch)
        if made.unknown and self.b.setting.known_calls:
            raise InvalidInput(f"unknown system calls: {', '.join(made.unknown)}", path="$.linux.seccomp.syscalls")
        if made.notify and not seccomp.listener_path:
            raise InvalidInput("SCMP_ACT_NOTIFY needs a listener", path="$.linux.seccomp.listenerPath")
        return made

    # --- in the order of the plan

    def detach(self, *, keyring: bool) -> None:
        """From the caller's session and keys."""
        b = self.b
        b.init("privileges", Setsid(), "no way to type into the caller's terminal")
        if keyring:
            b.init("privileges", NewKeyring(f"_ses.{b.setting.id}"), "the caller's keys stay outside")

    def terminal(self, *, console: bool) -> None:
        b, stdio, user = self.b, self.b.setting.stdio, self.process.user
        if self.process.terminal:
            size = self.process.console_size
            slot = Slots.CONSOLE if stdio.console_socket else Slots.NONE
            rows, columns = (size.height, size.width) if size else (0, 0)
            if max(rows, columns) > 0xFFFF:
                raise InvalidInput(f"{rows} by {columns} is no size of a terminal", path="$.process.consoleSize")
            b.init("exec", steps.OpenPty(user.uid, rows, columns, int(console), slot), "a terminal of its own")
            return
        slots = {0: Slots.IN_READ, 1: Slots.OUT_WRITE, 2: Slots.ERR_WRITE}
        if stdio.stdin == "null":
            b.init("exec", Dup(Slots.NULL, 0), "nothing to read")
        for fd in b.setting.piped:
            b.init("exec", Dup(slots[fd], fd), "our pipe in place of what the caller has")
        if user.uid and not b.single_id:
            b.init(
                "exec",
                OwnStdio(user.uid, user.gid, int(not stdio.own_files)),
                "else the user could not open /dev/stdout",
            )

    def labels(self) -> bool:
        """Whether security labels are to be written (through our own procfs)."""
        process, lsm = self.process, self.b.facts.lsm
        for label, name, where in ((process.apparmor_profile, "apparmor", "apparmorProfile"),
                                   (process.selinux_label, "selinux", "selinuxLabel")):  # fmt: skip
            if label and name not in lsm and label != "unconfined":
                raise Unsupported(
                    f"$.process.{where}: this kernel has no {name}",
                    why=f"{label!r} could not be enforced",
                    next="leave it out, or boot with the security module",
                )
        return bool((process.apparmor_profile and "apparmor" in lsm) or (process.selinux_label and "selinux" in lsm))

    def limits(self) -> None:
        b, process = self.b, self.process
        for i, limit in enumerate(process.rlimits):
            self._rlimit(limit, f"$.process.rlimits[{i}]")
        umask = 0o022 if process.user.umask is None else process.user.umask
        b.init("privileges", Umask(umask & 0o777), "known, whatever the caller's is")
        if b.setting.reset_affinity and not process.exec_cpu_affinity:
            b.init("privileges", CpuAffinity(b"\xff" * 128), "all that its cgroup allows")
        if process.scheduler:
            b.init("privileges", _scheduler(process.scheduler), "asked for")
        if process.io_priority:
            b.init("privileges", steps.IoPriority(_io_priority(process.io_priority)), "asked for")
        personality = b.spec.linux.personality
        if personality:
            if personality.flags:
                raise InvalidInput("no flags are defined", path="$.linux.personality.flags")
            b.init("privileges", steps.Personality(_PERSONALITIES[personality.domain]), "asked for")
        if b.spec.linux.memory_policy:
            b.init("privileges", _memory_policy(b.spec.linux.memory_policy), "asked for")

    def _rlimit(self, limit: oci.Rlimit, where: str) -> None:
        b = self.b
        if limit.soft > limit.hard:
            raise InvalidInput(f"the soft limit {limit.soft} is above the hard limit {limit.hard}", path=where)
        soft, hard = limit.soft, limit.hard
        ceiling = b.facts.rlimits.get(limit.type, (-1, -1))[1]
        ceiling = _INFINITY if ceiling < 0 else ceiling
        if "CAP_SYS_RESOURCE" in b.facts.capabilities:
            ceiling = b.facts.nofile_max if limit.type == "RLIMIT_NOFILE" else _INFINITY
        if b.setting.clamp and hard > ceiling:
            name = limit.type.removeprefix("RLIMIT_").lower()
            b.notes.append(f"--ulimit {name}: {ceiling} instead of {hard}, the most that this host allows")
            b.not_enforced.append(f"ulimit.{name}")
            soft, hard = min(soft, ceiling), ceiling
        number = RLIMITS.index(limit.type.removeprefix("RLIMIT_").lower())
        b.init("privileges", Rlimit(number, soft, hard), "asked for")

    @property
    def cwd(self) -> str:
        """Raises InvalidInput for a relative one."""
        if not self.process.cwd.startswith("/"):
            raise InvalidInput(f"{self.process.cwd!r} is not an absolute path", path="$.process.cwd")
        return self.process.cwd

    @property
    def env(self) -> dict[str, str]:
        """Entries by name: the last of a name counts, and an empty HOME is none where it is looked up."""
        env = {entry.partition("=")[0]: entry for entry in self.process.env}
        if self.b.setting.find_home and env.get("HOME") == "HOME=":
            del env["HOME"]
        return env

    def directory(self) -> None:
        if self.b.setting.stdio.own_files and self.b.makes(f.CLONE_NEWNS):
            self.b.init("exec", OwnNull(), "the host's is not its own")
        self.b.init("rootfs", Chdir(self.cwd), "the working directory")

    def privileges(self) -> None:
        """From root with all capabilities to the command's user with the command's.

        Without no_new_privs only CAP_SYS_ADMIN may load a filter: it is kept for that. execve(2) takes it away, which
        computes the new sets from the bounding, inheritable and ambient ones alone (capabilities(7)).
        """
        b, process, user = self.b, self.process, self.process.user
        last = b.facts.cap_last
        have = process.capabilities
        masks = {}
        unknown: dict[str, None] = {}
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient"):
            wanted = getattr(have, name) if have else ()
            masks[name], words = capability_mask(wanted, last)
            unknown.update(dict.fromkeys(words))
        if unknown:  # runc's words, which suites look for
            b.notes.append(f"ignoring unknown or unavailable capabilities: [{' '.join(unknown)}]")
        if masks["effective"] & ~masks["permitted"]:
            raise InvalidInput("effective ones must be permitted", path="$.process.capabilities")
        possible = masks["permitted"] & masks["inheritable"]
        if have and masks["ambient"] & ~possible:  # one line: podman build asks for eleven, in each step
            beyond = [name for name in have.ambient if not capability_mask((name,), last)[0] & possible]
            b.notes.append(f"can't raise ambient capability {', '.join(beyond)}: not permitted and inheritable")
        masks["ambient"] &= possible
        self._check_ids()
        g = "privileges"
        if b.setting.find_home and "HOME" not in self.env:
            b.init("exec", FindHome(user.uid), "where the user lives, for HOME")
        b.init(g, BoundingSet(masks["bounding"]), "no program inside can regain the others")
        single_id = b.single_id or b.setting.groups_denied
        if not single_id and not b.setting.keep_groups:
            groups = user.additional_gids
            b.init(g, SetGroups(b"".join([id.to_bytes(4, "little") for id in groups])), "none of the caller's groups")
        elif user.additional_gids and not b.setting.keep_groups:
            raise Refused(
                "supplementary groups cannot be set", why="the user namespace maps one group only",
                next="give this user subordinate ids: kist doctor",
            )  # fmt: skip
        b.init(g, SetIds(user.uid, user.gid), "the user")
        nnp = process.no_new_privileges
        loads = 1 << _CAP_SYS_ADMIN if self.filter and not nnp else 0
        why = "what the command may do" if masks["effective"] else "none"
        b.init(g, Capabilities(masks["effective"] | loads, masks["permitted"] | loads, masks["inheritable"],
               masks["ambient"]), f"{why}, and until then to load the filter" if loads else why)  # fmt: skip
        if nnp:
            b.init(g, NoNewPrivs(), "set-uid programs give nothing")

    def _check_ids(self) -> None:
        """Only ids that are mapped exist in a user namespace of our making."""
        b, user = self.b, self.process.user
        for kind, ids in (("uid", (user.uid,)), ("gid", (user.gid, *user.additional_gids))):
            maps = b.mappings(kind)
            for id in ids if b.knows_ids else ():
                if not any(m.container_id <= id < m.container_id + m.size for m in maps):
                    only = b.single_id and "one id only: this user has no subordinate ids that could be used"
                    raise Refused(
                        f"{kind} {id} does not exist in the container's user namespace",
                        why=only or f"it maps {', '.join(f'{m.size} from {m.container_id}' for m in maps)}",
                        next="kist doctor says how to get more ids" if only else "use an id within the map",
                        code="id-not-mapped",
                    )

    def _load_filter(self, why: str) -> None:
        b, made = self.b, self.filter
        assert made is not None
        if b.setting.own_sockets:
            from kist.plan.seccomp import own_sockets

            held = own_sockets(b.facts.arch)
            b.init("privileges", Seccomp(held.program, held.flags), "no sockets but its network namespace's")
        b.init("privileges", Seccomp(made.program, made.flags, int(made.notify)), why)
        if self.listener:
            from kist.codec import dumps

            metadata = self.listener.listener_metadata
            head = dumps({"ociVersion": "1.0.2", "fds": ["seccompFd"], "metadata": metadata})
            state = f'{head[:-1]},"pid":$init_pid,"state":{b.setting.hook_state or "{}"}}}'
            step = steps.SendListener(self.listener.listener_path, state)
            b.host("privileges", step, "who answers for the filtered calls")

    def write_labels(self) -> None:
        b, process = self.b, self.process
        if process.apparmor_profile and "apparmor" in b.facts.lsm:
            b.init(
                "privileges",
                WriteProc("thread-self/attr/apparmor/exec", f"exec {process.apparmor_profile}"),
                "asked for",
            )
        if process.selinux_label and "selinux" in b.facts.lsm:
            b.init("privileges", WriteProc("thread-self/attr/exec", process.selinux_label), "asked for")

    def become(self, hooks: tuple[oci.Hook, ...] = ()) -> None:
        """`hooks`: those that run inside, just before the command."""
        b, process, setting = self.b, self.process, self.b.setting
        if b.spec.process is None:
            b.init("exec", AwaitStart(Slots.START), "`start` will say that there is no process")
            return
        if not process.args or not process.args[0]:
            raise InvalidInput(
                "no command given", path="$.process.args", next="kist run IMAGE COMMAND...", code="no-command"
            )
        for i, entry in enumerate(process.env):
            if "=" not in entry[1:]:
                raise InvalidInput(f"{entry!r} is not KEY=VALUE", path=f"$.process.env[{i}]")
        search = next((e[5:] for e in reversed(process.env) if e.startswith("PATH=")), setting.path or DEFAULT_PATH)
        if setting.mode == RUN:
            b.init("privileges", DieWithParent(), "no container without its supervisor")
        if setting.mode != RUN or setting.find_home:
            b.init("exec", FindCommand(process.args[0], search), "while there is somebody to be told")
        if self.filter and (self.filter.notify or hooks):
            why = "the listener must be handed over before we wait" if self.filter.notify else "for the hooks, too"
            self._load_filter(why)
        if setting.mode == CREATE:
            b.init("exec", AwaitStart(Slots.START), "`start` says when")
        for hook in hooks:
            b.init("exec", hook_step(hook, setting.hook_state, process.env), "startContainer")
        prepare = PrepareExec(int(setting.reaper), 3 + setting.stdio.inherited_fds)
        b.init("exec", prepare, "nothing of ours leaks into the command")
        if self.filter and not (self.filter.notify or hooks):
            self._load_filter("dangerous system calls are denied")
        env = tuple(self.env.values())
        if setting.listen_fds:  # sd_listen_fds(3)
            env = (*env, f"LISTEN_FDS={setting.listen_fds}", "LISTEN_PID=1")
        b.init("exec", Exec(process.args, env, search), "the command")

    def affinity_step(self, text: str) -> CpuAffinity:
        return CpuAffinity(cpu_mask(text, "$.process.execCPUAffinity"))


def hook_step(
    hook: oci.Hook, state: str, env: tuple[str, ...] = (), *, warning: str = "", output: tuple[str, str] = ("", "")
) -> steps.Hook:
    argv = hook.args or (hook.path,)
    return steps.Hook(hook.path, argv, hook.env or env, state, (hook.timeout or 0) * 1000, warning, *output)


def cpu_mask(text: str, where: str) -> bytes:
    """The bit mask for "0-3,7". Raises InvalidInput."""
    bits = members(where, text)
    size = (bits.bit_length() + 63) // 64 * 8
    return bits.to_bytes(size, "little")


def _io_priority(wanted: oci.IoPriority) -> int:
    if not 0 <= wanted.priority <= 7:
        raise InvalidInput(f"{wanted.priority} is not within 0..7", path="$.process.ioPriority.priority")
    return _IO_CLASSES[wanted.class_] << 13 | wanted.priority


def _scheduler(scheduler: oci.Scheduler) -> steps.Scheduler:
    path = "$.process.scheduler"
    if scheduler.policy == "SCHED_ISO":
        raise Unsupported("SCHED_ISO is not in Linux", next="another policy", why="it was never merged")
    if scheduler.policy != "SCHED_DEADLINE" and (scheduler.runtime or scheduler.deadline or scheduler.period):
        raise InvalidInput("runtime, deadline and period are for SCHED_DEADLINE", path=path)
    if scheduler.policy == "SCHED_DEADLINE":
        _check_deadline(scheduler)
    if not -20 <= scheduler.nice <= 19:
        raise InvalidInput(f"{scheduler.nice} is not within -20..19", path=f"{path}.nice")
    bits = sum(_SCHED_FLAGS[word] for word in set(scheduler.flags))
    times = (scheduler.runtime or 0, scheduler.deadline or 0, scheduler.period or 0)
    nice, priority = scheduler.nice & 0xFFFF_FFFF, scheduler.priority & 0xFFFF_FFFF
    return steps.Scheduler(_POLICIES[scheduler.policy], bits, nice, priority, *times)


def _check_deadline(s: oci.Scheduler) -> None:
    """What the kernel refuses with EINVAL and no more. The words are crun's. Source: sched_setattr(2), sched(7)."""

    def wrong(text: str) -> InvalidInput:
        return InvalidInput(f"sched_setattr: `SCHED_DEADLINE` {text}", path="$.process.scheduler")

    if s.runtime is None or s.deadline is None:
        raise wrong(f"requires `{'runtime' if s.runtime is None else 'deadline'}`")
    if s.runtime == 0:
        raise wrong("runtime must be greater than 0")
    if s.runtime > s.deadline:
        raise wrong(f"runtime ({s.runtime}) must be <= deadline ({s.deadline})")
    if s.period and s.deadline > s.period:
        raise wrong(f"deadline ({s.deadline}) must be <= period ({s.period})")
    if not 1024 <= s.runtime < 2**63:
        raise wrong(f"runtime {s.runtime} must be between 1024 and {2**63 - 1}")


def _memory_policy(policy: oci.MemoryPolicy) -> steps.MemoryPolicy:
    mode = _MEMORY_MODES[policy.mode] | sum(_MEMORY_FLAGS[word] for word in set(policy.flags))
    nodes = cpu_mask(policy.nodes, "$.linux.memoryPolicy.nodes") if policy.nodes else b""
    if nodes and policy.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        count = int.from_bytes(nodes, "little").bit_count()
        raise InvalidInput(f"mode requires 0 nodes but got {count}", path="$.linux.memoryPolicy.nodes")
    if not nodes and policy.mode not in ("MPOL_DEFAULT", "MPOL_LOCAL", "MPOL_PREFERRED"):
        raise InvalidInput(f"{policy.mode} needs nodes", path="$.linux.memoryPolicy.nodes")
    return steps.MemoryPolicy(mode, nodes)
