"""The part of a plan that builds the container's root: file system, mounts, devices, what is hidden, the way in."""

from __future__ import annotations

from kist.errors import InvalidInput, Refused, Unsupported
from kist.plan import flags as f
from kist.plan import mount_options, steps
from kist.plan.builder import host_id, id_map_text
from kist.plan.facts import UNIFIED
from kist.plan.setting import SECRETS
from kist.plan.steps import (
    COPY_LINK,
    NOFOLLOW_SOURCE,
    BindAt,
    MaskAt,
    Mkdir,
    MkdirAt,
    MknodAt,
    Mount,
    MountAt,
    MountPropagation,
    MoveTree,
    NewTree,
    Open,
    OpenRoot,
    OpenTree,
    PivotRoot,
    ReadonlyAt,
    RemountAt,
    Slots,
    SymlinkAt,
    WriteAt,
)  # fmt: skip
from kist.spec import runtime as oci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from kist.plan.builder import Builder
    from kist.plan.mount_options import MountOptions

DEVICES = tuple(
    oci.Device(f"/dev/{name}", "c", major, minor)
    for name, major, minor in (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9),
                               ("tty", 5, 0))
)  # fmt: skip
LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
         ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"))  # fmt: skip
_MOUNT_DATA_MAX = 4095  # bytes, mount(2)
_KINDS = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}


