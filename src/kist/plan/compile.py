"""From a container's OCI config and what the host can do to the list of kernel steps. Pure: all is decided here.

compile_root and compile_process hold the two long parts; this one has the order, the processes and the waiting:

    host   cgroup, what must be opened early       ... id maps ... hooks ... wait for the end, report
    stage  (only where namespaces are joined or a clock is set) enters them, makes the first process, is gone
    init                                    root file system ... hooks ... privileges ... the command
"""

from __future__ import annotations

from kist.errors import InvalidInput, Unsupported
from kist.plan import flags as f
from kist.plan import steps
from kist.plan.builder import Builder, host_id, id_map_text
from kist.plan.cgroup import CgroupPlan, plan_cgroup
from kist.plan.cgroup_devices import DEFAULT_RULES
from kist.plan.compile_process import POSTSTOP_WARNING, ProcessCompiler, hook_step
from kist.plan.compile_root import RootCompiler, rootfs_propagation
from kist.plan.setting import CREATE, DETACH, RUN
from kist.plan.steps import (
    INIT,
    STAGE,
    AwaitReady,
    CgroupMake,
    Clone,
    CreateFile,
    DieWithParent,
    Entry,
    Leave,
    LinkUp,
    Mkdir,
    MkdirAt,
    MountPropagation,
    Open,
    Pipe,
    Remove,
    Seal,
    SetIds,
    Slots,
    Step,
    Supervise,
    Unshare,
    Warn,
    WriteFile,
    WriteProc,
)  # fmt: skip
from kist.plan.sysctl import sysctl_path
from kist.spec.runtime import Process
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kist.plan.facts import HostFacts
    from kist.plan.setting import Setting
    from kist.plan.steps import Plan
    from kist.spec.runtime import Hook, IdMapping, Spec

PIPES = {
    0: (Slots.IN_READ, Slots.IN_WRITE),
    1: (Slots.OUT_READ, Slots.OUT_WRITE),
    2: (Slots.ERR_READ, Slots.ERR_WRITE),
}
NOTIFY_NAME = "notify.sock"
_O_RDONLY_CLOEXEC = 0o2000000
_O_RDWR_CLOEXEC = 0o2000002


