"""`restore` of the OCI runtime: a container again, from what `checkpoint` has written. Source: runc restore."""

from __future__ import annotations

import os

from kist.codec import decode_text, dumps
from kist.engine.runtime.checkpoint import (
    DESCRIPTORS,
    EXTERNAL,
    CriuRequest,
    common_options,
    external_mounts,
    say_log,
)
from kist.engine.runtime.container import CREATED, CRIU_ROOT, OPTIONAL_LIMITS, Container, Record, remove_directory
from kist.engine.runtime.create import load_spec, shares_pids, with_id_maps
from kist.errors import InvalidInput, NotFound
from kist.kernel.criu import RESTORE, Criu, CriuFailed, require_version
from kist.kernel.launcher import Launcher
from kist.kernel.mounts import bind, enter_own_namespace, unmount
from kist.kernel.probe import probe
from kist.kernel.program import open_program
from kist.plan import flags as f
from kist.plan.builder import NAMESPACES
from kist.plan.compile import Compiled, compile_container
from kist.plan.setting import DETACH, Files, Setting
from kist.plan.steps import HOST, BindAt, Entry, Leave, MkdirAt, MountAt, MountPropagation, OpenRoot, Slots, Unshare
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.scope import Scope
    from kist.kernel.criu import Field
    from kist.plan.steps import Plan, Step
    from kist.spec.runtime import Spec


class RestoreRequest(Value):
    """Options as runc's. Paths are absolute."""

    id: str
    bundle: str
    criu: CriuRequest
    cgroup_manager: str = "cgroupfs"
    console_socket: str = ""
    pid_file: str = ""
    detach: bool = False


