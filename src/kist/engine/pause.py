"""`kist pause` and `unpause`. Source: cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst, "cgroup.freeze"."""

from __future__ import annotations

from kist.engine.containers import Container, is_frozen
from kist.engine.events import note
from kist.errors import Conflict, KistError, Unsupported

_PATIENCE_S = 5.0


def pause(container: Container) -> None:
    """All its processes stand still when this returns. Raises Conflict, Unsupported."""
    import time

    freezer = _freezer(container)
    if is_frozen(freezer):
        raise Conflict(f"{container.name} is paused already", next=f"kist unpause {container.name}", code="paused")
    _write(container, freezer, frozen=True)
    deadline = time.monotonic() + _PATIENCE_S
    while not _stands_still(freezer):
        if time.monotonic() > deadline:
            _write(container, freezer, frozen=False)
            raise Conflict(f"{container.name} does not stand still", why="a process is in uninterruptible sleep",
                           next="try again", code="busy")  # fmt: skip
        time.sleep(0.001)
    note(container, "pause")


def unpause(container: Container) -> None:
    """Raises Conflict when it is not paused."""
    freezer = _freezer(container)
    if not is_frozen(freezer):
        raise Conflict(f"{container.name} is not paused", code="not-paused")
    _write(container, freezer, frozen=False)
    note(container, "unpause")


def thaw(container: Container) -> None:
    """If it is paused, no more: a signal works only then."""
    record = container.record
    if record and is_frozen(record.freezer):
        _write(container, record.freezer, frozen=False)


def _freezer(container: Container) -> str:
    record = container.record
    if record is None or record.restarting:
        raise Conflict(f"{container.name} does not run", next=f"kist start {container.name}", code="not-running")
    if not record.freezer:
        raise Unsupported(f"{container.name} can't be paused", why="it has no cgroup with a freezer",
                          next="kist doctor says how to get one")  # fmt: skip
    return record.freezer


def _write(container: Container, freezer: str, *, frozen: bool) -> None:
    words = ("THAWED", "FROZEN") if freezer.endswith("/freezer.state") else ("0", "1")
    try:
        with open(freezer, "wb", buffering=0) as file:
            file.write(words[frozen].encode())
    except FileNotFoundError as e:
        raise Conflict(f"{container.name} does not run any more", code="not-running") from e
    except OSError as e:
        raise KistError(f"cannot write {freezer}: {e.strerror}", code="system") from e


def _stands_still(freezer: str) -> bool:
    try:
        if freezer.endswith("/freezer.state"):
            with open(freezer, "rb", buffering=0) as file:
                return file.read().strip() == b"FROZEN"
        with open(f"{freezer.rpartition('/')[0]}/cgroup.events", "rb", buffering=0) as file:
            return b"frozen 1" in file.read()
    except FileNotFoundError:
        return True