class Compiled(Value):
    """`cgroup_paths`: what a sweep removes. `notes`: what the caller should be told, `not_enforced`: in few words."""

    plan: Plan
    cgroup_paths: tuple[str, ...] = ()
    cgroup_leaf: str = ""  # where the calling process must go first: see CgroupPlan.leaf
    cgroup_steps: Plan = ()  # of the plan, those that make the cgroup
    freezer: str = ""
    namespaces: int = 0  # clone flags of those that its processes are in, besides the host's
    not_enforced: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Compiler:
    def __init__(self, spec: Spec, process: Process, facts: HostFacts, setting: Setting) -> None:
        self.spec, self.facts, self.setting = spec, facts, setting
        self.b = Builder(spec, facts, setting)
        self.cgroup = self._cgroup()
        self.root = RootCompiler(self.b, self.cgroup.paths)
        self.process = ProcessCompiler(self.b, process, spec.linux.seccomp)
        self.terminal = process.terminal
        self.notify: tuple[int, ...] = ()
        self.bridges = 0
        self.oom_score_adj = process.oom_score_adj
        joins_early = bool(self.b.joined) and (self.b.userns or any(flag & f.CLONE_NEWPID for flag, _ in self.b.joined))
        self.offsets = spec.linux.time_offsets
        if self.offsets and not self.b.makes(f.CLONE_NEWTIME):
            raise InvalidInput("time offsets need a new time namespace", path="$.linux.timeOffsets")
        joins_v1 = bool(self.cgroup.join) and self.b.makes(f.CLONE_NEWUSER)
        self.staged = joins_early or joins_v1 or (bool(self.offsets) and not facts.exec_switches_timens)
        # Without privilege the stage needs a user namespace to do anything; with privilege it is the last to be made.
        self.user_in_stage = self.staged and self.b.makes(f.CLONE_NEWUSER) and not self.b.privileged_host
        for kind in ("uid", "gid"):
            if self.b.makes(f.CLONE_NEWUSER) and not self.b.mappings(kind):
                raise InvalidInput(f"a new user namespace needs $.linux.{kind}Mappings", path="$.linux")

    def host(self, group: str, step: Step, why: str) -> None:
        self.b.host(group, step, why)

    def init(self, group: str, step: Step, why: str) -> None:
        self.b.init(group, step, why)

    def _cgroup(self) -> CgroupPlan:
        linux, setting = self.spec.linux, self.setting
        if not setting.cgroup:
            return CgroupPlan()
        resources = linux.resources
        if resources and not setting.device_filter:
            resources = replace(resources, devices=())
        elif resources and resources.devices and setting.default_devices:
            resources = replace(resources, devices=(*resources.devices, *DEFAULT_RULES))
        path = linux.cgroups_path or f"/kist/{setting.id}"
        always = ["memory", "pids", "cpuacct"]  # wait(2) does not count those that the kernel ends with PID 1
        if setting.can_pause or not self.b.makes(f.CLONE_NEWPID):
            always.append("freezer")
        if setting.updatable:
            always += ["cpu", "cpuset", "blkio"]
        if setting.all_hierarchies:
            always = [name for name, place in self.facts.cgroup.v1.items() if place.writable]
        return plan_cgroup(
            resources, path if path.startswith("/") else f"/{path}", self.facts,
            allow_unenforced=setting.allow_unenforced, exclusive=setting.exclusive_cgroup, always=always,
            optional=setting.optional_limits,
        )  # fmt: skip

    def compile(self) -> Compiled:
        setting, b = self.setting, self.b
        if self.spec.linux.intel_rdt:
            raise Unsupported("$.linux.intelRdt: this host has no resctrl file system", next="leave it out")
        for path in setting.removals:
            self.host("exec", Remove(path), "kist's own record of the container")
        self._attend()
        for entry in self.cgroup.before:
            if setting.keep_cgroup and isinstance(entry.step, CgroupMake):
                self.host(entry.group, Mkdir(entry.step.path, keep=1), entry.why)
            else:
                b.plan.append(entry)
        self._delegate()
        self._open_early()
        self.make_processes()
        self.settle_namespaces()
        self._root()
        self.process.directory()
        self.process.limits()
        self.process.write_labels()
        self.process.privileges()
        self.process.become(self._hooks("start_container"))
        self._after()
        return Compiled(
            tuple(b.plan), self.cgroup.paths, self.cgroup.leaf, self.cgroup.before, self.cgroup.freezer,
            b.new | sum(flag for flag, _ in b.joined), (*self.cgroup.not_enforced, *b.not_enforced), tuple(b.notes),
        )  # fmt: skip

    def _attend(self) -> None:
        """First of all: from here on no other process is between the supervisor and the container."""
        attend, id = self.setting.attend, self.setting.id
        if attend is None:
            return
        step = steps.Attend(
            attend.logs, attend.log_bytes, attend.log_count, attend.socket, attend.ended, attend.after, attend.health,
            attend.health_ms, f"kist {id[:12]}", int(self.setting.stdio.detached),
        )  # fmt: skip
        self.host("exec", step, "it outlives the command that started it" if step.detached else "it is kept")

    def _delegate(self) -> None:
        """Source: OCI config-linux.md, "Cgroup ownership"."""
        b = self.b
        shown = any(m.type in ("cgroup", "cgroup2") and "ro" not in m.options for m in self.spec.mounts)
        new = b.makes(f.CLONE_NEWUSER) and b.makes(f.CLONE_NEWCGROUP)
        if shown and new and b.privileged_host and self.facts.cgroup.version == 2:
            owner = host_id(b.mappings("uid"), self.process.process.user.uid, "$.process.user.uid")
            for path in self.cgroup.paths:
                self.host("cgroup", steps.CgroupOwn(path, owner), "its root may divide it further")

    # --- processes and namespaces

    def _open_early(self) -> None:
        setting, b = self.setting, self.b
        self.root.open_sources()
        self.root.make_nodes()
        if setting.stdio.console_socket:
            self.host("exec", steps.Connect(setting.stdio.console_socket, Slots.CONSOLE), "who gets the terminal")
        if setting.notify_directory and setting.mode != CREATE:
            self.notify = (b.slot(), b.slot())
            listen = steps.Listen(setting.notify_directory, NOTIFY_NAME, self.notify[0])
            self.host("exec", listen, "what the command says of itself")
            self.host("exec", steps.Connect(setting.notify_socket, self.notify[1]), "who wants to know")
        if setting.start_fifo:
            self.host("exec", Open(setting.start_fifo, _O_RDWR_CLOEXEC, Slots.START), "how it will be started")
        why = "shared with its supervisor" if setting.attend else "the caller's terminal: it is copied, not handed over"
        for fd in setting.piped if not self.terminal else ():
            self.host("exec", Pipe(*PIPES[fd]), f"fd {fd} is {why}")

    def make_processes(self) -> None:
        b = self.b
        slots = {flag: b.slot() for flag, _ in b.joined}
        if self.setting.shared:
            self.bridges = b.slot()
            why = "the bridges of this user's networks are there; first made as `unshare --user --map-auto --net` would"
            self.host("network", Open(self.setting.shared, _O_RDONLY_CLOEXEC, self.bridges), why)
        for flag, path in b.joined:
            self.host("namespaces", Open(path, _O_RDONLY_CLOEXEC, slots[flag]), "a namespace that exists")
        late = f.CLONE_NEWCGROUP if not self.cgroup.uses_clone_into else 0
        late |= f.CLONE_NEWTIME if self.offsets else 0
        cgroup = Slots.CGROUP if self.cgroup.uses_clone_into else Slots.NONE
        # Those owned by the joined user namespace can be entered from within, others only before that.
        joined = sorted(b.joined, key=lambda flag_path: flag_path[0] != f.CLONE_NEWUSER)
        if self.staged:
            early = f.CLONE_NEWUSER if self.user_in_stage else 0
            self.host("namespaces", Clone(STAGE, early, cgroup), "enters what exists already")
            if self.user_in_stage:
                map_ids(b, STAGE)
            self._join(STAGE, joined, slots)
            late = f.CLONE_NEWTIME if self.offsets else 0  # the others come with the user namespace that owns them
            if late & b.new:
                b.stage("namespaces", Unshare(late & b.new), "these take effect from where the process is now")
            self._time_offsets(STAGE)
            b.stage("namespaces", Clone(INIT, b.new & ~late & ~early), "the container's first process")
            self.host("namespaces", steps.Adopt(), "the supervisor's child from now on")
        else:
            flags = b.new & ~late
            self.host("namespaces", Clone(INIT, flags, cgroup), "the container's first process")
        if self.oom_score_adj is not None and b.privileged_host:
            self._oom_score("/proc/$init_pid/oom_score_adj", b.host)
        if b.makes(f.CLONE_NEWUSER) and not self.user_in_stage:
            map_ids(b, INIT)
        if self.setting.mode == RUN:
            self.init("privileges", DieWithParent(), "no container without its supervisor")
        if not self.staged:
            self._join(INIT, joined, slots)
            if late & b.new:
                self.init("namespaces", Unshare(late & b.new), "these take effect from where the process is now")
            self._time_offsets(INIT)
        if self.oom_score_adj is not None and not b.privileged_host:
            self._oom_score("/proc/self/oom_score_adj", b.init)
        if self.spec.linux.net_devices:
            from kist.plan.compile_network import move_devices  # seldom needed, and an import at each start

            move_devices(b, slots.get(f.CLONE_NEWNET, 0))
        if self.setting.cables and not self.setting.shared:
            from kist.plan.compile_cable import connect

            connect(b, self.setting.cables)
        if self.setting.state_file:
            self.host(
                "exec", CreateFile(self.setting.state_file, self.setting.state, 0o600), "what other commands go by"
            )

    def _oom_score(self, path: str, take: object) -> None:
        assert callable(take)
        take("privileges", WriteFile(path, str(self.oom_score_adj)), "whom the kernel kills first")

    def _join(self, actor: int, joined: Iterable[tuple[int, str]], slots: dict[int, int]) -> None:
        """Cgroups (v1) and namespaces that exist."""
        b = self.b
        b.plan += [Entry(e.step, actor, e.group, e.why) for e in self.cgroup.join]
        joined = list(joined)
        if b.privileged_host and any(flag == f.CLONE_NEWUSER for flag, _ in joined):
            for flag, path in joined[1:]:
                b.plan.append(Entry(steps.Setns(slots[flag], flag, attempt=1), actor, "namespaces", f"shared: {path}"))
        for flag, path in joined:
            b.plan.append(Entry(steps.Setns(slots[flag], flag), actor, "namespaces", f"shared: {path}"))
            if flag == f.CLONE_NEWUSER:
                b.plan.append(Entry(SetIds(0, 0), actor, "namespaces", "become root inside"))

    def _time_offsets(self, actor: int) -> None:
        if not self.offsets:
            return
        for clock in self.offsets:
            if clock not in ("monotonic", "boottime"):
                raise InvalidInput(f"unknown clock {clock!r}", path="$.linux.timeOffsets", next="monotonic, boottime")
        text = "\n".join([f"{clock} {offset.secs} {offset.nanosecs}" for clock, offset in self.offsets.items()])
        step = WriteFile("/proc/self/timens_offsets", text)
        self.b.plan.append(Entry(step, actor, "namespaces", "what its clocks show beyond the host's"))

    def settle_namespaces(self) -> None:
        b, spec = self.b, self.spec
        if b.has(f.CLONE_NEWNS):
            self.root.open_shared()
            flags = rootfs_propagation(spec.linux.rootfs_propagation)
            self.init("namespaces", MountPropagation("/", flags), "else our mounts reach the host")
        self.init("privileges", Seal(), "nothing inside may look into the launcher")
        self.process.detach(keyring=self.setting.keyring)
        if b.makes(f.CLONE_NEWNET):
            self.init("network", LinkUp("lo"), "programs talk to themselves over it")
        if self.setting.pasta:
            self.init("network", steps.SendNamespaces(), "for whoever serves its network")
            self.host("network", steps.Beside(self.setting.pasta), "its interface, and its way out and in")
            self.host("network", steps.Signal(), "the network is there")
            self.init("network", steps.Await(), "for the network")
        if self.setting.egress:
            from kist.plan.compile_egress import relay  # seldom needed, as above

            relay(b, self.setting.egress)
        if self.setting.shared:
            from kist.plan.compile_shared import plug_in

            plug_in(b, self.setting.cables, self.bridges)
        for kind, name in (("Sethostname", spec.hostname), ("Setdomainname", spec.domainname)):
            if name:
                if not b.has(f.CLONE_NEWUTS):
                    raise InvalidInput(
                        f"{name!r} would rename the host", path="$.hostname", next="list a uts namespace"
                    )
                self.init("namespaces", getattr(steps, kind)(name), "a name of its own")

    # --- the root

    def _root(self) -> None:
        root, spec = self.root, self.spec
        root.make_root()
        root.write_files()  # before anything of the host's is mounted: that is not to be written
        root.make_mounts()
        if self.b.has(f.CLONE_NEWNS):
            root.make_devices()
        root.write_secrets()
        self._create_hooks()
        self.process.terminal(console=True)
        if self.setting.mode == RUN:
            self._relays()  # here, in the order in which the other side hands things out
        sysctls = {sysctl_path(key, self.b, "$.linux.sysctl"): value for key, value in spec.linux.sysctl.items()}
        if spec.domainname and sysctls.get("kernel/domainname", spec.domainname) != spec.domainname:
            raise InvalidInput("kernel.domainname conflicts with the domainname", path="$.linux.sysctl")
        if sysctls or self.process.labels():
            root.open_proc()
        for path, value in sysctls.items():
            self.init("privileges", WriteProc(f"sys/{path}", value), "asked for")
        cwd = self.process.cwd
        if cwd != "/":
            self.init("rootfs", MkdirAt(cwd), "the working directory")
        if self.b.has(f.CLONE_NEWNS):
            root.hide()
        root.seal_mounts()
        root.enter()

    def _hooks(self, name: str) -> tuple[Hook, ...]:
        found: tuple[Hook, ...] = getattr(self.spec.hooks, name) if self.spec.hooks else ()
        return found

    def _create_hooks(self) -> None:
        state = self.setting.hook_state
        inside = self._hooks("create_container")
        if not (inside or self._hooks("prestart") or self._hooks("create_runtime")):
            return
        self.init("exec", steps.Signal(), "everything is mounted: time for the hooks")
        self.host("exec", steps.Await(), "until everything is mounted")
        output = self.setting.hook_output
        for hook in self._hooks("prestart"):
            step = hook_step(hook, state.replace('"creating"', '"created"'), output=output)
            self.host("exec", step, "prestart")
        for hook in self._hooks("create_runtime"):
            self.host("exec", hook_step(hook, state, output=output), "createRuntime")
        self.host("exec", steps.Signal(), "the hooks outside are done")
        self.init("exec", steps.Await(), "for the hooks outside")
        for hook in inside:
            self.init("exec", hook_step(hook, state), "createContainer")

    # --- the supervisor's second half

    def _relays(self) -> None:
        stdio = self.setting.stdio
        if self.terminal and not stdio.console_socket:
            to = Slots.NONE if stdio.detached else Slots.STDOUT
            self.host("exec", steps.Relay(Slots.PTY, to), "what it prints")
            if stdio.stdin == "pass" and not stdio.detached:
                self.host("exec", steps.Relay(Slots.STDIN, Slots.PTY), "what is typed")
        elif not self.terminal:
            ends = {
                0: (Slots.STDIN, Slots.IN_WRITE),
                1: (Slots.OUT_READ, Slots.STDOUT),
                2: (Slots.ERR_READ, Slots.STDERR),
            }
            for fd in self.setting.piped:
                source, to = ends[fd]
                if not stdio.detached:
                    self.host("exec", steps.Relay(source, to), f"copies fd {fd}")
                elif fd:
                    self.host("exec", steps.Relay(source, Slots.NONE), f"fd {fd} is logged")

    def _after(self) -> None:
        setting = self.setting
        if setting.mode != RUN:
            self.host("exec", AwaitReady(int(setting.mode == DETACH)), "until there is nothing left that can fail")
        told = setting.pid_file or setting.pidfd_socket or setting.release
        if setting.mode == RUN and (self._hooks("poststart") or told):
            self.host("exec", AwaitReady(1), "until it is the command")
        if setting.release:
            self.host("cgroup", WriteFile(setting.release, "-", optional=1), "who has kept its place may go")
        if setting.pidfd_socket:
            self.host("exec", steps.SendPidfd(setting.pidfd_socket), "for whoever watches the process")
        if setting.pid_file:
            self.host("exec", CreateFile(setting.pid_file, "$init_pid", keep=1), "for whoever watches the process")
        if setting.mode != CREATE:
            for hook in self._hooks("poststart"):
                state = setting.hook_state.replace('"creating"', '"running"')
                self.host("exec", hook_step(hook, state, output=setting.hook_output), "poststart")
        if self.notify and setting.mode == DETACH:
            self.host("exec", steps.AwaitNotification(*self.notify), "until it says that it is ready")
        elif self.notify:
            self.host("exec", steps.Relay(*self.notify), "what the command says of itself")
        if setting.mode != RUN:
            self.host("exec", Leave(), "the container lives on")
            return
        step: Step = Supervise(setting.timeout_ms, setting.timeout_text, self.cgroup.freezer, int(setting.reaper))
        self.host("exec", step, "until the command ends")
        self.b.plan += self.cgroup.after
        if setting.attend:
            self.host("exec", steps.RecordEnd(), "what `kist ps` and a restart go by")
        if setting.oom_text and self.cgroup.oom_counter:
            path, key = self.cgroup.oom_counter
            self.host("cgroup", Warn(path, key, setting.oom_text), "memory ran out: say so")
        for hook in self._hooks("poststop"):
            state = setting.hook_state.replace('"creating"', '"stopped"')
            step = hook_step(hook, state, warning=POSTSTOP_WARNING, output=setting.hook_output)
            self.host("exec", step, "poststop")


