"""Volumes and containers: which a container gets, what is in one at first, who uses it, and what goes.

A container's config names volumes; paths of the host come of that when it starts. Whoever gives a container volumes
holds the lock `Volumes.using` until others can find the container.
"""

from __future__ import annotations

import os

from kist.errors import Conflict, CorruptStore, InvalidInput, NotFound, Refused, Unsupported
from kist.kernel import resolve
from kist.plan.request import MountRequest
from kist.store.data import StoreErrors
from kist.store.volumes import COPYING, Volumes
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kist.engine.containers import Container, Containers
    from kist.plan.request import RunRequest
    from kist.store.volumes import Volume


class Pruned(Value):
    names: tuple[str, ...] = ()
    reclaimed_bytes: int = 0


# --- what a new container gets


def settle(request: RunRequest, containers: Containers, image: str, *, kept: bool) -> RunRequest:
    """What it is to have, by names: those that are missing are made, and empty ones begin with what the image has.

    One that is not kept gets no volumes of its own: such directories go with it. Raises NotFound, Conflict, KistError;
    then nothing stays that was made for it alone.
    """
    volumes = Volumes(containers.data_dir)
    request = _inherited(request, containers)
    own = [m.target for m in (*request.volumes, *request.mounts) if m.kind == "volume" and not m.source]
    if kept:
        taken = {m.target for m in (*request.volumes, *request.mounts, *request.tmpfs)}
        of_image = tuple(MountRequest("volume", path) for path in request.image_volumes if path not in taken)
        request = replace(request, volumes=(*request.volumes, *of_image), image_volumes=())
    else:
        request = replace(
            request, image_volumes=tuple(dict.fromkeys((*request.image_volumes, *own))),
            volumes=tuple(m for m in request.volumes if m.target not in own),
            mounts=tuple(m for m in request.mounts if m.target not in own),
        )  # fmt: skip
    made: list[str] = []
    try:
        request = replace(
            request,
            volumes=tuple([_made(volumes, m, made) for m in request.volumes]),
            mounts=tuple([_made(volumes, m, made) for m in request.mounts]),
        )
        for mount in (*request.volumes, *request.mounts):
            if mount.kind == "volume" and not (mount.nocopy or mount.subpath):
                _fill(containers, volumes, mount, replace(request, image=image or request.image))
    except BaseException:
        for name in made:
            volumes.remove(name)
        raise
    return request


def _inherited(request: RunRequest, containers: Containers) -> RunRequest:
    """With what --volumes-from names, but where something else was asked for."""
    found: dict[str, MountRequest] = {}
    for name, readonly in request.volumes_from:
        other = containers.find(name)
        asked = other.config.request
        if not other.kept and asked.image_volumes:
            raise Conflict(f"{other.name} keeps nothing that could be shared", why="it runs with --rm in the "
                           "foreground", next="share a volume with a name", code="not-kept")  # fmt: skip
        for mount in (*asked.volumes, *asked.mounts):
            found[mount.target] = replace(mount, readonly=mount.readonly or readonly, nocopy=True)
    taken = {m.target for m in (*request.volumes, *request.mounts, *request.tmpfs)}
    added = tuple(mount for target, mount in found.items() if target not in taken)
    return replace(request, volumes=(*request.volumes, *added), volumes_from=())


def _made(volumes: Volumes, mount: MountRequest, made: list[str]) -> MountRequest:
    if mount.kind != "volume":
        return mount
    anonymous = not mount.source
    volume = volumes.create(mount.source, mount.labels, mount.driver_options, anonymous=anonymous)
    if anonymous:
        made.append(volume.name)
    return replace(mount, source=volume.name, labels={}, driver_options={})


def _fill(containers: Containers, volumes: Volumes, mount: MountRequest, request: RunRequest) -> None:
    """What the image has at the mount's target, with owners and modes, into a volume that is empty."""
    if request.image == "host" or volumes.get(mount.source).options:
        return
    directory = volumes.path(mount.source)
    mark = f"{os.path.dirname(directory)}/{COPYING}"
    with StoreErrors(f"cannot fill the volume {mount.source}"), volumes.filling(mount.source):
        if os.path.exists(mark):
            volumes.empty(mount.source)
        elif not _is_empty(directory):
            return
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _copy_up(containers, replace(request, volumes=(), mounts=(), image_volumes=()), mount.target, directory)
        os.unlink(mark)


def _is_empty(directory: str) -> bool:
    try:
        return not os.listdir(directory)
    except PermissionError:  # it belongs to another id of this user's containers: somebody has used it
        return False


def _copy_up(containers: Containers, request: RunRequest, source: str, directory: str) -> None:
    from kist.engine.inside import Task
    from kist.engine.view import View, at_home

    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        with View(containers, None, request) as view:
            with view.start(Task("pack", path=f"{source}/.", follow=True), stdout=write) as packer:
                task = Task("unpack", root=directory, path="/", root_too=True)
                with at_home(task, stdin=read) as unpacker:
                    os.close(read)
                    os.close(write)
                    read = write = -1
                    try:
                        packer.report()
                    except (NotFound, InvalidInput):
                        return  # the image has no such directory
                    unpacker.report()
    finally:
        for fd in (read, write):
            if fd >= 0:
                os.close(fd)


