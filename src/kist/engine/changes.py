"""`kist diff` and `kist export`: what a container has changed, and all that it has."""

from __future__ import annotations

import os

from kist.engine.inside import Task
from kist.engine.view import View, at_home
from kist.errors import InvalidInput
from kist.store.tree import OPEN_DIRECTORY, Walker
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from kist.engine.containers import Container, Containers

    # The names in a directory of what lies below, or None; whether there is anything by that path.
    Names = Callable[[bytes], list[bytes] | None]

# What kist itself puts into every container, not its programs.
OWN = frozenset((b"/proc", b"/sys", b"/dev", b"/run/secrets", b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf"))


class Change(Value):
    """`kind`: "A" added, "C" changed, "D" deleted. `path`: from the root, with a slash in front."""

    kind: str
    path: bytes


def changes(containers: Containers, container: Container) -> list[Change]:
    """By path. Raises NotFound (no-image), KistError."""
    found: list[Change] = []
    for name, where, names in _overlays(containers, container):
        task = Task("changes", uppers=((f"{container.path}/rw/{name}.upper", where),))
        records = [record.partition(b" ")[::2] for record in _output(task).split(b"\0")[:-1]]
        found += _meaning([(kind, path) for kind, path in records], names, where.rstrip("/").encode())
    return sorted(found, key=lambda change: change.path)


def _output(task: Task) -> bytes:
    read, write = os.pipe2(os.O_CLOEXEC)
    with open(read, "rb") as file:
        try:
            worker = at_home(task, stdout=write)
        finally:
            os.close(write)
        with worker:
            data = file.read()
            worker.report()
    return data


def _meaning(records: list[tuple[bytes, bytes]], names: Names, where: bytes) -> list[Change]:
    """`records` as upper.write_changes has them; `where`: the overlay's mount point."""

    def below(path: bytes) -> bool:
        head, _, leaf = path[len(where) :].rpartition(b"/")
        return leaf in (names(head[1:]) or ())

    hidden = [path for _, path in records if path in OWN]
    changed = [(kind, path) for kind, path in records if not any(_is_in(path, own) for own in OWN)]
    paths = {path for _, path in changed}
    found = []
    for kind, path in changed:
        if (
            kind == b"/"
            and any(_is_in(h, path) for h in hidden)
            and not any(_is_in(other, path) for other in paths if other != path)
        ):
            continue  # only for what is kist's own
        found.append(Change("D" if kind == b"D" else "C" if below(path) else "A", path))
        if kind == b"O" and below(path):
            lost = [path + b"/" + name for name in names(path[len(where) + 1 :]) or ()]
            found += [Change("D", name) for name in lost if name not in paths]
    return found


def _is_in(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory + b"/")


def _overlays(containers: Containers, container: Container) -> list[tuple[str, str, Names]]:
    """(name of its upper directory, where it is mounted, what lies below)."""
    request, image = container.config.request, container.config.image
    if image:
        return [("root", "/", _of_image(containers.data_dir, image))]
    if request.rootfs:
        trees = [("root", "/", request.rootfs)]
        if os.path.isdir(f"{container.path}/rw/etc.upper"):
            trees.append(("etc", "/etc", f"{request.rootfs}/etc"))
    else:
        from kist.engine.host_image import files

        trees = [("root", "/", "")]
        trees += [(to[1:].replace("/", "-"), to, source) for source, to in files("/").trees]
    return [(name, where, _of_directory(source)) for name, where, source in trees]


def _of_directory(base: str) -> Names:
    known: dict[bytes, list[bytes] | None] = {}

    def names(path: bytes) -> list[bytes] | None:
        if path not in known:
            known[path] = _names_in(base, path) if base else None
        return known[path]

    return names


def _names_in(base: str, path: bytes) -> list[bytes] | None:
    root = os.open(base, OPEN_DIRECTORY & ~os.O_NOFOLLOW)
    try:
        with Walker(root) as walker:
            return [os.fsencode(name) for name in os.listdir(walker.open_real(path).fd)]
    except (OSError, InvalidInput):
        return None
    finally:
        os.close(root)


def _of_image(data_dir: str, image: str) -> Names:
    from kist.store.images import ImageStore
    from kist.store.prepared import Prepared
    from kist.store.view import Directory

    with ImageStore(data_dir).lease(image) as lease:
        root = Prepared(data_dir).view(lease.diff_ids, lease.form).root

    def names(path: bytes) -> list[bytes] | None:
        node = root
        for part in path.split(b"/") if path else ():
            child = node.children.get(part)
            if not isinstance(child, Directory):
                return None
            node = child
        return list(node.children)

    return names


def export(containers: Containers, container: Container, fd: int) -> None:
    """All its files, but for what is mounted in it, as a tar archive. Raises KistError."""
    with View(containers, container) as view, view.start(Task("export"), stdout=fd) as worker:
        worker.report()
