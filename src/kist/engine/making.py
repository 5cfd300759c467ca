"""A container between its directories and its launcher: what `kist run`, `start` and `kist.run()` have in common."""

from __future__ import annotations

import errno

from kist.engine.prepare import Prepared, Source, scratch_for, setting_for
from kist.engine.state import Record, StateDirectory
from kist.errors import Conflict, InvalidInput, KistError, Refused
from kist.kernel.probe import probe
from kist.plan.request import RunRequest
from kist.plan.setting import Attend, Stdio
from kist.system import os
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.joining import Joined
    from kist.network.attach import Attachment
    from kist.plan.facts import HostFacts


class Keeping(Value):
    """For a container that is kept: its directory, its image's digest, and what its supervisor does besides."""

    id: str
    name: str
    directory: str
    image: str
    attend: Attend


class Making:
    """One container on its way. Until it comes to a launcher, `close(remove=True)` leaves nothing of it.

    `kept`: what it writes is kept, and `request` has what the image adds already; else all of it goes with its end.
    `source`: what that container was made from just now, ours from here on.
    Raises KistError, OSError: then nothing is left.
    """

    def __init__(
        self, request: RunRequest, stdio: Stdio, states: StateDirectory, *, attached: bool, kept: Keeping | None = None,
        source: Source | None = None,
    ) -> None:  # fmt: skip
        id = kept.id if kept else os.urandom(32).hex()
        path = f"{states.base}/{id}"
        facts = source.facts if source else probe()
        self.id, self.states, self.kept = id, states, kept
        self.attachment: Attachment | None = None
        self.joined: Joined | None = None
        self._name = ""
        if source and kept:
            source.keep(request, kept)
        self.source = source or Source(request, facts, scratch_for(request, facts, f"{path}/scratch"), kept)
        try:
            self.state = states.reserve(id)
        except BaseException:
            self.source.close()
            raise
        try:
            self._prepare(facts, stdio, path, attached)
        except BaseException:
            self.close(remove=True)
            raise

    def _prepare(self, facts: HostFacts, stdio: Stdio, path: str, attached: bool) -> None:
        kept = self.kept
        if not kept and needs_volumes(self.source.request):
            from kist.engine.containers import Containers

            self.source.settle(Containers(states=self.states), kept=False)
        self.source.borrow(self.states)
        request = self.source.request
        self._attach(request, facts)
        if "container:" in request.network + request.pid or "ns:" in request.network + request.pid:
            from kist.engine.joining import join

            self.joined = join(request, facts, self.states, self.id)
            self.source.add_files(self.joined.files)
        if request.name and not kept:
            self._name = self.states.claim(request.name, self.id)
        names = ("attach", "health") if kept else ("net",) if request.allow_net else ()
        lent = (self.states.lent(self.source.files.erofs),) if self.source.lends else ()  # behind the record: see lend
        removals = (path, *lent, f"{path}/record", f"{path}/scratch", *[f"{path}/{name}" for name in names])
        removals += (self._name,) if self._name else ()
        a = self.attachment
        setting = setting_for(request, self.id, self.source, stdio, removals, attached=attached, attachment=a,
                              kept=kept)  # fmt: skip
        joined = dict(self.joined.paths) if self.joined else {}
        if a and a.shared:
            if os.stat(joined.get("user", a.shared.user_path)).st_ino != os.fstat(a.shared.user).st_ino:
                raise Refused(f"--pid {request.pid} and --network {request.network} are of two user namespaces",
                              next="the other container in a network, too", code="two-users")  # fmt: skip
            joined["user"] = a.shared.user_path
        self.prepared = Prepared(request, facts, setting, self.source, joined)
        self.compiled = self.prepared.compiled
        if self.compiled.cgroup_leaf:
            from kist.kernel.cgroup import enter

            enter(self.compiled.cgroup_leaf)
        self.state.publish(Record(
            id=self.id, name=kept.name if kept else request.name, created_ns=_now_ns(),
            networks=a.networks if a else (), ports=a.ports if a else (),
            shared=a.shared.words if a and a.shared else "",
            cgroups=self.compiled.cgroup_paths, freezer=self.compiled.freezer, namespaces=self.compiled.namespaces,
            request=None if kept else request,
        ))  # fmt: skip

    def _attach(self, request: RunRequest, facts: HostFacts) -> None:
        if self.source.relayed and not self.source.cabled:
            from kist.network.publish import relay_ports

            self.attachment = relay_ports(request, ipv6=facts.ipv6)
        elif self.source.cabled:
            from kist.network.attach import attach
            from kist.value import replace

            named = replace(request, name=self.kept.name) if self.kept else request
            self.attachment = attach(self.states, named, facts, self.id, fresh=not self.kept)
        elif request.pasta:
            from kist.network import pasta

            self.attachment = pasta.attach(request, facts)
        elif request.needs_cable:
            from kist.network.publish import check_published

            check_published(request)

    def lend(self, pid: int) -> None:
        """Its supervisor, which may give others the image's tree."""
        if self.source.lends:
            self.states.lend(self.source.files.erofs, pid, self.id)

    def open_denials(self) -> int:
        """What its relay will write, to be read when all else of the container is gone; -1: it has none."""
        if not self.source.request.allow_net:
            return -1
        from kist.engine.denials import FILE

        return os.open(f"{self.state.path}/{FILE}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    @property
    def kept_fds(self) -> tuple[int, ...]:
        lease = (self.source.lease,) if self.source.lease >= 0 else ()
        joined = self.joined.fds if self.joined else ()
        a = self.attachment
        shared = (a.shared.net, a.shared.user) if a and a.shared else ()
        return (self.state.fd, *lease, *joined, *(a.fds if a else ()), *shared)

    @property
    def notes(self) -> tuple[str, ...]:
        return (*(self.attachment.notes if self.attachment else ()), *self.compiled.notes)

    def close(self, *, remove: bool) -> None:
        """Let go of what the launcher has by now; or, when it never came to one, remove it."""
        try:
            if remove:
                self._give_back()
        finally:
            self.state.close()
            self.source.close()
            if self.joined:
                self.joined.close()
            if self.attachment:
                self.attachment.close()
                if remove:
                    self.let_go()

    def _give_back(self) -> None:
        """The directory last: as long as it is there, a sweep finds what is left."""
        if self.attachment and self.source.cabled:
            from kist.network.attach import release

            release(self.states, self.id)
        if self._name:
            os.unlink(self._name)
        self.state.remove()

    def let_go(self) -> None:
        """Of what containers share, when others can find it at the launcher's: it has started, or is gone."""
        if self.attachment and self.attachment.shared:
            self.attachment.shared.close()


def needs_volumes(request: RunRequest) -> bool:
    return bool(request.volumes_from) or any(m.kind == "volume" for m in (*request.volumes, *request.mounts))


def make(
    request: RunRequest, stdio: Stdio, states: StateDirectory, *, attached: bool, kept: Keeping | None = None,
    source: Source | None = None,
) -> Making:  # fmt: skip
    """The same, with the errors of the system as ours."""
    try:
        states.prepare()
        states.sweep()
        return Making(request, stdio, states, attached=attached, kept=kept, source=source)
    except OSError as e:
        raise os_error("cannot prepare the container", e) from e


def open_missing_stdio() -> None:
    """Fds 0, 1, 2 that the caller has closed become /dev/null: else the next files that are opened get them."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)


def own_stdio(request: RunRequest, *, detached: bool = False) -> Stdio:
    """What the command gets of fds 0, 1, 2, or, `detached`, of its supervisor. Raises InvalidInput."""
    reads = request.interactive or "stdin" in request.attach
    stdin = "pass" if reads else "null"
    if detached:
        return Stdio(stdin=stdin, detached=True)
    if request.tty and request.interactive and not os.isatty(0):
        raise InvalidInput("standard input is no terminal", path="--tty", next="leave out -t")
    relays = () if request.tty else tuple(fd for fd in range(3) if os.isatty(fd) and (fd or reads))
    return Stdio(stdin=stdin, relays=relays)


def say_notes(making: Making, request: RunRequest) -> None:
    """On standard error, what the user should know before it starts."""
    for note in making.notes:
        _say(f"kist: {note}")
    if making.compiled.not_enforced and request.allow_unenforced:
        _say(f"kist: not enforced: {', '.join(making.compiled.not_enforced)}")


def _say(text: str) -> None:
    os.write(2, f"{text}\n".encode())


def write_cidfile(path: str, id: str) -> None:
    """--cidfile. Raises KistError."""
    try:
        with open(path, "x", encoding="ascii") as file:
            file.write(id)
    except OSError as e:
        raise os_error("cannot write --cidfile", e) from e


def check_cidfile(path: str) -> None:
    """Raises Conflict, before anything is made."""
    if path and os.path.lexists(path):
        raise Conflict(f"{path} exists", why="--cidfile never overwrites", next="remove it, or choose another")


def os_error(what: str, e: OSError) -> KistError:
    """An error of the system's as one of ours."""
    where = f" {e.filename}" if e.filename else ""
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return KistError(f"{what}: no space left{where}", next="free some space, or set KIST_RUN_DIR", code="disk-full")
    if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Refused(f"{what}: {e.strerror}{where}", next="set KIST_RUN_DIR to a directory of yours")
    return KistError(f"{what}: {e.strerror or e}{where}", code="system")


def _now_ns() -> int:
    import time

    return time.time_ns()
