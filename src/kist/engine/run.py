"""`kist run`: from a request to a container and its end."""

import fcntl
import os
import select
import signal
import sys
import termios
from collections.abc import Mapping

import msgspec

from kist.engine import host_image
from kist.errors import InvalidInput, KistError, NotFound, Refused
from kist.kernel.cgroup import Usage, parse_usage, remove_cgroups
from kist.kernel.launcher import FREEZE, SIGNAL, THAW, Ending, Launcher
from kist.kernel.probe import probe
from kist.plan.compile import Compiled, Surroundings, compile_run
from kist.plan.facts import HostFacts
from kist.plan.request import RunRequest


class Outcome(msgspec.Struct, frozen=True):
    ending: Ending
    usage: Usage
    not_enforced: tuple[str, ...]

    @property
    def oom_killed(self) -> bool:
        return bool(self.usage.oom_kills)


def run_directory(environ: Mapping[str, str]) -> str:
    """Where the volatile state lies: KIST_RUN_DIR, /run/kist for root, else kist in XDG_RUNTIME_DIR or /tmp/kist-UID."""
    if chosen := environ.get("KIST_RUN_DIR"):
        return os.path.abspath(chosen)
    if os.geteuid() == 0:
        return "/run/kist"
    base = environ.get("XDG_RUNTIME_DIR", "")
    return f"{base}/kist" if base.startswith("/") else f"/tmp/kist-{os.geteuid()}"


class State:
    """The container's directory, made and locked before its first resource. Whoever finds it unlocked may sweep it."""

    def __init__(self) -> None:
        self.base = run_directory(os.environ)
        os.makedirs(self.base, mode=0o700, exist_ok=True)
        status = os.stat(self.base, follow_symlinks=False)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise Refused(f"{self.base} belongs to another user or others may write to it", next="set KIST_RUN_DIR")
        sweep(self.base)
        while True:
            self.id = os.urandom(32).hex()
            self.path = f"{self.base}/{self.id}"
            os.mkdir(self.path, 0o700)
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            if os.fstat(self.fd).st_nlink:  # a sweep may have been faster
                break
            os.close(self.fd)
        os.mkdir(f"{self.path}/scratch", 0o700)

    def record(self, compiled: Compiled, name: str) -> None:
        """Before the first resource: what a sweep must remove."""
        data = msgspec.json.encode({"name": name, "cgroups": compiled.cgroup_paths})
        with open(f"{self.path}/record", "wb") as file:
            file.write(data)

    def remove(self) -> None:
        _remove(self.path)
        os.close(self.fd)


def _remove(path: str) -> None:
    for name in ("record", "pid"):
        try:
            os.unlink(f"{path}/{name}")
        except FileNotFoundError:
            pass
    for directory in (f"{path}/scratch", path):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass


def sweep(base: str) -> None:
    """Remove what killed runs left: their directories are not locked any more."""
    for name in os.listdir(base):
        path = f"{base}/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                with open(f"{path}/record", "rb") as file:
                    record = msgspec.json.decode(file.read())
                remove_cgroups(record["cgroups"])
            except (FileNotFoundError, msgspec.DecodeError):
                pass  # killed before the record: before any resource
            _remove(path)
        except BlockingIOError:
            pass  # alive
        finally:
            os.close(fd)


def _user(request: RunRequest) -> tuple[int, int]:
    if not request.user:
        return 0, 0
    user, _, group = request.user.partition(":")
    names = {"root": 0, "nobody": 65534, "nogroup": 65534}
    try:
        uid = int(user) if user.isdigit() else names[user]
        gid = (int(group) if group.isdigit() else names[group]) if group else (uid if uid in (0, 65534) else 0)
    except KeyError as e:
        raise InvalidInput(f"no user or group {e} in the image", path="--user", next="give numbers, as in 1000:1000") from e
    return uid, gid


def _lower(request: RunRequest) -> str:
    if request.rootfs:
        if not os.path.isdir(request.rootfs):
            raise NotFound(f"no directory {request.rootfs}", next="give --rootfs an existing directory")
        return request.rootfs
    if request.image == "host":
        return ""
    from kist.store.rootfs import RootfsStore

    return RootfsStore().get(request.image).path


def surroundings(request: RunRequest, id: str, scratch: str, *, relays: tuple[int, ...] = (), stdin: str = "pass") -> Surroundings:
    lower = _lower(request)
    uid, gid = _user(request)
    bound = set()
    for mount in (*request.volumes, *request.mounts):
        if mount.kind == "bind":
            if not os.path.lexists(mount.source) and mount.create_source:
                os.makedirs(mount.source, exist_ok=True)
            if not os.path.exists(mount.source):
                raise NotFound(f"no file or directory {mount.source} on this host", next="check --volume and --mount")
            if not os.path.isdir(mount.source):
                bound.add(mount.source)
    around = Surroundings(id=id, scratch=scratch, lower=lower, uid=uid, gid=gid, stdin=stdin, relays=relays,
                          files_bound=frozenset(bound), home="/root" if uid == 0 else "/")  # fmt: skip
    if lower:
        return around
    return msgspec.structs.replace(around, trees=host_image.trees(), symlinks=host_image.symlinks(),
                                   files=host_image.files(), path=host_image.path())  # fmt: skip


