"""What every verb that makes a container does first: look things up on the host, and compile."""

from __future__ import annotations

import stat

from kist.engine import host_image
from kist.engine.identity import RootReader, resolve
from kist.errors import InvalidInput, NotFound, Unsupported
from kist.plan.compile import compile_container
from kist.plan.compile_process import DEFAULT_PATH
from kist.plan.config import Found, HostDevice, container_config, needs_userns
from kist.plan.setting import Files, Secret, Setting, Stdio
from kist.plan.values import HOST_GATEWAY
from kist.system import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kist.engine.containers import Containers
    from kist.engine.making import Keeping
    from kist.engine.state import StateDirectory
    from kist.network.attach import Attachment
    from kist.plan.compile import Compiled
    from kist.plan.compile_cable import Cable, Names
    from kist.plan.compile_egress import Egress
    from kist.plan.facts import HostFacts
    from kist.plan.request import DeviceRequest, RunRequest
    from kist.spec.runtime import Spec
    from kist.store.images import ImageLease
    from kist.store.volumes import Lock


SHARED = "/proc/SHARED/ns/net"  # on paper: it may not be there yet


def scratch_for(request: RunRequest, facts: HostFacts, own: str) -> str:
    """Where the first process mounts its tmpfs: our own directory, unless it becomes another user that may not go there
    (root's --userns private). Then any directory that all may enter: what it hides was opened before."""
    if facts.uid == 0 and needs_userns(request, facts):
        return next((path for path in ("/tmp", "/var/tmp", "/mnt") if os.path.isdir(path)), own)
    return own


def relayed(request: RunRequest, facts: HostFacts) -> bool:
    """With --allow-net; and who may plug no cable into a bridge of the host has no other way out."""
    return bool(request.allow_net) or (facts.ordinary and bool(request.in_networks))


def cabled(request: RunRequest, facts: HostFacts) -> bool:
    """An ordinary user's default network, alone, is nothing but a relay."""
    return bool(request.in_networks) and not (facts.ordinary and request.in_networks == ("bridge",))