# --- when it starts


def located(request: RunRequest, data_dir: str, *, pretend: bool = False) -> RunRequest:
    """The same mounts by paths of the host. `pretend`: a volume need not exist. Raises NotFound, Unsupported."""
    volumes = Volumes(data_dir)

    def place(mount: MountRequest) -> MountRequest:
        if mount.kind != "volume":
            return mount
        try:
            options = {**volumes.get(mount.source).options} if mount.source else {}
        except NotFound:
            if not pretend:
                raise
            options = {**mount.driver_options}
        if options:
            return _mounted(mount, options)
        path = volumes.path(mount.source or "NEW")
        if mount.subpath and not pretend:
            _check_below(path, mount)
        return replace(mount, kind="bind", source=path)

    return replace(request, volumes=tuple(map(place, request.volumes)), mounts=tuple(map(place, request.mounts)))


def _check_below(path: str, mount: MountRequest) -> None:
    """That there is such a part of the volume now; what is mounted is found again by the launcher."""
    root = os.open(path, resolve.DIRECTORY)
    try:
        os.close(resolve.open_inside(root, os.fsencode(mount.subpath), resolve.PATH))
    except OSError as e:
        raise NotFound(f"the volume {mount.source} has no {mount.subpath}", why=e.strerror or "", code="no-file") from e
    finally:
        os.close(root)


def _mounted(mount: MountRequest, options: dict[str, str]) -> MountRequest:
    """What `mount -t TYPE -o O DEVICE` would show, in the container's own mount namespace: it goes with the container.
    Source: docker volume create, "Driver-specific options"."""
    kind, device = options.get("type", "none"), options.get("device", "")
    words = [word for word in options.get("o", "").split(",") if word]
    readonly = mount.readonly or "ro" in words
    words = [word for word in words if word not in ("ro", "rw")]
    if kind == "none" or {"bind", "rbind"} & set(words):
        if not device.startswith("/"):
            raise InvalidInput(f"the volume {mount.source} has no device to bind", path="--opt", next="device=/a/path")
        if not os.path.exists(device):
            raise NotFound(f"no file or directory {device} on this host", why=f"the volume {mount.source} is that")
        return replace(mount, kind="bind", source=device, recursive="rbind" in words, readonly=readonly)
    if kind == "tmpfs":
        return replace(mount, kind="tmpfs", source="", options=tuple(words), readonly=readonly, mode=_mode(words))
    if os.geteuid() != 0:
        raise Unsupported(f"an ordinary user cannot mount {kind}", why=f"the volume {mount.source} asks for it",
                          next="run as root, or use a volume of type=none,o=bind", code="volume-type")  # fmt: skip
    return replace(mount, kind="filesystem", filesystem=kind, source=device, options=tuple(words), readonly=readonly)


def _mode(words: list[str]) -> int:
    """tmpfs(5)'s own default, where it is not among the options; taken from them."""
    found = next((word for word in words if word.startswith("mode=")), "mode=1777")
    if found in words:
        words.remove(found)
    return int(found[5:], 8)


# --- who uses it


def users(containers: Containers) -> dict[str, list[Container]]:
    found: dict[str, list[Container]] = {}
    for container in containers.all():
        for mount in volume_mounts(container.config.request):
            found.setdefault(mount.source, []).append(container)
    return found


def volume_mounts(request: RunRequest) -> Iterator[MountRequest]:
    return (m for m in (*request.volumes, *request.mounts) if m.kind == "volume")


def remove_volume(containers: Containers, name: str) -> None:
    """Raises NotFound; Conflict when a container has it."""
    volumes = Volumes(containers.data_dir)
    with volumes.removing():
        using = users(containers).get(name)
        if using:
            names = ", ".join(container.name for container in using)
            raise Conflict(f"the volume {name} is in use", why=f"by {names}", next=f"kist rm {names}",
                           code="volume-in-use")  # fmt: skip
        volumes.remove(name)


def remove_anonymous(containers: Containers, request: RunRequest) -> None:
    """With a container that is gone: those that were made for it, unless another has got them."""
    volumes = Volumes(containers.data_dir)
    for mount in volume_mounts(request):
        try:
            if volumes.get(mount.source).anonymous:
                remove_volume(containers, mount.source)
        except (Conflict, NotFound, CorruptStore):
            continue


def prune(containers: Containers, passes: Callable[[Volume], bool], *, everything: bool) -> Pruned:
    """Those that no container has: anonymous ones, or `everything`."""
    volumes = Volumes(containers.data_dir)
    if not volumes.names():
        return Pruned()
    names, freed = [], 0
    with volumes.removing():
        using = users(containers)
        for volume in volumes.list():
            if volume.name in using or not (volume.anonymous or everything) or not passes(volume):
                continue
            size = size_bytes(volumes.path(volume.name))
            try:
                volumes.remove(volume.name)
            except (NotFound, Refused):
                continue
            names.append(volume.name)
            freed += size
    return Pruned(tuple(names), freed)


def size_bytes(path: str) -> int:
    """Of the disk, as far as this user may look."""
    total = 0
    for directory, _, files in os.walk(path):
        for name in (".", *files):
            try:
                total += os.lstat(f"{directory}/{name}").st_blocks * 512
            except OSError:
                continue
    return total