class Container:
    """One container in the foreground, between its directory and its end."""

    def __init__(self, request: RunRequest, fds: tuple[int, int, int], facts: HostFacts | None = None) -> None:
        relays = () if request.tty else tuple(n for n, fd in enumerate(fds) if os.isatty(fd))
        stdin = "pass"
        if not request.interactive and not request.tty:
            stdin, relays = "null", tuple(n for n in relays if n)
        facts = facts or probe()
        self.state = State()
        try:
            around = surroundings(request, self.state.id, f"{self.state.path}/scratch", relays=relays, stdin=stdin)
            self.compiled = compile_run(request, facts, around)
            self.state.record(self.compiled, request.name)
            self.launcher = Launcher(self.compiled.plan, *fds)
        except BaseException:
            self.state.remove()
            raise

    def finish(self) -> Outcome:
        try:
            try:
                ending = self.launcher.wait()
            except KistError:
                remove_cgroups(self.compiled.cgroup_paths)  # the launcher may have been killed
                raise
            return Outcome(ending, parse_usage(ending.reports), self.compiled.not_enforced)
        finally:
            self.launcher.close()
            self.state.remove()


_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def _stop_and_go(container: Container) -> None:
    """Ctrl-Z: the container stands still as long as we do."""
    container.launcher.order(FREEZE)
    os.kill(os.getpid(), signal.SIGSTOP)
    container.launcher.order(THAW)


def run_attached(request: RunRequest) -> int:
    """In the foreground on fds 0, 1, 2. The exit status is the command's, or 128 and its signal's number."""
    if request.tty and request.interactive and not os.isatty(0):
        raise InvalidInput("standard input is no terminal", path="--tty", next="leave out -t")
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)
    saved = termios.tcgetattr(0) if request.tty and os.isatty(0) else None
    container = Container(request, (0, 1, 2))
    if request.cidfile:
        with open(request.cidfile, "x", encoding="ascii") as file:
            file.write(container.state.id)
    old = {n: signal.signal(n, lambda number, _: container.launcher.order(SIGNAL, number)) for n in _FORWARDED}
    old[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, lambda *_: _stop_and_go(container))
    try:
        outcome = container.finish()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        if saved is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, saved)
    if outcome.ending.timed_out:
        print(f"kist: killed after {request.timeout_s:g} s (--timeout)", file=sys.stderr)  # noqa: T201
    if outcome.oom_killed:
        print("kist: the container ran out of memory: the kernel killed in it (--memory)", file=sys.stderr)  # noqa: T201
    return outcome.ending.status


def run_captured(request: RunRequest, data: bytes, limit_bytes: int) -> tuple[Outcome, bytes, bytes, bool]:
    """With the output caught: (outcome, stdout, stderr, whether something was cut off at `limit_bytes` each)."""
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    (in_r, in_w), (out_r, out_w), (err_r, err_w) = pipes
    try:
        container = Container(request, (in_r, out_w, err_w))
    except BaseException:
        for pair in pipes:
            os.close(pair[0])
            os.close(pair[1])
        raise
    for fd in (in_r, out_w, err_w):
        os.close(fd)
    try:
        kept, cut = _exchange(in_w, data, (out_r, err_r), limit_bytes)
    except BaseException:
        container.launcher.close()
        raise
    finally:
        for fd in (out_r, err_r):
            os.close(fd)
    outcome = container.finish()
    return outcome, bytes(kept[out_r]), bytes(kept[err_r]), cut


def _exchange(feed: int, data: bytes, sources: tuple[int, int], limit_bytes: int) -> tuple[dict[int, bytearray], bool]:
    poll = select.poll()
    kept = {fd: bytearray() for fd in sources}
    left, cut = memoryview(data), False
    for fd in sources:
        poll.register(fd, select.POLLIN)
    if left:
        os.set_blocking(feed, False)
        poll.register(feed, select.POLLOUT)
    else:
        os.close(feed)
    open_fds = set(sources)
    feeding = bool(left)
    try:
        while open_fds:
            for fd, _ in poll.poll():
                if fd == feed and feeding:
                    try:
                        left = left[os.write(feed, left) :]
                    except BrokenPipeError:
                        left = left[:0]
                    if not left:
                        poll.unregister(feed)
                        os.close(feed)
                        feeding = False
                    continue
                chunk = os.read(fd, 65536)
                room = limit_bytes - len(kept[fd])
                kept[fd] += chunk[: max(room, 0)]
                cut = cut or len(chunk) > room
                if not chunk:
                    poll.unregister(fd)
                    open_fds.discard(fd)
    finally:
        if feeding:
            os.close(feed)
    return kept, cut