class Source:
    """Where the root file system comes from. `request` is what was asked for, with what the image adds to it."""

    def __init__(self, request: RunRequest, facts: HostFacts, scratch: str, kept: Keeping | None = None) -> None:
        self.facts = facts
        self._lease: ImageLease | None = None
        self._image = kept.image if kept else ""
        self._using: Lock | None = None  # of the volumes
        self.facts = facts
        self.relayed, self.cabled = relayed(request, facts), cabled(request, facts)
        self.pretend = False  # it is only to be shown: volumes need not exist, and secrets stay secret
        self.request = request
        self.path = DEFAULT_PATH
        self.files: Files
        self.read: Callable[[str], str]
        self._open(facts, scratch)
        if request.userns == "private" and facts.uid == 0:
            from kist.kernel.probe import filesystem_of
            from kist.value import replace

            kind = "erofs" if self.files.erofs else filesystem_of((*self.files.lowers, "/usr")[0])
            self.files = replace(self.files, filesystem=kind)
        if kept:
            self.keep(request, kept)

    def keep(self, request: RunRequest, kept: Keeping) -> None:
        """What is written is kept in the directory of the container that has been made for the request."""
        from kist.kernel.probe import filesystem_of
        from kist.value import replace

        upper = f"{kept.directory}/rw"
        kind = filesystem_of(upper) if self.files.filesystem else ""
        self.request = request
        self.files = replace(self.files, upper=upper, upper_filesystem=kind)

    def _open(self, facts: HostFacts, scratch: str) -> None:
        request = self.request
        if request.rootfs:
            self._open_directory(request.rootfs, scratch)
        elif request.image == "host":
            self.files, self.read, self.path = host_image.files(scratch), host_image.read, host_image.search_path()
        else:
            from kist.store.images import ImageStore

            self._lease = ImageStore().lease(self._image or request.image)
            try:
                self._open_image(self._lease, facts, scratch)
            except BaseException:
                self.close()
                raise

    def _open_directory(self, rootfs: str, scratch: str) -> None:
        if not os.path.isdir(rootfs):
            raise NotFound(f"no directory {rootfs}", next="give --rootfs an existing directory")
        lower = os.path.realpath(rootfs)
        # Where the files are somebody else's, a user namespace may write nothing below a directory of theirs; but the
        # uppermost directory of an overlay is ours, so /etc becomes one.
        etc = f"{lower}/etc"
        foreign = os.geteuid() != 0 and os.path.isdir(etc) and not os.path.islink(etc) and not os.access(etc, os.W_OK)
        trees = ((etc, "/etc"),) if foreign else ()
        self.files, self.read = Files(lowers=(lower,), scratch=scratch, trees=trees), RootReader(lower)

    def _open_image(self, lease: ImageLease, facts: HostFacts, scratch: str) -> None:
        from kist.plan.image import check_platform, check_wanted, with_image

        check_wanted(self.request, lease.config)
        check_platform(lease.config, facts.arch, _emulators())
        if not self._image:
            self.request = with_image(self.request, lease.config)
        request = self.request
        what = lease.mountable
        volumes = () if request.read_only else tuple((path, 0o755) for path in request.image_volumes)
        self.files = Files(lowers=what.lowers, erofs=what.erofs, devices=what.devices, scratch=scratch,
                           directories=volumes)  # fmt: skip
        self.read = lambda path: lease.read(path.removeprefix("/etc/"))

    def borrow(self, states: StateDirectory) -> None:
        """The image's tree, where a container of it runs already."""
        if self.files.erofs:
            from kist.value import replace

            self.files = replace(self.files, lender=states.lender(self.files.erofs))

    @property
    def lends(self) -> bool:
        """Nobody else has its image's tree to give."""
        return self.files.erofs != "" and self.files.lender == (0, 0)

    def add_files(self, files: Sequence[tuple[str, bytes]]) -> None:
        """To be written in place of what the root file system has."""
        from kist.value import replace

        self.files = replace(self.files, files=(*self.files.files, *files))

    def settle(self, containers: Containers, *, kept: bool) -> None:
        """Give it its volumes: they stay until `close`, and then because others can see that a container has them."""
        from kist.engine.volumes import settle
        from kist.store.volumes import Volumes
        from kist.value import replace

        self._using = Volumes(containers.data_dir).using()
        self.request = settle(self.request, containers, self.image, kept=kept)
        inside = () if self.request.read_only else self.request.image_volumes
        self.files = replace(self.files, directories=tuple((path, 0o755) for path in inside))

    def forget(self, containers: Containers) -> None:
        """No container has come of it: the volumes that were made for it alone go."""
        if self._using:
            from kist.engine.volumes import remove_anonymous

            self._using.close()
            self._using = None
            remove_anonymous(containers, self.request)

    def secrets(self) -> tuple[Secret, ...]:
        """What they are; only in words for those who only look. Raises NotFound."""
        if not self.request.secrets:
            return ()
        from kist.store.secrets import Secrets

        store = Secrets()
        return tuple(
            Secret(s.target, b"(a secret)" if self.pretend else store.reveal(s.name), s.mode, s.uid, s.gid)
            for s in self.request.secrets
        )

    def located(self) -> RunRequest:
        """With paths of the host in place of volumes."""
        if not any(mount.kind == "volume" for mount in (*self.request.volumes, *self.request.mounts)):
            return self.request
        from kist.engine.volumes import located
        from kist.store.data import default_data_dir

        return located(self.request, default_data_dir(os.environ), pretend=self.pretend)

    @property
    def image(self) -> str:
        """The digest of the image's manifest; "" for another source."""
        return self._lease.manifest if self._lease else ""

    @property
    def lease(self) -> int:
        """Keeps the image from being removed while it is open; -1: there is none."""
        return self._lease.fd if self._lease else -1

    def close(self) -> None:
        if self._lease:
            self._lease.close()
            self._lease = None
        if self._using:
            self._using.close()
            self._using = None


def _emulators() -> list[str]:
    try:
        return os.listdir("/proc/sys/fs/binfmt_misc")
    except OSError:
        return []


class Prepared:
    """A request, compiled for this host."""

    def __init__(
        self, request: RunRequest, facts: HostFacts, setting: Setting, source: Source, joined: Mapping[str, str] = {}
    ) -> None:
        found = Found(
            identity=resolve(request.user, request.group_add, source.read),
            path=source.path,
            devices=tuple(d for asked in request.devices for d in _devices(asked)),
            block_devices=_block_devices(request),
            joined=joined,
        )
        _check_sources(request)
        self.spec: Spec = container_config(source.located(), facts, found, setting.id)
        self.setting = setting
        self.compiled: Compiled = compile_container(self.spec, facts, setting)


