"""The public Python API."""

from collections.abc import Mapping, Sequence

import msgspec

from kist.errors import InvalidInput, ProcessFailed
from kist.plan import mount_values, values
from kist.plan.request import RunRequest


class ResourceUsage(msgspec.Struct, frozen=True):
    """What the container used. None: this host does not count it for us."""

    cpu_s: float
    wall_s: float
    memory_peak_bytes: int | None


class Result(msgspec.Struct, frozen=True):
    """How a container ended. `returncode` is the command's status, or 128 and the signal's number, as docker has it."""

    args: tuple[str, ...]
    returncode: int
    stdout_bytes: bytes
    stderr_bytes: bytes
    truncated: bool  # more was written than `output_limit`
    oom_killed: bool
    timed_out: bool
    usage: ResourceUsage
    not_enforced: tuple[str, ...]

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="backslashreplace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode(errors="backslashreplace")


def _pairs(env: Mapping[str, str] | Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{k}={v}" for k, v in env.items()) if isinstance(env, Mapping) else tuple(env)


def run(
    argv: Sequence[str],
    *,
    image: str = "host",
    rootfs: str | None = None,
    input: bytes | str = b"",
    memory: str | int | None = None,
    cpus: float | None = None,
    pids_limit: int | None = None,
    timeout: float | None = None,
    network: bool = False,
    hostname: str = "",
    env: Mapping[str, str] | Sequence[str] = (),
    user: str | int = "",
    workdir: str = "",
    volumes: Sequence[str] = (),
    tmpfs: Sequence[str] = (),
    read_only: bool = False,
    init: bool = False,
    allow_unenforced: bool = False,
    output_limit: int = 16 << 20,
    check: bool = False,
) -> Result:
    """Run a command in a new container and wait for it.

    Keywords are the flags of `kist run` with underscores; sizes as there ("256M"), `timeout` in seconds (then SIGKILL),
    `output_limit` in bytes for each of stdout and stderr. `network=True` shares the host's. No exception for a non-zero
    status unless `check`. Raises KistError: InvalidInput, NotFound, Refused, Unsupported, StepFailed, ProcessFailed.
    """
    import os

    if isinstance(argv, str):
        raise InvalidInput("a string is not a list of arguments", path="argv", next='write ["sh", "-c", ...]')
    from kist.engine.run import run_captured

    cwd = os.getcwd()
    request = RunRequest(
        image="" if rootfs else image,
        rootfs=os.path.abspath(rootfs) if rootfs else "",
        command=tuple(argv),
        env=_pairs(env),
        user=str(user),
        workdir=workdir,
        hostname=hostname,
        memory_bytes=values.size("memory", str(memory)) if memory is not None else None,
        cpus=cpus,
        pids_limit=pids_limit,
        timeout_s=timeout,
        network="host" if network else "none",
        volumes=tuple(mount_values.volume("volumes", v, cwd) for v in volumes),
        tmpfs=tuple(mount_values.tmpfs("tmpfs", t) for t in tmpfs),
        read_only=read_only,
        init=init,
        interactive=True,
        allow_unenforced=allow_unenforced,
    )
    values.check(request)
    data = input.encode() if isinstance(input, str) else input
    outcome, out, err, cut = run_captured(request, data, output_limit)
    ending, used = outcome.ending, outcome.usage
    cpu_ns = used.cpu_total_ns if used.cpu_total_ns is not None else (ending.user_us + ending.system_us) * 1000
    usage = ResourceUsage(cpu_ns / 1e9, ending.wall_ns / 1e9, used.memory_peak_bytes)
    result = Result(request.command, ending.status, out, err, cut, outcome.oom_killed, ending.timed_out, usage,
                    outcome.not_enforced)  # fmt: skip
    if check and result.returncode:
        raise ProcessFailed(f"{argv[0]} ended with status {result.returncode}", result=result, why=result.stderr[-400:])
    return result