class _Restore:
    def __init__(self, containers: Containers, request: RestoreRequest, warn: Callable[[str], None]) -> None:
        self.request, self.warn, self.pid = request, warn, 0
        self.spec, self.text = load_spec(f"{request.bundle}/config.json")
        self.facts = probe()
        self.spec = with_id_maps(self.spec, self.facts)
        self.scope: Scope | None = None
        spec = self.spec
        if request.cgroup_manager == "systemd":
            from kist.engine.runtime.scope import start, within

            self.scope = start(spec, request.id, self.facts)
            spec, self.facts = within(spec, self.facts, self.scope)
        self.compiled = self._compile(spec)
        self.container = Container(containers.path(request.id), self._record())

    @property
    def rootfs(self) -> str:
        path = self.spec.root.path
        return path if path.startswith("/") else os.path.normpath(f"{self.request.bundle}/{path}")

    def _compile(self, spec: Spec) -> Compiled:
        """For the cgroup and the places of mounts: criu does the rest, and network devices are in the network still."""
        request, spec = self.request, replace(spec, linux=replace(spec.linux, net_devices={}))
        return compile_container(spec, self.facts, Setting(
            id=request.id, files=Files(path=os.path.realpath(self.rootfs)), mode=DETACH, bundle=request.bundle,
            cgroup=request.cgroup_manager != "disabled", exclusive_cgroup=False, default_devices=True,
            optional_limits=OPTIONAL_LIMITS, all_hierarchies=True,
        ))  # fmt: skip

    def _record(self) -> Record:
        import time

        compiled, spec = self.compiled, self.spec
        return Record(
            id=self.request.id, bundle=self.request.bundle, rootfs=self.rootfs, oci_version=spec.oci_version,
            created_ns=time.time_ns(), annotations=spec.annotations, owner=os.geteuid(), creator=os.getpid(),
            unit=self.scope.unit if self.scope else "", cgroups=compiled.cgroup_paths, freezer=compiled.freezer,
            namespaces=sum(NAMESPACES[namespace.type][0] for namespace in spec.linux.namespaces),
            shares_pids=shares_pids(spec),
        )  # fmt: skip

    def run(self) -> int:
        """The number of the first process. On failure nothing of it stays."""
        container = self.container
        try:
            self._write("config.json", self.text)
            self._write("record", dumps(container.record).encode())
            if self.compiled.cgroup_leaf:
                from kist.kernel.cgroup import enter

                enter(self.compiled.cgroup_leaf)
            self._prepare()
            return self._bring_back()
        except BaseException:
            from kist.kernel.cgroup import remove_cgroups

            remove_cgroups(container.record.cgroups)
            remove_directory(container.path)
            raise

    def _write(self, name: str, data: bytes) -> None:
        """Whoever sees the file sees all of it."""
        new = f"{self.container.path}/record.new"
        with open(new, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(data)
        os.rename(new, f"{self.container.path}/{name}")

    def _prepare(self) -> None:
        """The cgroup, and in the root file system the places of mounts: criu expects them to be there."""
        program = open_program()
        try:
            Launcher((*self.compiled.cgroup_steps, *self._places(), _host(Leave())), program).end()
        finally:
            os.close(program)

    def _places(self) -> Plan:
        """By mounting what shows files of the host, in a mount namespace that is thrown away: what is below a mount
        belongs there. What is on a tmpfs is in the images."""
        steps: list[Step] = [
            Unshare(f.CLONE_NEWNS),
            MountPropagation("/", f.MS_SLAVE | f.MS_REC),
            OpenRoot(self.rootfs),
        ]
        for step in (entry.step for entry in self.compiled.plan):
            if isinstance(step, BindAt) and step.tree == Slots.NONE and not step.target.startswith("/sys/fs/cgroup/"):
                steps.append(replace(step, propagation=0))
            elif isinstance(step, MountAt) and step.fstype == "tmpfs" and not step.target.startswith("/sys/"):
                steps.append(replace(step, slot=Slots.NONE, propagation=0))
            elif isinstance(step, MountAt) and not step.target.startswith("/sys/"):
                steps.append(MkdirAt(step.target))
        return tuple([_host(step) for step in steps])

    def _bring_back(self) -> int:
        container, opened = self.container, list[int]()
        root = f"{container.path}/{CRIU_ROOT}"
        try:
            # criu wants the root to be a mount point: in a mount namespace of ours, which goes with us. It mounts below
            # the directories that it is given, so they are opened in there, too.
            os.mkdir(root, 0o755)
            enter_own_namespace()
            bind(self.rootfs, root)
            options = self._options(root, opened)
            with Criu(fds=opened) as criu:
                options["cg_root"] = self._join_cgroups(criu.pid)
                criu.ask(RESTORE, options, self._told)
            return self.pid
        except CriuFailed:
            say_log(self.request.criu, "restore.log", self.warn)
            raise
        finally:
            for fd in opened:
                os.close(fd)
            unmount(root)
            if os.path.isdir(root):
                os.rmdir(root)

    def _options(self, root: str, opened: list[int]) -> dict[str, Field]:
        """`opened` grows by the fds among them."""
        request, container = self.request.criu, self.container
        if request.work_path:
            os.makedirs(request.work_path, 0o700, exist_ok=True)
        options = common_options(request, container, opened, "restore.log")
        inherited, joined = self._namespaces(opened)
        mounts = [*external_mounts(self.spec, container), ("/dev/null", "/dev/null")]  # the last one for masked files
        options |= {
            "root": root, "rst_sibling": 1, "evasive_devices": 1, "join_ns": joined,
            "inherit_fd": [*inherited, *self._pipes()],
            "ext_mnt": [{1: key, 2: source} for key, source in mounts],
        }  # fmt: skip
        if request.lsm_profile:
            options["lsm_profile"] = request.lsm_profile
        if request.lsm_mount_context:
            options["lsm_mount_context"] = request.lsm_mount_context
        return options

    def _join_cgroups(self, pid: int) -> list[Field]:
        """criu moves to the container's cgroups, and so does all that it makes. Returns where that is."""
        for path in self.container.record.cgroups:
            with open(f"{path}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
        if self.scope:
            os.close(self.scope.hold)  # its place has been taken
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.rstrip("\n").split(":", 2) for line in file]
        return [{1: controllers, 2: path} for _, controllers, path in rows]

    def _namespaces(self, opened: list[int]) -> tuple[list[Field], list[Field]]:
        """Those that exist and are to be found again, not made: inherited and joined ones, which is criu's to tell."""
        inherited: list[Field] = []
        joined: list[Field] = []
        for namespace in self.spec.linux.namespaces:
            if not namespace.path:
                continue
            if namespace.type in EXTERNAL:
                try:
                    opened.append(os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC))
                except OSError as e:
                    raise NotFound(f"Requested network namespace {namespace.path} does not exist", why=str(e)) from e
                inherited.append({1: EXTERNAL[namespace.type][1], 2: opened[-1]})
            elif namespace.type == "cgroup":
                raise InvalidInput("criu cannot join a cgroup namespace", path="$.linux.namespaces")
            else:
                joined.append({1: NAMESPACES[namespace.type][1], 2: namespace.path})
        return inherited, joined

    def _pipes(self) -> list[Field]:
        """Where fds 0, 1, 2 were pipes, criu takes the caller's."""
        path = f"{self.request.criu.image_path}/{DESCRIPTORS}"
        try:
            with open(path, "rb") as file:
                names = decode_text(_Descriptors, b'{"names":%s}' % file.read(1 << 16), path).names
        except OSError as e:
            raise NotFound(f"cannot read {path}: {e.strerror}", next="--image-path DIR, of a whole checkpoint") from e
        return [{1: name, 2: fd} for fd, name in enumerate(names[:3]) if "pipe:" in name]

    def _told(self, script: str, pid: int, fds: list[int]) -> None:
        """By criu, while it is at work."""
        if script == "setup-namespaces" and self.spec.hooks:
            hooks = (*self.spec.hooks.prestart, *self.spec.hooks.create_runtime)
            if hooks:
                from kist.engine.runtime.lifecycle import run_hooks

                self._write("state.json", dumps({"pid": pid}).encode())
                run_hooks(self.container, hooks, CREATED)
        elif script == "orphan-pts-master" and fds:
            self._hand_over(fds[0])
        elif script == "post-restore":
            self.pid = pid
            self._write("record", dumps(replace(self.container.record, namespaces=_namespace_flags(pid))).encode())
            self._write("state.json", dumps({"pid": pid}).encode())

    def _hand_over(self, terminal: int) -> None:
        """The terminal's master side, to who asked for it. Source: runc docs/terminals.md."""
        if not self.request.console_socket:
            return
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
            console.connect(self.request.console_socket)
            socket.send_fds(console, [b"/dev/ptmx"], [terminal])