def setting_for(
    request: RunRequest, id: str, source: Source, stdio: Stdio, removals: tuple[str, ...], *, attached: bool,
    attachment: Attachment | None = None, kept: Keeping | None = None,
) -> Setting:  # fmt: skip
    """How `kist run` runs it, besides what the OCI config says. Raises Unsupported."""
    from kist.value import replace

    cables = attachment.cables if attachment else ()
    size = request.storage_opt_size_bytes
    if kept and size is not None:
        why = "what is kept lies on the disk, and its file system counts no directories"
        raise Unsupported("--storage-opt size= limits only what is gone with the container", why=why, next="--rm")
    if size is None and request.memory_bytes and not kept:
        size = request.memory_bytes // 2  # "no space left" before the memory limit kills
    without = request.without
    name = request.hostname or id[:12]
    seconds = request.timeout_s or 0
    return Setting(
        id=id,
        files=replace(
            source.files,
            size_bytes=size,
            files=(*source.files.files, *_network_files(request, name, cables, source.relayed)),
            secrets=source.secrets(),
        ),
        bundle="/",
        cables=cables,
        names=_names(request, id, cables, removals),
        egress=_egress(source, request, id, removals[0] if removals else "", kept, attachment),
        own_sockets=bool(request.allow_net),
        pasta=attachment.pasta if attachment else (),
        shared=_shared(attachment) if cables and source.relayed else "",
        stdio=stdio,
        attend=kept.attend if kept else None,
        removals=removals,
        state_file=f"{removals[0]}/state" if removals else "",
        state='{"pid":$init_pid}',
        oom_text="kist: the container ran out of memory: the kernel killed in it (--memory)\n",
        timeout_ms=max(int(seconds * 1000), 1) if seconds else 0,
        timeout_text=f"kist: killed after {seconds:g} s (--timeout)\n",
        reaper=request.init,
        path=source.path,
        cgroup="cgroup" not in without,
        pivot="pivot" not in without,
        keyring="keyring" not in without,
        overlay="overlay" not in without,
        device_filter="devices" not in without,
        can_pause=attached,
        updatable=kept is not None,
        allow_unenforced=request.allow_unenforced,
        clamp=True,
    )


def own_names(request: RunRequest, id: str) -> str:
    name = request.hostname or id[:12]
    return f"{name}.{request.domainname} {name}" if request.domainname else name


def has_hosts(request: RunRequest) -> bool:
    """Whether its /etc/hosts is of kist's making."""
    return request.uts != "host" and not request.network.startswith("container:")


def _host_addresses(request: RunRequest, cables: tuple[Cable, ...]) -> tuple[str, ...]:
    """Where the container reaches the host: of an IPv4 and an IPv6 address both. Raises Unsupported."""
    from kist.plan.rtnetlink import address_text

    if request.network == "host":
        return ("127.0.0.1",)
    found = next((cable.gateways for cable in cables if cable.gateways), ())
    if not found:
        raise Unsupported(f"--add-host {HOST_GATEWAY}: it has no network in which the host has an address",
                          next="--network bridge, or the address itself", code="no-gateway")  # fmt: skip
    return tuple(map(address_text, found))


def _network_files(
    request: RunRequest, name: str, cables: tuple[Cable, ...], relayed: bool
) -> tuple[tuple[str, bytes], ...]:  # fmt: skip
    files = []
    if has_hosts(request):
        hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        own = [a.local for cable in cables for a in cable.addresses]
        if own:
            from kist.plan.rtnetlink import address_text

            hosts += [f"{address_text(address)} {own_names(request, name)}" for address in own]
        else:
            hosts += [f"127.0.1.1 {name}"]
        for host, address in request.add_host:
            found = _host_addresses(request, cables) if address == HOST_GATEWAY else (address,)
            hosts += [f"{one} {host}" for one in found]
        files += [("/etc/hostname", f"{name}\n".encode()), ("/etc/hosts", ("\n".join(hosts) + "\n").encode())]
    lines = [f"nameserver {a}" for a in request.dns]
    lines += [f"search {' '.join(request.dns_search)}"] if request.dns_search else []
    lines += [f"options {' '.join(request.dns_option)}"] if request.dns_option else []
    if request.allow_net:
        asked = [line for line in lines if not line.startswith("nameserver")]
        lines = ["nameserver 127.0.0.11", *asked]
    elif not lines and request.network == "host":
        lines = _lines_of("/etc/resolv.conf")
    elif cables or relayed or request.pasta:
        from kist.network.resolver import own_server, resolver_lines

        lines = resolver_lines(lines, _lines_of("/etc/resolv.conf"), _lines_of("/run/systemd/resolve/resolv.conf"))
        lines = own_server(lines) if relayed or _answers_names(request) else lines
        if request.pasta and not any(line.startswith("nameserver") for line in lines):
            from kist.network.pasta import NAME_SERVER

            lines = [f"nameserver {NAME_SERVER}", *lines]  # the host's own are on its loopback
    if lines:
        files.append(("/etc/resolv.conf", ("\n".join(lines) + "\n").encode()))
    return tuple(files)


