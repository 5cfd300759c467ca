"""`kist why`: the end of a container, and what is known about it."""

from __future__ import annotations

import re

from kist.engine.containers import LOST
from kist.plan.words import UNLIMITED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.engine.containers import Container, Ended

_KMSG_BYTES = 1 << 20
_SHELL = {126: "the command was found and could not be run", 127: "the command was not found"}


def why(container: Container) -> Iterator[str]:
    """Lines for people; the first says it all."""
    status, ended = container.status, container.ended
    if status in ("running", "paused"):
        yield f"{container.name} has not ended: it is {status}"
        return
    if ended is None:
        yield f"{container.name} was never started"
        return
    yield f"{container.name} {_cause(ended)}"
    if status == "restarting":
        yield "it waits to be started again by its restart policy"
    yield from _details(container, ended)


def _cause(ended: Ended) -> str:
    if ended.error and ended.code == LOST:
        return f"was lost: {ended.error}"
    if ended.error:
        return f"could not be started: {ended.error}"
    if ended.timed_out:
        return "was killed: it ran longer than --timeout allows"
    if ended.oom_killed:
        return f"ran out of memory: the kernel killed in it (exit status {ended.code})"
    if ended.signaled:
        return f"was killed by {signal_name(ended.code - 128)} (exit status {ended.code})"
    return f"ended by itself with exit status {ended.code}"


def signal_name(number: int) -> str:
    from signal import Signals

    try:
        return Signals(number).name
    except ValueError:
        return f"signal {number}"


def _details(container: Container, ended: Ended) -> Iterator[str]:
    from kist.kernel.cgroup import parse_usage

    request, usage = container.config.request, parse_usage(ended.reports)
    if container.was_stopped:
        yield "somebody stopped it: kist stop, kill or rm"
    if ended.oom_killed and not ended.signaled and not ended.error:
        yield "what the kernel killed may have been another of its processes than the first"
    if not ended.signaled and ended.code > 128 and not ended.error:
        yield f"a shell gives {ended.code} when its command was killed by {signal_name(ended.code - 128)}"
    if ended.code in _SHELL and not ended.error:
        yield f"a shell gives {ended.code} when {_SHELL[ended.code]}"
    if usage.memory_peak_bytes is not None and not ended.error:
        limit = f" of {_mebibytes(request.memory_bytes)}" if request.memory_bytes else ", without a limit"
        hits = f"; it met the limit {usage.memory_limit_hits} times" if usage.memory_limit_hits else ""
        yield f"memory: {_mebibytes(usage.memory_peak_bytes)} at most{limit}{hits}"
    if usage.pids_limit_hits:
        most = "" if request.pids_limit in (None, UNLIMITED) else f" ({request.pids_limit})"
        yield f"processes: the limit{most} refused {usage.pids_limit_hits} forks"
    if ended.wall_ns:
        yield f"it ran for {ended.wall_ns / 1e9:.3f} s and used {(ended.user_us + ended.system_us) / 1e6:.3f} s of CPU"
    if ended.code and not ended.error:
        yield from _denials(container)


def _denials(container: Container) -> Iterator[str]:
    """Of system calls by seccomp. What kist's profile denies gives EPERM, which the kernel notes nowhere."""
    request = container.config.request
    if request.security_opt.seccomp == "unconfined" or "seccomp" in request.without or request.privileged:
        yield "seccomp: it had no filter"
    elif request.security_opt.seccomp == "default":
        yield "seccomp, capabilities: whether they denied it something can't be known: they answer EPERM, unlogged"
    else:
        log, found = _kernel_log(), []
        if log is not None:
            found = [m[0] for m in re.finditer(r"audit: type=1326 [^\n]*", log)]
        note = f"seccomp: the kernel's log has {len(found)} denials, of all processes of this host"
        yield note if log is not None else "seccomp: the kernel's log can't be read here, so what it denied isn't known"
        yield from (f"  {line[:200]}" for line in found[-3:])


def _kernel_log() -> str | None:
    """The newest part. None: it may not be read."""
    import os

    parts: list[bytes] = []
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while sum(map(len, parts)) < _KMSG_BYTES:
            parts.append(os.read(fd, 8192))
    except BlockingIOError:
        pass
    except OSError:
        return None
    finally:
        os.close(fd)
    return b"".join(parts).decode(errors="replace")


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.1f} MiB"