def map_ids(b: Builder, actor: int) -> None:
    """Of the user namespace that `actor` has just been born in."""
    facts, pid = b.facts, "/proc/$init_pid"
    why = "ids inside are other ids outside"
    if b.helper_maps:
        for helper, kind in ((facts.newuidmap, "uid"), (facts.newgidmap, "gid")):
            step = steps.IdMapHelper((helper, "$init_pid", *map_words(b.mappings(kind))))
            b.host("namespaces", step, why)
    else:
        if not b.maps_any_id:
            b.host("namespaces", WriteFile(f"{pid}/setgroups", "deny"), "user_namespaces(7) asks for it")
        for kind in ("uid", "gid"):
            b.host("namespaces", WriteFile(f"{pid}/{kind}_map", id_map_text(b.mappings(kind))), why)
    b.host("namespaces", steps.Signal(), "the maps are written")
    b.plan.append(Entry(steps.Await(), actor, "namespaces", "for the maps"))
    b.plan.append(Entry(SetIds(0, 0), actor, "namespaces", "become root inside"))


def map_words(mappings: Iterable[IdMapping]) -> list[str]:
    """As newuidmap(1) takes them."""
    return [str(n) for m in mappings for n in (m.container_id, m.host_id, m.size)]


def compile_container(spec: Spec, facts: HostFacts, setting: Setting) -> Compiled:
    """The plan of a container. Raises InvalidInput (with the JSON path), Refused, Unsupported: nothing was done yet."""
    if spec.process is None and setting.mode != CREATE:
        raise InvalidInput("process is missing", path="$")
    return Compiler(spec, spec.process or Process((), "/"), facts, setting).compile()