def _answers_names(request: RunRequest) -> bool:
    """Names are those of user-defined networks, as docker has it."""
    return any(name != "bridge" for name in request.in_networks)


def _names(request: RunRequest, id: str, cables: tuple[Cable, ...], removals: tuple[str, ...]) -> Names | None:
    """Also for one that may come into such a network while it runs: kist network connect."""
    if not cables:
        return None
    from kist.network.names import place
    from kist.network.resolver import servers

    asked = [f"nameserver {address}" for address in request.dns]
    run = os.path.dirname(removals[0]) if removals else ""
    return place(run, id, servers(asked or _lines_of("/etc/resolv.conf")), asked=_answers_names(request))


def _egress(
    source: Source, request: RunRequest, id: str, run: str, kept: Keeping | None, attachment: Attachment | None
) -> Egress | None:  # fmt: skip
    if not source.relayed:
        return None
    from kist.engine.denials import FILE
    from kist.network.attach import Attachment
    from kist.network.names import place
    from kist.network.resolver import servers
    from kist.plan.compile_egress import Egress

    asked = [f"nameserver {address}" for address in request.dns]
    names = place(os.path.dirname(run), id, servers(asked or _lines_of("/etc/resolv.conf")))
    a = attachment or Attachment()
    return Egress(request.allow_net, f"{kept.directory if kept else run}/{FILE}", names, a.relayed, a.out)


def _shared(attachment: Attachment | None) -> str:
    return attachment.shared.net_path if attachment and attachment.shared else SHARED


def _lines_of(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16).splitlines()
    except OSError:
        return []


def _check_sources(request: RunRequest) -> None:
    for mount in (*request.volumes, *request.mounts):
        if mount.kind != "bind":
            continue
        if mount.create_source and not os.path.lexists(mount.source):
            os.makedirs(mount.source, exist_ok=True)
        if not os.path.exists(mount.source):
            raise NotFound(f"no file or directory {mount.source} on this host", next="check --volume and --mount")


def _devices(asked: DeviceRequest) -> list[HostDevice]:
    """A node, or all nodes below a directory, as docker has it. Raises NotFound, InvalidInput."""
    try:
        status = os.stat(asked.source)
    except OSError as e:
        raise NotFound(f"no device {asked.source} on this host", why=e.strerror or "") from e
    if stat.S_ISDIR(status.st_mode):
        found = []
        for directory, _, names in os.walk(asked.source):
            for name in names:
                path = os.path.join(directory, name)
                target = asked.target + path[len(asked.source) :]
                node = _device(path, target, asked.access)
                found += [node] if node else []
        return found
    node = _device(asked.source, asked.target, asked.access)
    if node is None:
        raise InvalidInput(f"{asked.source} is not a device", path="--device")
    return [node]


def _device(path: str, target: str, access: str) -> HostDevice | None:
    status = os.stat(path)
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return HostDevice(target, kind, major, minor, stat.S_IMODE(status.st_mode), access, status.st_uid, status.st_gid)


def _block_devices(request: RunRequest) -> dict[str, tuple[int, int]]:
    flags = ("blkio_weight_device", "device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops")
    numbers = {}
    for field in flags:
        for limit in getattr(request, field):
            flag = "--" + field.replace("_", "-")
            try:
                status = os.stat(limit.path)
            except OSError as e:
                raise NotFound(f"{flag}: no device {limit.path} on this host", why=e.strerror or "") from e
            if not stat.S_ISBLK(status.st_mode):
                raise InvalidInput(f"{limit.path} is not a block device", path=flag)
            numbers[limit.path] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return numbers
