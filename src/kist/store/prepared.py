"""What follows from an image's blobs, in the form in which the kernel takes it. All of it can be made again.

    layers/ALGORITHM-HEX/   by DiffID: changes, whiteouts (changes.py), summary.json;
                            erofs: tar (the uncompressed archive), extra (what that does not hold in one piece)
    chains/HEX/             by chain id; erofs: index (erofs.py); directories: root (directories.py), skipped.json
    */boot                  the id of the boot in which it was made; removed once it is on the disk

Nothing here is forced to the disk when it is made: that would take longer than making it. After a crash of the machine
what still has a mark of another boot is made again. Source of chain ids: OCI config.md, "Layer ChainID".
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from kist.codec import decode_text, dumps
from kist.errors import CorruptStore, InvalidInput
from kist.store import changes, directories, erofs, layers, locks, view
from kist.store.ahead import Ahead
from kist.store.data import is_whole
from kist.store.forms import DIRECTORIES, EROFS
from kist.store.locks import Lock
from kist.store.making import Blob, Making
from kist.store.summary import Noted, Skipped, Summary
from kist.store.tree import remove_tree
from kist.store.view import Inode
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kist.store.source import Source
    from kist.store.tar import Limits
    from kist.store.view import View

    Came = tuple[tuple[str, ...], View]  # DiffIDs of layers, the lowest first, and what they come to
    Progress = Callable[[str, int, int], object]  # (digest of a blob, bytes done, all its bytes)

# Looked up in every image before anything of it is mounted: kept beside it when it is a regular file of at most 1 MiB.
SMALL = {"passwd": b"/etc/passwd", "group": b"/etc/group"}
_SMALL_MAX = 1 << 20
LOWERS_MAX = 24  # directories of an overlay; their paths have to fit one page, mount(2)
_FLAT_STEP = 8


class LayerBlob(Value):
    """A layer to prepare: its blob, which is there, and what its digests must be."""

    path: str
    digest: str
    size: int
    diff_id: str


class StagedLayer(Value):
    """A layer's contents and books in a directory of `making`. `view` is of it alone, if it was the first to come."""

    path: str
    staged: layers.Staged
    view: View | None
    making: ExitStack


class Ready(Value):
    """What came of it. `skipped`: what this form cannot hold, besides what the layers' summaries say."""

    summaries: tuple[Summary, ...]
    skipped: tuple[Skipped, ...]
    small: dict[str, bytes]  # of SMALL


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """One for each layer: it stands for the layer and all below it. For no layers, one of its own."""
    from hashlib import sha256

    found: list[str] = []
    for diff_id in diff_ids or [f"sha256:{sha256().hexdigest()}"]:
        found.append(f"sha256:{sha256(f'{found[-1]} {diff_id}'.encode()).hexdigest()}" if found else diff_id)
    return found