def container_path(path: str, where: str) -> str:
    """Absolute and without . and .., as it will be resolved: inside the root. Source: OCI config.md, "Mounts"."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if not path:
        raise InvalidInput("a path inside the container is empty", path=where)
    return "/" + "/".join(parts)


def host_path(path: str, base: str) -> str:
    return path if path.startswith("/") else f"{base.rstrip('/')}/{path}"


class RootCompiler:
    """Each method appends to the builder's plan; the order in which they are called is the order of the steps."""

    def __init__(self, b: Builder, cgroup_paths: Sequence[str] = ()) -> None:
        self.b, self.spec, self.files = b, b.spec, b.setting.files
        self.cgroup_paths = cgroup_paths
        paths = (f"$.mounts[{i}].options" for i in range(len(self.spec.mounts)))
        self.mounts = [
            (mount, mount_options.parse(mount.options, path))
            for mount, path in zip(self.spec.mounts, paths, strict=True)
        ]
        self.trees: dict[int, int] = {}  # index of a mount -> slot of what was opened on the host
        self.inner: dict[int, int] = {}  # index of a mount whose source lies in the root itself -> its id map's slot
        self.lower_trees: dict[str, int] = {}  # directory below the overlay -> slot of its id-mapped mount
        self.upper_tree = Slots.NONE  # id-mapped mount of files.upper
        self.node_slot = Slots.NONE  # of a file system with device nodes of the host's making
        self.nodes: dict[str, str] = {}  # path inside -> name there
        self._maps: dict[tuple[str, str], int] = {}  # user namespaces that exist for their maps

    # --- before the first process is there

    def open_sources(self) -> None:
        """What only the host side may open: id-mapped mounts, and sources that the container's root may not reach."""
        b = self.b
        for i, (mount, options) in enumerate(self.mounts):
            mapped = options.id_map or mount.uid_mappings or mount.gid_mappings
            if not (options.bind or mount.type == "bind"):
                if mapped:
                    raise InvalidInput("only bind mounts can be id-mapped", path=f"$.mounts[{i}]")
                continue
            if not (mapped or (b.userns and b.privileged_host)):
                continue
            source = host_path(mount.source, b.setting.bundle)
            id_map = self._mount_map(mount, i) if mapped else Slots.NONE
            self.trees[i] = b.slot()
            if self._below_root(source) and not (mapped and b.makes(f.CLONE_NEWUSER)):
                self.inner[i] = id_map
                continue  # it shows what was mounted by then
            nofollow = int(bool(options.links & (NOFOLLOW_SOURCE | COPY_LINK)))
            step = OpenTree(
                source, int(options.recursive), self.trees[i], id_map, int(options.id_map_recursive), nofollow,
                below=options.below,
            )  # fmt: skip
            b.host("rootfs", step, "while it can still be reached")
        if self.files.erofs:
            self._open_erofs()
        if self.files.path or not (b.makes(f.CLONE_NEWUSER) and b.host_root):
            return
        if self.files.upper:
            self._open_upper()
        if not b.facts.overlay_id_mapped(self.files.filesystem):
            why = f"{self.files.filesystem or 'this file system'} cannot be id-mapped by this kernel"
            b.notes.append(f"root's files are nobody's inside: {why}")
        else:
            for path in (*self.files.lowers, *(source for source, _ in self.files.trees)):
                self.lower_trees[path] = b.slot()
                id_map = self._map(id_map_text(b.mappings("uid")), id_map_text(b.mappings("gid")))
                step = OpenTree(path, 0, self.lower_trees[path], id_map)
                b.host("rootfs", step, "root's files belong to the container's root")

    def _open_upper(self) -> None:
        """What is kept belongs to the host's ids, whatever they are inside. Raises Unsupported."""
        if not self.b.facts.overlay_id_mapped(self.files.upper_filesystem):
            kind = self.files.upper_filesystem or "the file system of the data directory"
            raise Unsupported(
                "with --userns private, what this container writes can't be kept",
                why=f"this kernel cannot id-map {kind}",
                next="--rm, or set KIST_DATA_DIR to a directory on ext4, xfs or btrfs",
            )
        self.upper_tree = self.b.slot()
        id_map = self._map(id_map_text(self.b.mappings("uid")), id_map_text(self.b.mappings("gid")))
        self.b.host("rootfs", OpenTree(self.files.upper, 0, self.upper_tree, id_map), "what it writes is kept there")

    def _open_erofs(self) -> None:
        """Only the host side may mount it; there it can be given other ids, too."""
        b, files, id_map = self.b, self.files, Slots.NONE
        if b.makes(f.CLONE_NEWUSER) and b.facts.overlay_id_mapped("erofs"):
            id_map = self._map(id_map_text(b.mappings("uid")), id_map_text(b.mappings("gid")))
        self.lower_trees[files.erofs] = slot = b.slot()
        options = tuple([f"device={path}" for path in files.devices])
        step = NewTree("erofs", files.erofs, options, f.MOUNT_ATTR_RDONLY, slot, id_map, *files.lender)
        b.host("rootfs", step, "the image: an index into the archives of its layers")

    @property
    def lowers(self) -> tuple[str, ...]:
        return (self.files.erofs,) if self.files.erofs else self.files.lowers

    def make_nodes(self) -> None:
        """Devices for a user namespace, which cannot make any: by the host's root, if we are that."""
        b = self.b
        if not (b.makes(f.CLONE_NEWUSER) and b.host_root):
            return
        self.node_slot = b.slot() if self.spec.linux.devices else Slots.NONE
        for i, device in enumerate(self.spec.linux.devices):
            if device.type == "p" or device.major is None or device.minor is None:
                continue
            self.nodes[container_path(device.path, "$.linux.devices")] = f"{i}"
            where = f"$.linux.devices[{i}]"
            uid = host_id(b.mappings("uid"), device.uid or 0, f"{where}.uid")
            ids = (uid, host_id(b.mappings("gid"), device.gid or 0, f"{where}.gid"))
            step = steps.HostNode(self.node_slot, f"{i}", _mode(device), device.major, device.minor, *ids)
            b.host("devices", step, "asked for")

    def open_shared(self) -> None:
        """Sources whose mount events are to travel both ways are taken before this mount namespace becomes the host's
        slave: what is cloned then stays in the host's peer group. Source: mount_namespaces(7)."""
        b = self.b
        for i, (mount, options) in enumerate(self.mounts):
            shared = options.propagation & f.MS_SHARED
            if (shared or options.below) and (options.bind or mount.type == "bind") and i not in self.trees:
                self.trees[i] = b.slot()
                source = host_path(mount.source, b.setting.bundle)
                step = OpenTree(source, int(options.recursive), self.trees[i], below=options.below)
                b.init("rootfs", step, "while it is shared with the host" if shared else "a part of a volume")

    def _mount_map(self, mount: oci.Mount, index: int) -> int:
        b, where = self.b, f"$.mounts[{index}]"
        uid, gid = mount.uid_mappings, mount.gid_mappings
        if bool(uid) != bool(gid):
            raise InvalidInput("an id-mapped mount needs both uidMappings and gidMappings", path=where)
        if not uid:
            joined = [path for flag, path in b.joined if flag == f.CLONE_NEWUSER]
            if joined:
                slot = b.slot()
                b.host("rootfs", Open(joined[0], 0o2000000, slot), "what mounts translate ids by")
                return slot
            if not b.makes(f.CLONE_NEWUSER):
                raise InvalidInput(
                    "idmap without mappings means those of the container's user namespace, and it has none of its own",
                    path=where,
                )
            uid, gid = b.mappings("uid"), b.mappings("gid")
        return self._map(id_map_text(uid), id_map_text(gid))

    def _map(self, uid: str, gid: str) -> int:
        if (uid, gid) not in self._maps:
            self._maps[uid, gid] = self.b.slot()
            self.b.host("rootfs", steps.UserNamespace(uid, gid, self._maps[uid, gid]), "what mounts translate ids by")
        return self._maps[uid, gid]

    # --- the root itself

    def make_root(self) -> None:
        b = self.b
        if self.files.path:
            self._plain_root()
            return
        scratch, size = self.files.scratch, self.files.size_bytes
        data = "mode=0755" + (f",size={size}" if size else "")
        flags = 0 if self.lowers else f.MS_NODEV | f.MS_NOSUID
        why = "where the root is put together" if self.files.upper else "what the container writes: gone with it"
        b.init("rootfs", Mount("tmpfs", "tmpfs", scratch, flags, data), why)
        root = f"{scratch}/root"
        self._overlay(self.lowers, "root", root, 0)
        b.init("rootfs", OpenRoot(root), "the new root")
        for source, target in self.files.trees:
            b.init("rootfs", MkdirAt(target), "where it shows")
            self._overlay((source,), target[1:].replace("/", "-"), root + target, f.MS_NOSUID | f.MS_NODEV)
        for path, content in self.files.symlinks:
            b.init("rootfs", SymlinkAt(content, path), "as on this machine")
        for path, mode in self.files.directories:
            b.init("rootfs", MkdirAt(path, mode), "empty")

    def write_files(self) -> None:
        for path, content in self.files.files:
            self.b.init("rootfs", WriteAt(path, content), "what this container's programs need to know")

    def write_secrets(self) -> None:
        if not self.files.secrets:
            return
        b, attributes = self.b, f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NODEV | f.MOUNT_ATTR_NOEXEC
        size = sum(len(secret.data) for secret in self.files.secrets) + (1 << 20)
        step = MountAt("tmpfs", "secrets", SECRETS, ("mode=755", f"size={size}"), attributes)
        b.init("rootfs", step, "secrets are in memory only")
        for s in self.files.secrets:
            b.init("rootfs", WriteAt(s.path, s.data, s.mode, s.uid, s.gid), "a secret that was asked for")
        b.init("rootfs", RemountAt(SECRETS, f.MOUNT_ATTR_RDONLY), "complete by now")

    def _plain_root(self) -> None:
        b, path = self.b, self.files.path
        if b.has(f.CLONE_NEWNS) and mount_options.propagation(self.spec.linux.rootfs_propagation) & f.MS_SHARED:
            b.init("rootfs", MountPropagation(path, f.MS_PRIVATE, 1), "pivot_root wants it so")
        if b.has(f.CLONE_NEWNS) or self.spec.root.readonly:
            b.init("rootfs", Mount("", path, path, f.MS_BIND | f.MS_REC), "a mount of its own, to pivot to")
        b.init("rootfs", OpenRoot(path), "the new root")

    def _overlay(self, lowers: Sequence[str], name: str, target: str, flags: int) -> None:
        b, scratch = self.b, self.files.scratch
        where = self._kept(name) or f"{scratch}/{name}"
        upper, work = f"{where}.upper", f"{where}.work"
        own = [target] if name == "root" else []
        if not lowers:
            lowers = (f"{scratch}/empty",)
            own.append(lowers[0])
        for directory in (*own, upper, work):
            b.init("rootfs", Mkdir(directory, 0o755, 1), "for the overlay")
        if not b.setting.overlay and name == "root" and self.lowers:
            if self.files.erofs or len(lowers) > 1:
                why = "it is made of archives, or of several layers"
                raise Refused("this image can't be run without an overlay", why=why, next="use --rootfs DIR")
            b.init("rootfs", Mount("", lowers[0], target, f.MS_BIND), "--without overlay: the image itself")
            return
        below = [self._lower(path, f"{scratch}/{name}.lower{i}") for i, path in enumerate(lowers)]
        data = f"lowerdir={':'.join(below)},upperdir={upper},workdir={work}" + (",userxattr" if b.userns else "")
        if len(data.encode("utf-8", "surrogateescape")) > _MOUNT_DATA_MAX:
            raise Refused(
                f"{len(lowers)} layers with paths as long as {lowers[0]}", why="mount(2) takes one page of options",
                next="set KIST_DATA_DIR to a shorter path",
            )  # fmt: skip
        b.init("rootfs", Mount("overlay", "overlay", target, flags, data),
               "reads come from below, writes go to the layer on top")  # fmt: skip

    def _kept(self, name: str) -> str:
        """Where the writable layer of this overlay is kept, without the words for its two directories."""
        if not self.files.upper:
            return ""
        base = self.files.upper
        if self.upper_tree:
            base = f"{self.files.scratch}/kept"
            if name == "root":
                self.b.init("rootfs", Mkdir(base, 0o755, 1), "for the id-mapped view")
                self.b.init("rootfs", MoveTree(self.upper_tree, base), "what it writes is kept there")
        return f"{base}/{name}"

    def _lower(self, path: str, mapped: str) -> str:
        if path not in self.lower_trees:
            return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")
        self.b.init("rootfs", Mkdir(mapped, 0o755, 1), "for the id-mapped view")
        self.b.init("rootfs", MoveTree(self.lower_trees[path], mapped), "root's files belong to the container's root")
        return mapped

    # --- mounts

    def make_mounts(self) -> None:
        for i, (mount, options) in enumerate(self.mounts):
            where = f"$.mounts[{i}]"
            target = container_path(mount.destination, f"{where}.destination")
            target = self._below_root(target) or target  # as runc takes it
            if options.bind or mount.type == "bind":
                self._bind(i, mount, options, target)
            elif mount.type in ("cgroup", "cgroup2"):
                self._cgroup(options, target)
            else:
                self._filesystem(mount, options, target, where)

    def _below_root(self, path: str) -> str:
        """Such a path of the host, as it is seen inside; else ""."""
        root = self.files.path
        return path[len(root) :] if root and path.startswith(f"{root}/") else ""

    def _bind(self, index: int, mount: oci.Mount, options: MountOptions, target: str) -> None:
        self._refuse_over_proc(target, f"$.mounts[{index}].destination", mount.source)
        if not mount.source:
            raise InvalidInput("a bind mount needs a source", path=f"$.mounts[{index}].source")
        source = host_path(mount.source, self.b.setting.bundle)
        if index in self.inner:
            self.b.init(
                "rootfs",
                OpenTree(
                    self._below_root(source), int(options.recursive), self.trees[index], self.inner[index],
                    int(options.id_map_recursive), int(bool(options.links & (NOFOLLOW_SOURCE | COPY_LINK))), inside=1,
                ),
                "a part of the container's own root",
            )  # fmt: skip
        step = BindAt(
            source=source, target=target,
            tree=self.trees.get(index, Slots.NONE), recursive=int(options.recursive),
            attributes=options.attributes, clear=options.clear, all_attributes=options.all_attributes,
            all_clear=options.all_clear, propagation=options.propagation, links=options.links,
        )  # fmt: skip
        self.b.init("rootfs", step, "a part of the host, shown inside")

    def _refuse_over_proc(self, target: str, where: str, source: str = "") -> None:
        """Nothing of the container's choice may stand where kist, or the container's programs, trust the kernel to be
        (CVE-2019-16884, CVE-2025-52881). Below /proc a few files may be replaced, as lxcfs does."""
        if target.startswith("/proc/") and target not in _PROC_FILES:
            raise InvalidInput(
                f"a mount at {target} would stand in for the kernel's own files",
                path=where,
                next=f"only these may be replaced: {', '.join(sorted(_PROC_FILES))}",
            )
        if target == "/proc" and source and source.rstrip("/") != "/proc":
            raise InvalidInput("only procfs may be mounted on /proc", path=where)

    def _filesystem(self, mount: oci.Mount, options: MountOptions, target: str, where: str) -> None:
        b = self.b
        if target == "/" and options.copy_up:
            raise InvalidInput("tmpcopyup of the root itself", path=f"{where}.options")
        if not mount.type:
            raise InvalidInput("a mount that is no bind mount needs a type", path=f"{where}.type")
        kind = mount.type
        if kind == "sysfs" and b.makes(f.CLONE_NEWUSER) and not b.makes(f.CLONE_NEWNET):
            bind = BindAt("/sys", target, attributes=options.attributes | options.all_attributes)
            b.init("rootfs", bind, "sysfs belongs to the network namespace's owner: the host's own")
            return
        if kind != "proc":
            self._refuse_over_proc(target, f"{where}.destination", kind)
        data = list(options.data)
        if self.spec.linux.mount_label and "selinux" in b.facts.lsm and kind in ("tmpfs", "devpts", "mqueue", "shm"):
            data.append(f"context={self.spec.linux.mount_label}")
        if kind == "devpts" and b.single_id:
            data = [word for word in data if not word.startswith("gid=")]
        readonly = options.attributes & f.MOUNT_ATTR_RDONLY
        later = readonly and (kind == "tmpfs" or target == "/dev")  # things are made in it first: see seal_mounts
        attributes = options.attributes | options.all_attributes
        attributes = attributes & ~readonly if later else attributes
        step = MountAt(
            fstype=kind, source=mount.source or kind, target=target, options=tuple(data), attributes=attributes,
            propagation=options.propagation, slot=Slots.DEVPTS if target == "/dev/pts" and kind == "devpts" else 0,
            copy_up=int(options.copy_up),
            keep_mode=int(kind == "tmpfs" and not any(word.startswith("mode=") for word in data)),
            strict=int(kind in ("proc", "sysfs")),
        )  # fmt: skip
        b.init("devices" if target.startswith("/dev") else "rootfs", step, _WHY.get(kind, "asked for"))

    def _cgroup(self, options: MountOptions, target: str) -> None:
        """What the container sees of its cgroups. Source: OCI config-linux.md, "Cgroup ownership" and runc's mounts."""
        b, facts = self.b, self.b.facts.cgroup
        safe = f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NOEXEC | f.MOUNT_ATTR_NODEV
        attributes = options.attributes | safe
        own = b.has(f.CLONE_NEWCGROUP)
        if facts.version == 2 and facts.v2:
            if own:
                step = MountAt("cgroup2", "cgroup", target, options.data, attributes, options.propagation)
                b.init("rootfs", step, "its own cgroup, seen as the root")
            else:
                source = facts.v2.mount
                b.init(
                    "rootfs",
                    BindAt(source, target, recursive=1, attributes=attributes),
                    "the host's: no cgroup namespace",
                )
            return
        why = "one directory for each controller"
        b.init("rootfs", MountAt("tmpfs", "tmpfs", target, ("mode=755",), safe), why)
        hierarchies: dict[str, list[str]] = {}
        for name, place in facts.v1.items():
            hierarchies.setdefault(place.mount, []).append(name)
        for path, names in hierarchies.items():
            own_place = next((own for own in self.cgroup_paths if own.startswith(f"{path}/")), "")
            if not own_place:
                continue  # the container has none of its own there
            directory = path.rpartition("/")[2]
            at = f"{target}/{directory}"
            if own:
                words = tuple(names) if not names[0].startswith("name=") else ("none", names[0])
                kind, words = ("cgroup2", ()) if names == [UNIFIED] else ("cgroup", words)
                b.init("rootfs", MountAt(kind, "cgroup", at, words, attributes), "its own cgroup, seen as the root")
            else:
                b.init("rootfs", BindAt(own_place, at, recursive=0, attributes=attributes), "its own cgroup")
            for name in names:
                if name not in (directory, f"name={directory}") and "=" not in name:
                    b.init("rootfs", SymlinkAt(directory, f"{target}/{name}"), "a controller's own name")
        if options.attributes & f.MOUNT_ATTR_RDONLY:
            b.init("rootfs", RemountAt(target, f.MOUNT_ATTR_RDONLY), "asked for")

    # --- devices

    def make_devices(self) -> None:
        """/dev from nothing: what every container has, and what the config adds."""
        b = self.b
        if any(m.type == "bind" or "bind" in m.options or "rbind" in m.options
               for m in self.spec.mounts if container_path(m.destination, "$.mounts") == "/dev"):  # fmt: skip
            return  # the host's own, asked for
        asked = {container_path(d.path, "$.linux.devices"): d for d in self.spec.linux.devices}
        for device in DEVICES:
            if device.path not in asked:
                self._device(device.path, device, "harmless")
        for i, (path, device) in enumerate(asked.items()):
            if device.type != "p" and (device.major is None or device.minor is None):
                raise InvalidInput("a device needs major and minor", path=f"$.linux.devices[{i}]")
            self._device(path, device, "asked for")
        if self.nodes:
            b.init("devices", steps.DropNodes(self.node_slot), "all of them are in place")
        for name, content in LINKS:
            b.init("devices", SymlinkAt(content, f"/dev/{name}", int(name != "ptmx")), "programs expect it")

    def _device(self, path: str, device: oci.Device, why: str) -> None:
        b, attributes = self.b, f.MOUNT_ATTR_NOSUID | f.MOUNT_ATTR_NOEXEC
        if path in self.nodes:
            b.init("devices", steps.NodeAt(self.node_slot, self.nodes[path], path, attributes), why)
        elif (b.userns or b.facts.in_user_namespace) and device.type != "p":
            step = BindAt(path, path, recursive=0, attributes=attributes)
            b.init("devices", step, "mknod is not for user namespaces: the host's own node")
        else:
            numbers = (device.major or 0, device.minor or 0, device.uid or 0, device.gid or 0)
            b.init("devices", MknodAt(path, _mode(device), *numbers), why)

    # --- hidden, read-only, entered

    def hide(self) -> None:
        """After everything is in place: what must not be seen or written."""
        b, linux = self.b, self.spec.linux
        label = f"context={linux.mount_label}" if linux.mount_label and "selinux" in b.facts.lsm else ""
        for path in dict.fromkeys(linux.readonly_paths):
            b.init("rootfs", ReadonlyAt(container_path(path, "$.linux.readonlyPaths")), "writing here changes the host")
        for path in dict.fromkeys(linux.masked_paths):
            target = container_path(path, "$.linux.maskedPaths")
            b.init("rootfs", MaskAt(target, (label,) if label else ()), "tells about the host")

    def seal_mounts(self) -> None:
        for i, (mount, options) in enumerate(self.mounts):
            target = container_path(mount.destination, f"$.mounts[{i}].destination")
            if (
                options.attributes & f.MOUNT_ATTR_RDONLY
                and not options.bind
                and (mount.type == "tmpfs" or target == "/dev")
            ):
                self.b.init("rootfs", RemountAt(target, f.MOUNT_ATTR_RDONLY), "complete by now")
        if self.spec.root.readonly:
            self.b.init("rootfs", RemountAt("/", f.MOUNT_ATTR_RDONLY), "the root file system, complete by now")

    def enter(self) -> None:
        b = self.b
        if not b.has(f.CLONE_NEWNS):
            b.init("rootfs", steps.Chroot(), "no mount namespace: only where / points changes")
        elif not b.setting.pivot:
            for path in b.setting.visible_mounts:
                why = "else a user namespace inside could mount its own, whole: mount_namespaces(7)"
                b.init("rootfs", Mount("tmpfs", "tmpfs", path, f.MS_RDONLY), why)
            step = steps.MoveRoot() if self.files.path else steps.Chroot()
            b.init("rootfs", step, "without pivot_root")
        else:
            b.init("rootfs", PivotRoot(), "the host's files are out of reach, not just out of sight")
        propagation = mount_options.propagation(self.spec.linux.rootfs_propagation)
        if propagation & (f.MS_SHARED | f.MS_UNBINDABLE):
            b.init("rootfs", MountPropagation("/", propagation), "rootfsPropagation")

    def open_proc(self) -> None:
        self.b.init("privileges", steps.OpenProc(), "to write there past whatever is mounted on /proc")


def _mode(device: oci.Device) -> int:
    return _KINDS[device.type] | (0o666 if device.file_mode is None else device.file_mode & 0o7777)


def rootfs_propagation(word: str) -> int:
    """What the whole tree becomes at first. Source: OCI config-linux.md, "Rootfs Mount Propagation"; runc's default."""
    found = mount_options.propagation(word)
    return (found | f.MS_REC) if found & (f.MS_PRIVATE | f.MS_SLAVE) else f.MS_SLAVE | f.MS_REC


_WHY = {
    "proc": "shows this PID namespace",
    "sysfs": "shows this network namespace",
    "tmpfs": "in memory, gone with the container",
    "devpts": "terminals of its own",
    "mqueue": "POSIX message queues",
}
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    )
)
