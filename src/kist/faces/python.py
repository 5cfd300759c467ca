"""The public Python API: `kist.run()` is `kist run` with the flags' names as keywords. See images.py for images."""

from __future__ import annotations

from kist.errors import InvalidInput, ProcessFailed
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kist.engine.denials import Denial
    from kist.engine.run import Outcome
    from kist.plan.request import RunRequest

    Pairs = Mapping[str, str] | Sequence[str]


class ResourceUsage(Value):
    """What the container used. None: this host does not count it for us."""

    cpu_s: float
    wall_s: float
    memory_peak_bytes: int | None


class Result(Value):
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
    denied: tuple[Denial, ...] = ()  # with allow_net: what it wanted besides

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode(errors="backslashreplace")

    @property
    def stderr(self) -> str:
        return self.stderr_bytes.decode(errors="backslashreplace")


def run(
    argv: Sequence[str],
    *,
    image: str = "host",
    rootfs: str | None = None,
    input: bytes | str = b"",
    check: bool = False,
    output_limit: int = 16 << 20,
    # the container
    name: str | None = None,
    labels: Pairs = (),
    annotations: Pairs = (),
    pull: str | None = None,
    platform: str | None = None,
    # the process
    entrypoint: str | None = None,
    env: Pairs = (),
    env_file: str | Sequence[str] = (),
    workdir: str | None = None,
    user: str | int | None = None,
    group_add: Sequence[str | int] = (),
    umask: str | int | None = None,
    init: bool = False,
    ulimits: Pairs = (),
    oom_score_adj: int | None = None,
    stop_signal: str | int | None = None,
    stop_timeout: int | None = None,
    timeout: float | str | None = None,
    # files
    volumes: Sequence[str] = (),
    mounts: Sequence[str] = (),
    tmpfs: Sequence[str] = (),
    volumes_from: str | Sequence[str] = (),
    secrets: Sequence[str] = (),
    read_only: bool = False,
    shm_size: str | int | None = None,
    storage_opt: str | None = None,
    devices: Sequence[str] = (),
    device_cgroup_rule: Sequence[str] = (),
    # limits
    memory: str | int | None = None,
    memory_swap: str | int | None = None,
    memory_reservation: str | int | None = None,
    memory_swappiness: int | None = None,
    oom_kill_disable: bool = False,
    cpus: float | None = None,
    cpu_shares: int | None = None,
    cpu_period: int | None = None,
    cpu_quota: int | None = None,
    cpuset_cpus: str | None = None,
    cpuset_mems: str | None = None,
    pids_limit: int | None = None,
    blkio_weight: int | None = None,
    blkio_weight_device: Sequence[str] = (),
    device_read_bps: Sequence[str] = (),
    device_write_bps: Sequence[str] = (),
    device_read_iops: Sequence[str] = (),
    device_write_iops: Sequence[str] = (),
    cgroup_parent: str | None = None,
    # privileges
    cap_add: str | Sequence[str] = (),
    cap_drop: str | Sequence[str] = (),
    security_opt: str | Sequence[str] = (),
    privileged: bool = False,
    sysctls: Pairs = (),
    # namespaces
    userns: str | None = None,
    pid: str | None = None,
    ipc: str | None = None,
    uts: str | None = None,
    cgroupns: str | None = None,
    time_offset: str | int | None = None,
    # the network
    network: bool | str = False,
    ip: str | None = None,
    ip6: str | None = None,
    mac_address: str | None = None,
    network_alias: Sequence[str] = (),
    net_rate: str | None = None,
    publish: str | int | Sequence[str | int] = (),
    publish_all: bool = False,
    expose: str | int | Sequence[str | int] = (),
    allow_net: str | Sequence[str] = (),
    hostname: str | None = None,
    domainname: str | None = None,
    add_host: Pairs = (),
    dns: str | Sequence[str] = (),
    dns_search: str | Sequence[str] = (),
    dns_option: str | Sequence[str] = (),
    # kist's own
    allow_unenforced: bool = False,
    without: str | Sequence[str] = (),
) -> Result:
    """Run a command in a new container and wait for it.

    Keywords are the flags of `kist run` with underscores (see `kist run --help`), in the plural where a flag may be
    given several times: `volumes=["/src:/src:ro"]`. Sizes are bytes or words ("256M"), times seconds or words
    ("1m30s"); env, labels, sysctls, ulimits and add_host take mappings, too. `network=True` shares the host's, "bridge"
    is one of its own, and `allow_net=["pypi.org"]` gives it a way to that alone.
    `output_limit` bytes of stdout and of stderr are kept, the rest is read and counted as truncated.

    Returns the Result, whatever the status; with `check`, raises ProcessFailed when it is not 0.
    Raises KistError: InvalidInput, NotFound, Refused, Unsupported, StepFailed. Safe from several threads.
    """
    keywords = dict(locals())
    if isinstance(argv, (str, bytes)):
        raise InvalidInput("a string is not a list of arguments", path="argv", next='write ["sh", "-c", ...]')
    from kist.engine.run import run_captured
    from kist.faces.cli.request import run_request, this_process

    del keywords["argv"], keywords["image"], keywords["input"], keywords["check"], keywords["output_limit"]
    keywords["network"] = network if isinstance(network, str) else "host" if network else ()
    if isinstance(umask, int):
        keywords["umask"] = f"{umask:o}"
    given = {_FLAGS.get(name, name).replace("_", "-"): list(_texts(value)) for name, value in keywords.items()}
    given = {flag: texts for flag, texts in given.items() if texts}
    command = tuple(map(str, argv))
    request = run_request(given, command if rootfs else (image, *command), this_process(), captured=True)
    data = input.encode() if isinstance(input, str) else input
    outcome = _with_image(request, lambda: run_captured(request, data, output_limit))
    result = _result(command, outcome)
    if check and result.returncode:
        raise ProcessFailed(f"{argv[0]} ended with status {result.returncode}", result=result, why=result.stderr[-400:])
    return result


