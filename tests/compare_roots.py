"""Five real root file systems, layer by layer: kist's view in both forms beside GNU tar, umoci and podman.

    python tests/compare_roots.py [DIRECTORY]        as root; asks Debian's mirrors; DIRECTORY keeps what they gave

Of each image every prefix of its layers is compared with what GNU tar makes of the archives one after the other, and
the whole with umoci's and podman's: mode, owner, times, links, devices, attributes, content. It prints a table of how
many differences there are, and ends with status 1 when there is one. What does not count: the links of a file in an
overlay, one of whose names may be hidden; the time of a directory that no archive names, and beside umoci and podman of
any, which they change; that podman shows every root with mode 0555, and that umoci drops attributes without a value.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from images import busybox_layer, put_image
from kist.store.blobs import BlobStore
from kist.store.data import create
from kist.store.forms import EROFS, best_form
from kist.store.images import ImageStore
from kist.store.saving import save
from trees import Tree, differences, shown, snapshot, use_directories

Layers = list[bytes]
_TAR = ("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*")


def run(*argv: str | Path, data: bytes | None = None) -> bytes:
    done = subprocess.run([str(a) for a in argv], input=data, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{argv}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def debian(directory: Path, *include: str) -> bytes:
    path = directory / f"debian{'-'.join(('', *include))}.tar"
    if not path.exists():
        options = [f"--include={','.join(include)}"] if include else []
        run("mmdebstrap", "--variant=minbase", *options, "bookworm", path)
    return path.read_bytes()


def built(directory: Path) -> Layers:
    """What buildah makes of Debian in four steps that delete, replace, link and empty."""
    store = directory / "buildah"
    buildah = ("buildah", "--root", store / "root", "--runroot", store / "run", "--storage-driver", "overlay")
    name = run(*buildah, "from", "scratch").decode().strip()
    tree = Path(run(*buildah, "mount", name).decode().strip())
    run(*_TAR, "-x", "-p", "-C", tree, data=debian(directory))
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: [shutil.rmtree(tree / "usr/share/doc"), (tree / "etc/motd").unlink(), os.remove(tree / "usr/bin/perl")],
        lambda: [(tree / "usr/share/doc").mkdir(), (tree / "usr/share/doc/new").write_text("new"),
                 os.link(tree / "usr/bin/tar", tree / "usr/bin/tar2"), shutil.rmtree(tree / "var/cache/apt"),
                 (tree / "var/cache/apt").symlink_to("/tmp")],
        lambda: [shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                 for path in (tree / "var/log").iterdir()],
    ]  # fmt: skip
    image = ""
    for i, step in enumerate(steps):
        step()
        run(*buildah, "commit", "--quiet", name, image := f"localhost/built:{i}")
        run(*buildah, "rm", name)
        name = run(*buildah, "from", "--pull-never", image).decode().strip()
        tree = Path(run(*buildah, "mount", name).decode().strip())
    run(*buildah, "push", "--quiet", image, f"oci:{directory}/built:it")
    run(*buildah, "rm", name)
    return list(layers_of(directory / "built"))


def layers_of(layout: Path) -> Iterator[bytes]:
    from json import loads

    def blob(descriptor: dict[str, str]) -> bytes:
        return (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()

    manifest = loads(blob(loads((layout / "index.json").read_bytes())["manifests"][0]))
    for layer in manifest["layers"]:
        data = blob(layer)
        yield gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def hostile(directory: Path) -> Layers:
    """A tree with one of everything, and on top of it all that layers can do to each other."""
    sys.path.insert(0, str(Path(__file__).parent / "integration"))
    from test_layers import BASE, UPPERS, grown

    tree = grown(directory / "grown", 7)
    odd = run(*_TAR, "-c", "--format=pax", "--sparse", "--sort=name", "-C", tree, ".")
    shutil.rmtree(tree)
    apart = ("a symlink for a directory", "a file for a directory", "a whiteout of a directory", "many layers")
    return [odd, BASE, *(layer for what, layers in UPPERS.items() if what not in apart for layer in layers)]


# --- the peers


class GnuTar:
    """The layers so far, one extracted over the other; whiteouts by hand, before what the layer itself has."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o755)

    def add(self, layer: bytes) -> Tree:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            entries = [(member.name.removeprefix("./").rstrip("/"), member) for member in tar]
        times = {path: os.stat(path).st_mtime_ns for path, _, _ in os.walk(os.fsencode(self.root))}
        for name, _ in entries:
            head, _, leaf = name.rpartition("/")
            if leaf == ".wh..wh..opq":
                for path in (self.root / head).iterdir():
                    _remove(path)
            elif leaf.startswith(".wh."):
                _remove(self.root / head / leaf.removeprefix(".wh."))
        for name, member in entries:  # tar(1) does not put a file in a directory's place, or the other way around
            path = self.root / name
            if name and path.is_dir() and not path.is_symlink() and not member.isdir():
                _remove(path)
        options = ("-p", "--same-owner", "--delay-directory-restore", "--exclude=.wh.*", "--keep-directory-symlink")
        run(*_TAR, "-x", *options, "-C", self.root, data=layer)
        given = {os.fsencode(self.root / name) for name, member in entries if member.isdir()}
        for path, mtime_ns in times.items():
            if path not in given and os.path.isdir(path) and not os.path.islink(path):
                os.utime(path, ns=(mtime_ns, mtime_ns))
        return snapshot(str(self.root))