def groups(count: int) -> list[range]:
    """Which layers share a directory, the lowest first: each has its own, but the lowest of many are put together, in
    steps, so that images of nearly as many layers share them all the same."""
    flat = -(-(count - LOWERS_MAX) // _FLAT_STEP) * _FLAT_STEP if count > LOWERS_MAX else 0
    return [range(0, flat)] * bool(flat) + [range(i, i + 1) for i in range(flat, count)]


class Prepared:
    """layers/ and chains/ of one data directory. Safe for concurrent threads and processes, as long as its user holds
    the lock USE, without which what no image has yet may be collected."""

    def __init__(self, data_dir: str, limits: Limits | None = None) -> None:
        self.data_dir = data_dir
        self._limits = limits
        self.came: Came = ((), view.empty())  # a view that is known
        self._staged: dict[str, StagedLayer] = {}  # layers for prepare_roots, by DiffID

    def layer_path(self, diff_id: str) -> str:
        return f"{self.data_dir}/layers/{diff_id.replace(':', '-')}"

    def _chain_path(self, chain_id: str) -> str:
        return f"{self.data_dir}/chains/{chain_id.partition(':')[2]}"

    def summary(self, diff_id: str) -> Summary:
        path = f"{self.layer_path(diff_id)}/summary.json"
        try:
            with open(path, "rb") as file:
                return decode_text(Summary, file.read(), path)
        except (FileNotFoundError, InvalidInput) as e:
            raise CorruptStore(f"the layer {diff_id} is damaged", why=str(e), next="kist store check --repair") from e

    def view(self, diff_ids: Sequence[str], form: str) -> View:
        """All layers on each other, from what is kept of them."""
        found = view.empty()
        for i, diff_id in enumerate(diff_ids):
            found = self.on_top(found, diff_id, i, form)
        return found

    def on_top(self, below: View, diff_id: str, index: int, form: str) -> View:
        whiteouts, entries = changes.read(self.layer_path(diff_id), index, by_number=form == DIRECTORIES)
        return view.apply(below, entries, whiteouts)

    # --- an EROFS image over all layers

    def index_path(self, diff_ids: Sequence[str]) -> str:
        return f"{self._chain_path(chain_ids(diff_ids)[-1])}/index"

    def has_index(self, diff_ids: Sequence[str]) -> bool:
        return is_whole(self.index_path(diff_ids)) and all(is_whole(f"{self.layer_path(d)}/tar") for d in diff_ids)

    def devices(self, diff_ids: Sequence[str]) -> tuple[str, ...]:
        """The files to mount the index with, in this order."""
        return tuple(path for path, _ in self._devices(diff_ids))

    def erofs_devices(self, diff_ids: Sequence[str]) -> list[erofs.Device]:
        """The same, as the index has them."""
        return [device for _, device in self._devices(diff_ids)]

    def _devices(self, diff_ids: Sequence[str]) -> list[tuple[str, erofs.Device]]:
        found = []
        for i, diff_id in enumerate(diff_ids):
            for name in ("tar", "extra"):
                path = f"{self.layer_path(diff_id)}/{name}"
                try:
                    size = os.stat(path).st_size
                except FileNotFoundError:
                    continue  # no extra: the usual case
                found.append((path, erofs.Device(i, name == "extra", size)))
        return found

    def prepare_index(self, blobs: Sequence[LayerBlob], progress: Progress) -> Ready:
        """Raises what read_layer, view.apply and erofs.write raise; InvalidInput (digest-mismatch)."""
        diff_ids = [blob.diff_id for blob in blobs]
        chain_id = chain_ids(diff_ids)[-1]
        found = self.came[1] if self.came[0] == tuple(diff_ids[: len(self.came[0])]) else view.empty()
        for i, blob in enumerate(blobs):
            on_top = self._raw_layer(blob, progress, found if i == found.layers else None)
            if i == found.layers:
                found = on_top or self.on_top(found, blob.diff_id, i, EROFS)
        with Lock(self.data_dir, locks.of_digest(locks.CHAIN, chain_id)):
            if not is_whole(self.index_path(diff_ids)):
                with Making(self.data_dir) as making:
                    made = making.directory("chain")
                    with open(f"{made}/index", "xb", 1 << 18) as out:
                        uuid = bytes.fromhex(chain_id.partition(":")[2])[:16]
                        erofs.write(found, self.erofs_devices(diff_ids), uuid, out)
                    making.publish(made, self._chain_path(chain_id))

        def read(inode: Inode) -> bytes:
            name = "extra" if inode.place >= erofs.EXTRA else "tar"
            return _pread(f"{self.layer_path(diff_ids[inode.layer])}/{name}", inode.place & ~erofs.EXTRA, inode.size)

        return Ready(tuple(map(self.summary, diff_ids)), (), _small(found, read))

    def _raw_layer(self, blob: LayerBlob, progress: Progress, below: View | None) -> View | None:
        path = self.layer_path(blob.diff_id)
        with Lock(self.data_dir, locks.of_digest(locks.LAYER, blob.diff_id)):
            if is_whole(f"{path}/tar"):
                return None
            with Making(self.data_dir) as making:
                made = making.directory("layer")
                tar, raw = f"{made}/tar", -1
                if blob.digest == blob.diff_id:
                    os.link(blob.path, tar)
                else:
                    raw = os.open(tar, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                contents = layers.RawContents(raw, f"{made}/extra")
                try:
                    found = self._read(blob, made, contents, progress, below)
                finally:
                    contents.close()
                making.publish(made, path)
                return found

    def _read(
        self, blob: LayerBlob, directory: str, contents: layers.Contents, progress: Progress, below: View | None
    ) -> View | None:
        """Read the blob and write the layer's books; what it makes of `below`, see changes.Writer. Raises what
        read_layer raises; InvalidInput (digest-mismatch)."""
        with Blob(blob, progress) as file:
            algorithm = blob.diff_id.partition(":")[0]
            with Ahead(file) as stream:
                found, on_top = self._read_stream(stream, directory, contents, below, algorithm, ahead=True)
            file.verify()
        if found != blob.diff_id:
            raise InvalidInput(
                f"the layer {blob.digest} is not what its image says",
                why=f"uncompressed it is {found}, and not {blob.diff_id}",
                code="digest-mismatch",
            )
        return on_top

    def _read_stream(
        self, stream: Source, directory: str, contents: layers.Contents, below: View | None, algorithm: str = "sha256",
        *, ahead: bool,
    ) -> tuple[str, View | None]:  # fmt: skip
        with changes.Writer(directory, below) as writer:
            summary = layers.read_layer(stream, writer, contents, algorithm, self._limits, ahead=ahead)
        with open(f"{directory}/summary.json", "xb") as file:
            file.write(dumps(summary).encode())
        return summary.digest, writer.view

    def take(self, stream: Source, form: str, owners: bool, plain: str = "") -> str:
        """Prepare the lowest layer of an image from an archive on its way in; its DiffID. `plain` is the file that will
        have the archive by the end of the stream, if it is not compressed. Raises what read_layer raises."""
        if form == EROFS:
            return self.take_raw(stream, plain)[0]
        with Making(self.data_dir) as making:
            return self._take_root(making, stream, owners)

    def take_raw(
        self, stream: Source, plain: str = "", *, below: View | None = None, ahead: bool = False
    ) -> tuple[str, View | None]:
        """The same for any layer, in the form EROFS. What it makes of `below`, see changes.Writer; for `ahead` see
        Chunks."""
        with Making(self.data_dir) as making:
            return self._take_raw(making, stream, plain, below, ahead)

    def _take_raw(
        self, making: Making, stream: Source, plain: str, below: View | None, ahead: bool
    ) -> tuple[str, View | None]:
        made = making.directory("layer")
        raw = -1 if plain else os.open(f"{made}/tar", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        contents = layers.RawContents(raw, f"{made}/extra")
        try:
            diff_id, found = self._read_stream(stream, made, contents, below, ahead=ahead)
        finally:
            contents.close()
        if plain:
            os.link(plain, f"{made}/tar")
        path = self.layer_path(diff_id)
        with Lock(self.data_dir, locks.of_digest(locks.LAYER, diff_id)):
            if not is_whole(f"{path}/tar"):
                making.publish(made, path)
        return diff_id, found

    def stage(self, stream: Source, owners: bool, below: View | None) -> None:
        """Read a layer from an archive on its way in, for prepare_roots. `below` as for take_raw."""
        with ExitStack() as stack:
            making = stack.enter_context(Making(self.data_dir))
            with making.staging("stage") as stage:
                contents = layers.StagedContents(stage, owners)
                diff_id, found = self._read_stream(stream, making.directory("layer"), contents, below, ahead=True)
            if diff_id not in self._staged:
                self._staged[diff_id] = StagedLayer(making.path, contents.files.staged, found, stack.pop_all())

    def close(self) -> None:
        """Throw away what was staged and not used."""
        while self._staged:
            self._staged.popitem()[1].making.close()

    def _take_root(self, making: Making, stream: Source, owners: bool) -> str:
        with making.unpacking() as (stage, root):
            books = making.directory("layer")
            with making.staging("stage/0") as contents:
                taker = layers.StagedContents(contents, owners)
                diff_id, found = self._read_stream(stream, books, taker, view.empty(), ahead=False)
            self._keep_books(making, books, diff_id)
            found = found or self.on_top(view.empty(), diff_id, 0, DIRECTORIES)
            _, skipped = directories.build(
                view.empty(), found, stage=stage, staged={0: taker.files.staged}, root=root, lowers=(), owners=owners
            )
            making.note(skipped)
        with Lock(self.data_dir, locks.of_digest(locks.CHAIN, diff_id)):
            if not is_whole(f"{self._chain_path(diff_id)}/root"):
                making.publish(f"{making.path}/chain", self._chain_path(diff_id))
        return diff_id

    # --- a directory for each layer

    def roots(self, diff_ids: Sequence[str]) -> tuple[str, ...]:
        """The directories to mount on each other, the lowest first."""
        if not diff_ids:
            return ()
        ids = chain_ids(diff_ids)
        return tuple([f"{self._group_path(ids, group)}/root" for group in groups(len(diff_ids))])

    def _group_path(self, ids: Sequence[str], group: range) -> str:
        return self._chain_path(ids[group[-1]]) + (".flat" if len(group) > 1 else "")

    def has_roots(self, diff_ids: Sequence[str]) -> bool:
        return all(map(is_whole, self.roots(diff_ids)))

    def prepare_roots(self, blobs: Sequence[LayerBlob], owners: bool, progress: Progress) -> Ready:
        """Raises what read_layer, view.apply and directories.build raise; InvalidInput (digest-mismatch)."""
        diff_ids = [blob.diff_id for blob in blobs]
        ids, roots = chain_ids(diff_ids), self.roots(diff_ids)
        found, notes = view.empty(), layers.Notes()
        for group, root, number in zip(groups(len(blobs)), roots, range(len(roots)), strict=True):
            with Lock(self.data_dir, locks.of_digest(locks.CHAIN, ids[group[-1]])):
                books = [f"{self.layer_path(diff_ids[i])}/changes" for i in group]
                if is_whole(root) and all(map(is_whole, books)):
                    below = found
                    for i in group:
                        found = self.on_top(found, diff_ids[i], i, DIRECTORIES)
                    found, _ = view.copy_up(below, found)
                    notes.add(_noted(os.path.dirname(root)))
                    continue
                with Making(self.data_dir) as making:
                    found, skipped = self._root(making, found, blobs, group, roots[:number], owners, progress)
                    making.publish(f"{making.path}/chain", self._group_path(ids, group))
                notes.add(skipped)

        def read(inode: Inode) -> bytes:
            path = next(path for path, node in found.walk() if node is inode)
            fd = directories.open_layered(roots, path)
            try:
                return os.read(fd, _SMALL_MAX)
            finally:
                os.close(fd)

        return Ready(tuple(map(self.summary, diff_ids)), notes.all(), _small(found, read))

    def _root(
        self, making: Making, below: View, blobs: Sequence[LayerBlob], group: range, lowers: Sequence[str],
        owners: bool, progress: Progress,
    ) -> tuple[View, tuple[Skipped, ...]]:  # fmt: skip
        with making.unpacking() as (stage, root):
            found, contents_of = below, dict[int, layers.Staged]()
            for i in group:
                books, staged = f"{making.path}/layer", self._staged.pop(blobs[i].diff_id, None)
                if staged is not None:
                    os.rename(f"{staged.path}/stage", f"{making.path}/stage/{i}")
                    os.rename(f"{staged.path}/layer", books)
                    staged.making.close()
                    on_top, contents_of[i] = None if i else staged.view, staged.staged
                else:
                    with making.staging(f"stage/{i}") as contents:
                        taker = layers.StagedContents(contents, owners)
                        on_top = self._read(blobs[i], making.directory("layer"), taker, progress, found)
                        contents_of[i] = taker.files.staged
                self._keep_books(making, books, blobs[i].diff_id)
                found = on_top or self.on_top(found, blobs[i].diff_id, i, DIRECTORIES)
            made, skipped = directories.build(
                below, found, stage=stage, staged=contents_of, root=root, lowers=lowers, owners=owners
            )
            making.note(skipped)
            return made, skipped

    def _keep_books(self, making: Making, books: str, diff_id: str) -> None:
        path = self.layer_path(diff_id)
        with Lock(self.data_dir, locks.of_digest(locks.LAYER, diff_id)):
            if is_whole(f"{path}/changes"):
                remove_tree(making.fd, "layer")
            else:
                making.publish(books, path)


def _noted(chain: str) -> tuple[Skipped, ...]:
    try:
        with open(f"{chain}/skipped.json", "rb") as file:
            return decode_text(Noted, file.read(), f"{chain}/skipped.json").skipped
    except FileNotFoundError:
        return ()


def _small(found: View, read: Callable[[Inode], bytes]) -> dict[str, bytes]:
    result = {}
    for name, path in SMALL.items():
        try:
            node = found.find(path)
        except InvalidInput:
            continue  # a loop of symlinks
        if isinstance(node, Inode) and stat.S_ISREG(node.mode) and node.size <= _SMALL_MAX:
            result[name] = read(node)
    return result


def _pread(path: str, offset: int, size: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)