def _with_image(request: RunRequest, act: Callable[[], Outcome]) -> Outcome:
    """What `act` gives; the image is pulled first when it is missing, or always, as `pull` says."""
    from kist.errors import NotFound

    always = request.pull == "always" and not request.rootfs and request.image != "host"
    missing = None
    try:
        if not always:
            return act()
    except NotFound as e:
        if e.code != "no-image" or request.pull != "missing":
            raise
        missing = e
    from kist.engine.obtain import obtain

    obtain(request.image, missing, platform=request.platform)
    return act()


# Keyword -> the flag, where the keyword is a plural.
_FLAGS = {
    "labels": "label", "annotations": "annotation", "ulimits": "ulimit", "volumes": "volume", "mounts": "mount",
    "devices": "device", "sysctls": "sysctl", "secrets": "secret",
}  # fmt: skip


def _texts(value: object) -> Iterable[str]:
    """A keyword's value as the texts that the flag would be given."""
    if value is None or value is False:
        return ()
    if value is True:
        return ("true",)
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(map(str, value))
    return (str(value),)


def _result(command: tuple[str, ...], outcome: object) -> Result:
    from kist.engine.run import Outcome

    assert isinstance(outcome, Outcome)
    ending, used = outcome.ending, outcome.usage
    cpu_ns = used.cpu_total_ns if used.cpu_total_ns is not None else (ending.user_us + ending.system_us) * 1000
    usage = ResourceUsage(cpu_ns / 1e9, ending.wall_ns / 1e9, used.memory_peak_bytes)
    return Result(command, ending.status, outcome.stdout, outcome.stderr, outcome.truncated, outcome.oom_killed,
                  ending.timed_out, usage, outcome.not_enforced, outcome.denied)  # fmt: skip
