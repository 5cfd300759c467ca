"""Which images here have to do with some words, or hold a file: `kist search-local`."""

from __future__ import annotations

import fnmatch

from kist.store.data import StoreErrors
from kist.store.prepared import Prepared
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kist.store.images import Image, ImageLease, ImageStore


class Found(Value):
    """`where` says what fits, one text each: a name, KEY=VALUE of a label, a command, the path of a file."""

    image: Image
    where: tuple[str, ...]


def search(store: ImageStore, words: Sequence[str], file: str = "") -> Iterator[Found]:
    """Images in which each word occurs, in whatever case, in a name, a label, the command, the author or the steps that
    made it; and, with `file`, which hold a path that fits this pattern of fnmatch(3): `*/python3*`."""
    wanted = [word.lower() for word in words]
    for image in store.list():
        with StoreErrors("cannot search the images"), store.lease(image.manifest) as lease:
            texts = list(dict.fromkeys(_texts(image, lease)))
            if not all(any(word in text.lower() for text in texts) for word in wanted):
                continue
            where = [text for text in texts if any(word in text.lower() for word in wanted)]
            if file:
                paths = list(_paths(store, lease, file))
                if not paths:
                    continue
                where += paths
            yield Found(image, tuple(where))


def _texts(image: Image, lease: ImageLease) -> Iterable[str]:
    config = image.config
    yield from image.names
    yield from (f"{key}={value}" for key, value in config.labels.items())
    yield " ".join((*(config.entrypoint or ()), *(config.cmd or ())))
    yield lease.config.author
    yield from (entry.created_by for entry in lease.config.history)


def _paths(store: ImageStore, lease: ImageLease, pattern: str) -> Iterator[str]:
    pattern = pattern if pattern.startswith(("/", "*")) else f"*/{pattern}"
    for path, _ in Prepared(store.data_dir).view(lease.diff_ids, lease.form).walk():
        text = "/" + path.decode(errors="backslashreplace")
        if fnmatch.fnmatchcase(text, pattern):
            yield text
