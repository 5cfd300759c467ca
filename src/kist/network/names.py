"""Names of containers in their networks, as files that the name server of each container reads (launcher/names.c).

    RUN/.network/names/NETWORK/NAME        a line for each container that has the name: ID ADDRESS4 ADDRESS6
    RUN/.network/names/NETWORK/=ADDRESS    who has the address: ID NAME
    RUN/.network/of/ID                     a line for each network that the container is in

Addresses are hexadecimal digits, or "-". Files are replaced whole, under the database's lock; a line counts as long as
the container has a directory in RUN, so that an end needs nobody.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kist.network.database import Holder
    from kist.plan.compile_cable import Names as Place


def place(run: str, id: str, servers: tuple[str, ...], *, asked: bool = True) -> Place:
    """Where the name server of a container finds them. `asked`: its programs know of it from the start."""
    from kist.plan.compile_cable import Names as Place

    return Place(f"{run}/.network/names", f"{run}/.network/of/{id}", run, servers, asked)


class Names:
    def __init__(self, run: str) -> None:
        self._names, self._of = f"{run}/.network/names", f"{run}/.network/of"

    def write(self, changes: Iterable[tuple[bool, Holder]]) -> None:
        """Containers that came (True) into a network, or left it; with the database locked."""
        for came, holder in changes:
            if holder.network == "bridge":
                continue
            directory = f"{self._names}/{holder.network}"
            if came:
                for path in (self._names, directory, self._of):
                    _make(path)
            for name, line in _lines(holder):
                _change(f"{directory}/{name}", holder.container, line if came else "")
            _change(f"{self._of}/{holder.container}", holder.network, holder.network if came else "")


def _lines(h: Holder) -> list[tuple[str, str]]:
    four, six = h.address4.hex() or "-", h.address6.hex() or "-"
    names = dict.fromkeys(name.lower() for name in (h.name, h.container[:12], *h.aliases) if name)
    found = [(name, f"{h.container} {four} {six}") for name in names]
    own = h.name or h.container[:12]
    return [*found, *((f"={address.hex()}", f"{h.container} {own}") for address in (h.address4, h.address6) if address)]


def _change(path: str, first: str, line: str) -> None:
    """Put `line` in place of the one that begins with the word `first`."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [other for other in file.read().splitlines() if other.split(" ")[0] != first]
    except FileNotFoundError:
        lines = []
    lines += [line] if line else []
    if not lines:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        return
    making = f"{os.path.dirname(path)}/.new"
    with open(making, "w", encoding="utf-8") as file:
        file.write("".join([f"{text}\n" for text in lines]))
    os.rename(making, path)


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
