"""Verbs that do one thing to each of several containers: what is printed, and what is said of those that failed."""

from __future__ import annotations

import sys

from kist.engine.containers import Container, Containers
from kist.errors import KistError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_AT_ONCE = 16


def each(
    names: Sequence[str], act: Callable[[Containers, Container], object], *, waits: bool = False
) -> int:  # fmt: skip
    """Print each name as it was typed when `act` has succeeded; the exit status is 1 when one has not.

    `waits`: `act` waits more than it does, and is safe from several threads: it is done to many at once.
    """
    containers, status = Containers(), 0

    def try_(name: str) -> KistError | None:
        try:
            act(containers, containers.find(name))
        except KistError as e:
            return e
        return None

    for name, error in zip(names, _at_once(try_, names) if waits and len(names) > 1 else map(try_, names), strict=True):
        if error:
            print(f"kist: {error}", file=sys.stderr)
            status = 1
        else:
            print(name, flush=True)
    return status


def _at_once(try_: Callable[[str], KistError | None], names: Sequence[str]) -> Iterator[KistError | None]:
    """In threads that Ctrl-C does not wait for."""
    import threading

    room, errors = threading.Semaphore(_AT_ONCE), dict[int, BaseException | None]()

    def run(number: int) -> None:
        with room:
            try:
                errors[number] = try_(names[number])
            except BaseException as e:  # raised again where it is waited for
                errors[number] = e

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(names))]
    for thread in threads:
        thread.start()
    for number, thread in enumerate(threads):
        thread.join()
        error = errors[number]
        if error is not None and not isinstance(error, KistError):
            raise error
        yield error
