"""What a container with --allow-net was denied, as its relay writes it down: one line each (launcher/relay.c).

2026-11-26T11:37:29.123456789Z tcp 203.0.113.9 443 - the address is not on the list
"""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container

FILE = "net"


class Denial(Value):
    """`address` and `name` are "" where there is none; `port` is 0 for a question of names, or no protocol's."""

    time: str  # RFC 3339, UTC
    protocol: str  # "dns", "tcp", "udp", "icmp", ..., or "more": only counted, for there were too many
    address: str
    port: int
    name: str
    reason: str


def parse(text: bytes) -> tuple[Denial, ...]:
    """Whole lines only: the last may be under way."""
    found = []
    for line in text.decode("ascii", "replace").split("\n")[:-1]:
        words = line.split(" ", 5)
        if len(words) == 6 and words[3].isdecimal():
            address, name = ("" if word == "-" else word for word in (words[2], words[4]))
            if ":" in address:
                from ipaddress import ip_address

                address = str(ip_address(address))
            found.append(Denial(words[0], words[1], address, int(words[3]), name, words[5]))
    return tuple(found)


def read(fd: int) -> tuple[Denial, ...]:
    import os

    return parse(os.pread(fd, 1 << 21, 0))


def log_of(container: Container) -> str:
    """The file's path. Raises InvalidInput for a container without --allow-net."""
    if not container.config.request.allow_net:
        raise InvalidInput(f"{container.name} was made without --allow-net: nothing is denied to it", path="--net")
    directory = container.path if container.kept else f"{container.states.base}/{container.id}"
    return f"{directory}/{FILE}"


def text(denial: Denial) -> str:
    """For a person."""
    address = f"[{denial.address}]" if ":" in denial.address else denial.address
    where = denial.name or address
    port = f":{denial.port}" if denial.port else ""
    also = f" ({address})" if denial.name and denial.address else ""
    return f"{denial.time} {denial.protocol} {where}{port}{also}: {denial.reason}"