def names(layer: bytes) -> set[bytes]:
    """As snapshot has them."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return {os.fsencode("./" + member.name.removeprefix("./").rstrip("/")) for member in tar}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def umoci(directory: Path, layers: Layers) -> Tree:
    layout = directory / "layout"
    with BlobStore(str(layout)) as blobs:
        ImageStore(str(layout)).add("it", put_image(blobs, layers))
    run("umoci", "unpack", "--image", f"{layout}:it:latest", directory / "bundle")
    return snapshot(str(directory / "bundle/rootfs"))


def podman(directory: Path, store: ImageStore) -> Tree | None:
    """None when it cannot load the image."""
    name = "localhost/it:latest"
    with open(directory / "saved.tar", "wb") as file:
        save(store, [name], file, "docker-archive")
    own = ("podman", "--root", directory / "root", "--runroot", directory / "run", "--storage-driver", "overlay")
    try:
        loaded = subprocess.run([str(a) for a in (*own, "load", "-i", directory / "saved.tar")], capture_output=True)
        if loaded.returncode:
            return None
        path = run(*own, "image", "mount", name).decode().strip()
        try:
            return snapshot(path)
        finally:
            run(*own, "image", "umount", name)
    finally:
        subprocess.run(["umount", str(directory / "root/overlay")], capture_output=True, check=False)


# ---


def kist(data_dir: str, layers: Layers) -> Tree:
    with BlobStore(data_dir) as blobs:
        ImageStore(data_dir).add("localhost/it:latest", put_image(blobs, layers), replace=True)
    with shown("localhost/it", data_dir) as path:
        return snapshot(path)


def differ(form: str, peer: str, ours: Tree, theirs: Tree, named: set[bytes]) -> list[str]:
    """`named`: the paths for which some archive has an entry."""
    found = []
    for path, key, line in each_difference(ours, theirs):
        is_directory = path in ours and str(ours[path]["mode"]).startswith("0o4")
        if key == "links" and (form != EROFS or peer == "podman"):
            continue
        if key == "mtime" and is_directory and (peer != "GNU tar" or path not in named):
            continue
        if key == "mode" and path == b"." and peer == "podman" and theirs[path]["mode"] == "0o40555":
            continue
        if key == "xattrs" and peer == "umoci" and _without_empty(ours[path]) == _without_empty(theirs[path]):
            continue
        found.append(line)
    return found


def each_difference(ours: Tree, theirs: Tree) -> Iterator[tuple[bytes, str, str]]:
    """(path, what, a line that says it)."""
    for path in ours.keys() | theirs.keys():
        one, other = ours.get(path), theirs.get(path)
        if one is None or other is None:
            yield path, "", f"{path!r} is only there {'in kist' if one else 'in the other'}"
            continue
        for line in differences({path: one}, {path: other}):
            yield path, line.removeprefix(repr(path)).split(":")[0].strip(), line


def _without_empty(item: dict[str, object]) -> dict[object, object]:
    xattrs = item["xattrs"]
    assert isinstance(xattrs, dict)
    return {name: value for name, value in xattrs.items() if value}


def compare(what: str, layers: Layers, directory: Path) -> list[str]:
    """Print a line of the table; the differences."""
    counts: dict[str, list[str]] = {"GNU tar": [], "umoci": [], "podman": []}
    refused, paths = False, 0
    for form in (EROFS, "directories"):
        data_dir = str(directory / form)
        if form != EROFS:
            use_directories(data_dir)
        elif create(data_dir) or best_form(data_dir) != EROFS:
            sys.exit("EROFS cannot be mounted here")
        peer = GnuTar(directory / f"tar-{form}")
        named: set[bytes] = set()
        for i, layer in enumerate(layers):
            ours = kist(data_dir, layers[: i + 1])
            counts["GNU tar"] += differ(form, "GNU tar", ours, peer.add(layer), named := named | names(layer))
        paths = len(ours)
        with tempfile.TemporaryDirectory(prefix="kist-", dir="/var/tmp") as to:
            counts["umoci"] += differ(form, "umoci", ours, umoci(Path(to), layers), named)
        with tempfile.TemporaryDirectory(prefix="kist-", dir="/var/tmp") as to:
            theirs = podman(Path(to), ImageStore(data_dir))
        if theirs is not None:
            counts["podman"] += differ(form, "podman", ours, theirs, named)
        refused = refused or theirs is None
    cells = [str(len(lines)) for lines in counts.values()]
    cells[-1] = "cannot load it" if refused else cells[-1]
    print(f"| {what} | {len(layers)} | {paths:,} | {' | '.join(cells)} |", flush=True)
    return [f"{what}, {name}: {line}" for name, lines in counts.items() for line in lines]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="kist-roots-", dir="/var/tmp") as name:
        kept = Path(sys.argv[1] if len(sys.argv) > 1 else name)
        box = busybox_layer()
        if box is None:
            sys.exit("this needs busybox: apt-get install busybox-static")
        images: dict[str, Callable[[], Layers]] = {
            "Debian minbase": lambda: [debian(kept)],
            "Debian with python3": lambda: [debian(kept, "python3")],
            "busybox": lambda: [box],
            "built by buildah": lambda: built(Path(name)) if kept == Path(name) else built_from(kept, Path(name)),
            "a hostile corpus": lambda: hostile(Path(name)),
        }
        print("| image | layers | paths | GNU tar | umoci | podman |\n|---|--:|--:|--:|--:|--:|")
        found = False
        for what, layers in images.items():
            directory = Path(name) / what.replace(" ", "-")
            directory.mkdir()
            lines = compare(what, layers(), directory)
            print("\n".join(lines[:50]), file=sys.stderr, flush=True)
            found = found or bool(lines)
            shutil.rmtree(directory)
    return found


def built_from(kept: Path, directory: Path) -> Layers:
    shutil.copy(kept / "debian.tar", directory)
    return built(directory)


if __name__ == "__main__":
    sys.exit(main())