class _Descriptors(Value):
    names: tuple[str, ...]


def _host(step: Step) -> Entry:
    return Entry(step, HOST, "rootfs", "for criu")


def _namespace_flags(pid: int) -> int:
    """Those that a process is in and we are not: criu makes a time namespace that nobody asked for."""
    flags = 0
    for flag, name in NAMESPACES.values():
        own, theirs = (os.readlink(f"/proc/{of}/ns/{name}") for of in (os.getpid(), pid))
        flags |= flag if own != theirs else 0
    return flags


def restore(containers: Containers, request: RestoreRequest, warn: Callable[[str], None]) -> int:
    """The number of the container's first process, which is a child of ours.

    Raises Conflict when the id is taken, InvalidInput, NotFound, Unsupported, CriuFailed.
    """
    require_version()
    work = _Restore(containers, request, warn)
    if not os.path.isdir(work.rootfs):
        raise NotFound(f"the root file system {work.rootfs} does not exist", why="$.root.path names no directory")
    containers.make(request.id)
    pid = work.run()
    if request.pid_file:
        with open(request.pid_file, "w", encoding="ascii") as file:
            file.write(str(pid))
    return pid


def stay(containers: Containers, id: str, pid: int) -> int:
    """Until the first process, a child of ours, has ended: then the container is gone. Signals are for it.

    Returns its exit status, or 128 and the number of the signal that it died of.
    """
    import signal

    from kist.engine.runtime.lifecycle import delete

    def pass_on(number: int, _: object) -> None:
        os.kill(pid, number)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, pass_on)
    _, status = os.waitpid(pid, 0)
    delete(containers, id, force=True)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
