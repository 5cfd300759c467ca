"""`kist-oci update`."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.faces.cli.command import Command, Flag
from kist.plan import values
from kist.spec.runtime import BlockIO, Cpu, Memory, Pids, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.faces.cli.parse import Parsed
    from kist.faces.oci.messages import Session

_NUMBERS = {
    "blkio-weight": "Share of disk time", "cpu-period": "Microseconds", "cpu-quota": "Microseconds in each period",
    "cpu-burst": "Microseconds", "cpu-share": "Share of CPU time", "cpu-rt-period": "Microseconds",
    "cpu-rt-runtime": "Microseconds", "cpu-idle": "1: only when nothing else wants to run", "memory": "Bytes",
    "memory-reservation": "Bytes", "memory-swap": "Bytes of memory and swap", "kernel-memory": "Ignored: gone",
    "kernel-memory-tcp": "Ignored: gone", "pids-limit": "Processes; -1: no limit",
}  # fmt: skip
COMMAND = Command(
    name="update",
    usage=("[OPTION...] ID",),
    summary="Change the limits of a running container",
    groups=(
        (
            "Options",
            (
                Flag("resources", "one", "FILE", "OCI resources as JSON; '-': standard input", None, "r"),
                *(Flag(name, "one", "NUMBER", text, None) for name, text in _NUMBERS.items()),
                Flag("cpuset-cpus", "one", "LIST", "CPUs", None),
                Flag("cpuset-mems", "one", "LIST", "NUMA nodes", None),
                Flag("l3-cache-schema", "one", "SCHEMA", "Refused: no resctrl", None),
                Flag("mem-bw-schema", "one", "SCHEMA", "Refused: no resctrl", None),
            ),
        ),
    ),
    least=1,
    most=1,
)


def _resources(parsed: Parsed) -> Resources:
    if "resources" in parsed.given:
        import sys

        from kist.codec import decode_text

        path = parsed.last("resources")
        if path == "-":
            return decode_text(Resources, sys.stdin.buffer.read(1 << 24), "standard input")
        with open(path, "rb") as file:
            return decode_text(Resources, file.read(1 << 24), path)

    def number(name: str) -> int | None:
        text = parsed.last(name)
        if not text:
            return None
        if name.startswith("memory") or name == "kernel-memory":
            return -1 if text == "-1" else values.size(f"--{name}", text)
        try:
            return int(text)
        except ValueError as e:
            raise InvalidInput(f"{text!r} is not a number", path=f"--{name}") from e

    memory = Memory(number("memory"), number("memory-reservation"), number("memory-swap"))
    cpu = Cpu(
        shares=number("cpu-share"), quota=number("cpu-quota"), burst=number("cpu-burst"), period=number("cpu-period"),
        realtime_runtime=number("cpu-rt-runtime"), realtime_period=number("cpu-rt-period"),
        cpus=parsed.last("cpuset-cpus"), mems=parsed.last("cpuset-mems"), idle=number("cpu-idle"),
    )  # fmt: skip
    pids = number("pids-limit")
    weight = number("blkio-weight")
    return Resources(
        memory=memory, cpu=cpu, pids=Pids(pids) if pids is not None else None,
        block_io=BlockIO(weight=weight) if weight is not None else None,
    )  # fmt: skip


def main(session: Session, parsed: Parsed) -> int:
    from kist.engine.runtime.container import Containers
    from kist.engine.runtime.resources import update

    for name in ("l3-cache-schema", "mem-bw-schema"):
        if name in parsed.given:
            raise InvalidInput("this host has no resctrl file system", path=f"--{name}")
    update(Containers(session.root).load(parsed.arguments[0]), _resources(parsed), session.log.warn)
    return 0
