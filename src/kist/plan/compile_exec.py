"""The plan of one more process in a container that is there: `exec`. Pure."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.plan import flags as f
from kist.plan.builder import Builder
from kist.plan.compile import PIPES, Compiled
from kist.plan.compile_process import ProcessCompiler
from kist.plan.setting import DETACH, RUN
from kist.plan.steps import (
    INIT,
    STAGE,
    Adopt,
    AwaitReady,
    CgroupJoin,
    Clone,
    Connect,
    CreateFile,
    DieWithParent,
    Discard,
    Dup,
    Entry,
    Leave,
    Open,
    OpenPidfd,
    OpenProc,
    OwnNull,
    Pipe,
    Relay,
    Seal,
    SendPidfd,
    SetIds,
    Setns,
    Slots,
    Supervise,
    WriteFile,
)
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.facts import HostFacts
    from kist.plan.setting import Setting
    from kist.spec.runtime import Process, Spec

_O_DIRECTORY = 0o2200000
_O_RDWR = 0o2000002
_ENDS = {
    0: (Slots.STDIN, Slots.IN_WRITE),
    1: (Slots.OUT_READ, Slots.STDOUT),
    2: (Slots.ERR_READ, Slots.STDERR),
}


def compile_exec(
    spec: Spec,
    process: Process,
    facts: HostFacts,
    setting: Setting,
    target_pid: int,
    namespaces: int,
    cgroups: tuple[str, ...],
) -> Compiled:
    """`namespaces`: clone flags of those that the process behind `target_pid` is in; `cgroups`: directories to join.

    Raises InvalidInput, Refused, Unsupported.
    """
    linux = replace(spec.linux, namespaces=(), personality=spec.linux.personality)
    b = Builder(replace(spec, linux=linux), facts, setting, joining=namespaces)
    command = ProcessCompiler(b, process, spec.linux.seccomp)
    b.host("namespaces", OpenPidfd(target_pid, Slots.TARGET), "the container, by a handle that no other process gets")
    if setting.stdio.console_socket:
        b.host("exec", Connect(setting.stdio.console_socket, Slots.CONSOLE), "who gets the terminal")
    relays = () if process.terminal else setting.stdio.relays
    for fd in relays:
        b.host("exec", Pipe(*PIPES[fd]), f"fd {fd} is the caller's terminal: it is copied, not handed over")
    if setting.stdio.stdin == "null" and not process.terminal:
        b.host("exec", Open("/dev/null", _O_RDWR, Slots.NULL), "until the container's own takes its place")
    v2 = facts.cgroup.version == 2 and len(cgroups) == 1
    if v2:
        b.host("cgroup", Open(cgroups[0], _O_DIRECTORY, Slots.CGROUP), "its place")
    b.host("namespaces", Clone(STAGE, 0, Slots.CGROUP if v2 else Slots.NONE), "enters the container")
    for path in () if v2 else cgroups:
        b.stage("cgroup", CgroupJoin(path), "its place")
    if process.exec_cpu_affinity and process.exec_cpu_affinity.initial:
        b.plan.append(Entry(command.affinity_step(process.exec_cpu_affinity.initial), STAGE, "exec", "while entering"))
    b.stage("namespaces", Setns(Slots.TARGET, namespaces), "all namespaces of the container")
    if namespaces & f.CLONE_NEWUSER:
        b.stage("namespaces", SetIds(0, 0), "become root inside")
    b.stage("namespaces", Clone(INIT, 0), "a process of the container's PID namespace")
    b.host("namespaces", Adopt(), "the supervisor's child from now on")
    if process.oom_score_adj is not None:
        b.host("privileges", WriteFile("/proc/$init_pid/oom_score_adj", str(process.oom_score_adj)), "asked for")
    if setting.mode == RUN:
        b.init("privileges", DieWithParent(), "no process without its supervisor")
    b.init("privileges", Seal(), "nothing inside may look into the launcher")
    command.detach(keyring=False)
    command.terminal(console=False)
    terminal = process.terminal and not setting.stdio.console_socket
    if setting.mode == DETACH and terminal:
        b.host("exec", Discard(), "nobody sees what it prints")
    elif terminal:
        b.host("exec", Relay(Slots.PTY, Slots.STDOUT), "what it prints")
        if setting.stdio.stdin == "pass":
            b.host("exec", Relay(Slots.STDIN, Slots.PTY), "what is typed")
    for fd in relays:
        b.host("exec", Relay(*_ENDS[fd]), f"copies fd {fd}")
    if command.labels():
        b.init("privileges", OpenProc(), "to write labels there")
    if not setting.stdio.own_files:
        for fd in (1, 2) if setting.mode == DETACH and not process.terminal else ():
            b.init("exec", Dup(Slots.NULL, fd), "nobody reads it")
        b.init("exec", OwnNull(), "the host's is not its own")
    command.directory()
    command.limits()
    if process.exec_cpu_affinity and process.exec_cpu_affinity.final:
        b.init("exec", command.affinity_step(process.exec_cpu_affinity.final), "execCPUAffinity")
    command.write_labels()
    command.privileges()
    command.become()
    _after(b)
    return Compiled(tuple(b.plan), notes=tuple(b.notes))


def _after(b: Builder) -> None:
    setting = b.setting
    if setting.mode not in (RUN, DETACH):
        raise InvalidInput(f"exec has no mode {setting.mode!r}")
    if setting.mode == DETACH or setting.pid_file or setting.pidfd_socket:
        b.host("exec", AwaitReady(1), "until it is the command")
    if setting.pidfd_socket:
        b.host("exec", SendPidfd(setting.pidfd_socket), "for whoever watches the process")
    if setting.pid_file:
        b.host("exec", CreateFile(setting.pid_file, "$init_pid", keep=1), "for whoever watches the process")
    if setting.mode == DETACH:
        b.host("exec", Leave(), "the process lives on")
        return
    b.host("exec", Supervise(), "until the command ends")
