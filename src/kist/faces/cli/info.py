"""`kist info`."""

from __future__ import annotations

import os

from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

COMMAND = Command(
    name="info",
    usage=("[--format FORMAT]",),
    summary="Say what there is: containers, images, this host, and where things lie",
    groups=(("Flags", (Flag("format", "one", "FORMAT", "json, or a Go template: '{{.NCPU}}'", words.plain, "f"),)),),
)


def main(argv: list[str]) -> int:
    format = parse(COMMAND, argv).last("format")
    found = document()
    if not format:
        print("\n".join(f"{key}: {_text(value)}" for key, value in found.items()))
        return 0
    from kist.codec import dumps
    from kist.faces.cli.template import compile_template

    print(dumps(found) if format == "json" else compile_template(format)(found))
    return 0


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def document() -> dict[str, object]:
    """In docker's names, as far as there is no daemon to tell of."""
    from importlib.metadata import version

    from kist.engine.containers import Containers
    from kist.kernel.probe import probe
    from kist.store.images import ImageStore

    containers, store, facts, uname = Containers(), ImageStore(), probe(), os.uname()
    statuses = [container.status for container in containers.all()]
    return {
        "Containers": len(statuses),
        "ContainersRunning": statuses.count("running"),
        "ContainersPaused": statuses.count("paused"),
        "ContainersStopped": len(statuses) - statuses.count("running") - statuses.count("paused"),
        "Images": len(store.list()),
        "Driver": "overlay2",
        "CgroupVersion": str(facts.cgroup.version),
        "KernelVersion": uname.release,
        "OperatingSystem": _system_name(),
        "OSType": "linux",
        "Architecture": uname.machine,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "Name": uname.nodename,
        "DockerRootDir": store.data_dir,
        "RunDir": containers.states.base,
        "Rootless": os.geteuid() != 0,
        "ServerVersion": version("kist"),
        "SecurityOptions": ["name=seccomp,profile=default", *(["name=rootless"] if os.geteuid() else [])],
    }


def _system_name() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.strip().partition("=")
                if key == "PRETTY_NAME":
                    return value.strip('"')
    except OSError:
        pass
    return "Linux"
