"""User-defined networks outlive a reboot: DATA/networks/NAME says how each was made, as JSON.

The default network is made anew on first use; who is in which network is known only while it runs: see database.py.
"""

from __future__ import annotations

import os

from kist.codec import decode_text, dumps
from kist.errors import InvalidInput
from kist.network.network import Network
from kist.store import data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def _directory() -> str:
    return f"{data.default_data_dir(os.environ)}/networks"


def networks() -> Iterator[Network]:
    """Those that were made; one whose file is damaged is left out."""
    try:
        data.check_private(os.path.dirname(_directory()))
        names = sorted(os.listdir(_directory()))
    except FileNotFoundError:
        return
    for name in names:
        try:
            with open(f"{_directory()}/{name}", "rb") as file:
                yield decode_text(Network, file.read(), name)
        except (OSError, InvalidInput):
            continue


def save(network: Network) -> None:
    """Raises KistError."""
    base = os.path.dirname(_directory())
    data.create(base)
    with data.StoreErrors(f"cannot keep the network {network.name}"):
        os.makedirs(_directory(), 0o700, exist_ok=True)
        data.write_whole(base, f"networks/{network.name}", dumps(network).encode())


def forget(network: Network) -> None:
    try:
        os.unlink(f"{_directory()}/{network.name}")
    except FileNotFoundError:
        pass
