"""What an image's config says about its containers, where the request leaves it open. Pure.

As docker has it: an entry point that is asked for takes the image's command away with its entry point; environment
variables and labels of the request come on top of the image's. Labels are only ever noted (CVE-2026-53488).
Source: OCI config.md, "Properties"; docker run.
"""

from __future__ import annotations

from kist.errors import InvalidInput, NotFound, Unsupported
from kist.plan.compile_root import container_path
from kist.plan.values import signal_number
from kist.spec.image import Platform
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from kist.plan.request import RunRequest
    from kist.spec.image import Healthcheck, ImageConfig

# uname -m -> what images call it, and what else this processor runs.
_ARCHITECTURES = {
    "x86_64": ("amd64", "386"), "i686": ("386",), "aarch64": ("arm64", "arm"), "armv7l": ("arm",), "armv6l": ("arm",),
    "ppc64le": ("ppc64le",), "s390x": ("s390x",), "riscv64": ("riscv64",), "loongarch64": ("loong64",),
}  # fmt: skip
# Image's architecture -> the name that qemu-user-static registers with binfmt_misc.
_EMULATORS = {
    "amd64": "qemu-x86_64", "386": "qemu-i386", "arm64": "qemu-aarch64", "arm": "qemu-arm", "ppc64le": "qemu-ppc64le",
    "s390x": "qemu-s390x", "riscv64": "qemu-riscv64", "loong64": "qemu-loongarch64",
}  # fmt: skip


def with_image(request: RunRequest, config: ImageConfig) -> RunRequest:
    """Raises InvalidInput for what no container can be made of."""
    own = config.config
    if own is None:
        return request
    changes: dict[str, object] = {
        "env": (*(pair for pair in own.env if pair.partition("=")[1]), *request.env),
        "labels": {**own.labels, **request.labels},
        "image_volumes": tuple(_volumes(own.volumes)),
    }
    if request.entrypoint is None:
        changes["entrypoint"] = own.entrypoint
        changes["command"] = request.command or own.cmd
    if not request.workdir and own.working_dir:
        changes["workdir"] = container_path(own.working_dir, "the image's working directory")
    if not request.user:
        changes["user"] = own.user
    if request.stop_signal is None and own.stop_signal:
        changes["stop_signal"] = signal_number("the image's StopSignal", own.stop_signal)
    if request.stop_timeout_s is None:
        changes["stop_timeout_s"] = own.stop_timeout
    if own.healthcheck and not request.no_healthcheck:
        changes |= _health(request, own.healthcheck)
    if request.publish_all and own.exposed_ports:
        from kist.plan.values import expose

        found = [expose("the image's exposed ports", text) for text in own.exposed_ports]
        changes["expose"] = (*request.expose, *(port for port in found if port not in request.expose))
    return replace(request, **changes)


def _health(request: RunRequest, own: Healthcheck) -> dict[str, object]:
    """Field by field, as docker has it: what is asked for, else the image's."""
    kind, *words = own.test or ("NONE",)
    command = {"CMD": tuple(words), "CMD-SHELL": ("/bin/sh", "-c", *words[:1])}.get(kind, ())
    seconds = {f"health_{name}_s": getattr(request, f"health_{name}_s") or (getattr(own, name) / 1e9 or None)
               for name in ("interval", "timeout", "start_period", "start_interval")}  # fmt: skip
    retries = request.health_retries or own.retries or None
    return {"health_cmd": request.health_cmd or command, "health_retries": retries, **seconds}


def _volumes(paths: Collection[str]) -> list[str]:
    found = [container_path(path, "the image's volumes") for path in paths]
    if "/" in found:
        raise InvalidInput("the image's config says that its root is a volume", code="bad-image")
    return sorted(found)


def check_wanted(request: RunRequest, config: ImageConfig) -> None:
    """--platform. Raises NotFound (no-image) when the image that is here is for another machine."""
    if not request.platform:
        return
    from kist.spec.manifests import parse_platform, platform_words, runs

    has = Platform(config.architecture, config.os, config.variant)
    if not runs(parse_platform(request.platform), has):
        why = f"the one that is here is for {platform_words(has)}"
        raise NotFound(f"no such image for {request.platform}: {request.image}", why=why,
                       next=f"kist pull --platform {request.platform} {request.image}", code="no-image")  # fmt: skip


def check_platform(config: ImageConfig, arch: str, emulated: Collection[str]) -> None:
    """`arch` is this machine's, `emulated` what binfmt_misc has an interpreter for. Raises Unsupported."""
    if config.os != "linux":
        raise Unsupported(f"the image is for {config.os}", why="kist runs Linux containers", code="wrong-platform")
    wanted = config.architecture
    if wanted in _ARCHITECTURES.get(arch, (arch,)) or _EMULATORS.get(wanted) in emulated:
        return
    platform = f"linux/{wanted}" + (f"/{config.variant}" if config.variant else "")
    raise Unsupported(
        f"the image is for {platform}, and this machine is {arch}",
        why="there is no emulator for it either (binfmt_misc)",
        next="choose an image for this machine, or install qemu-user-static",
        code="wrong-platform",
    )
