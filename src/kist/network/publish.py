"""Ports of the host for a container: found free, and kept from others by a socket that lives as the container does.

What arrives never sees that socket: the firewall's table redirects it before.
"""

from __future__ import annotations

import errno

from kist.errors import Conflict, InvalidInput, NotFound, Refused
from kist.network.network import DEFAULT
from kist.plan.ports import Port, endpoint
from kist.plan.rtnetlink import address_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.network.attach import Attachment
    from kist.network.database import Database
    from kist.network.network import Network
    from kist.plan.request import Publish, RunRequest

_AF_INET, _AF_INET6, _STREAM, _DATAGRAM, _CLOEXEC = 2, 10, 1, 2, 0o2000000


def publish_ports(
    db: Database, network: Network, request: RunRequest, id: str, targets: tuple[bytes, ...], *, ipv6: bool,
    pretend: bool,
) -> tuple[tuple[Port, ...], tuple[int, ...], tuple[str, ...]]:  # fmt: skip
    """The ports, the sockets that keep them, and which of these a proxy serves: what comes by the family of addresses
    that the container does not have. Raises Conflict, InvalidInput, NotFound, Refused."""
    ports: list[Port] = []
    fds: list[int] = []
    proxied: list[str] = []
    _check_reached(network, request)
    there = [target for target in targets if target]
    try:
        for one in _asked(request):
            same = [target for target in there if len(one.address or target) == len(target)]
            other = ipv6 and len(there) == 1 and len(there[0]) == 4
            for target in same or there[:1]:
                for port, fd, serves in _publish(db, one, target, id, pretend, other=other and not one.address):
                    ports.append(port)
                    fds.append(fd)
                    if serves:
                        proxied.append(f"{fd} {port.target_port} {' '.join(map(str, target))}")
    except BaseException:
        close(fds)
        raise
    return tuple(ports), tuple(fd for fd in fds if fd >= 0), tuple(proxied)


def relay_ports(
    request: RunRequest, *, ipv6: bool, network: Network | None = None, pretend: bool = False
) -> Attachment:
    """For a relay: listeners of the host's, from which a relay leads into the container. Raises Conflict, Refused,
    InvalidInput for what only a cable has, and, with a `network`, only one of root's."""
    from kist.network.attach import Attachment

    if request.net_rate.into or request.net_rate.out:
        raise InvalidInput("a relay has no limit", path="--net-rate", next="run as root")
    for flag, value in (("ip", request.ip), ("ip6", request.ip6), ("mac-address", request.mac_address),
                        ("network-alias", request.network_alias)):  # fmt: skip
        if value and not network:
            raise InvalidInput("a relay is no network with addresses", path=f"--{flag}",
                               next="kist network create web, and --network web")  # fmt: skip
    if network:
        _check_reached(network, request)
    ports: list[Port] = []
    fds: list[int] = []
    try:
        for one in () if pretend else _asked(request):
            if one.protocol == "sctp":
                raise Refused("--publish: a relay takes tcp and udp, not sctp", next="--network bridge as root",
                              code="relay-protocol")  # fmt: skip
            six = ipv6 and one.host_first and one.host_first == one.host_last  # else it would be another port
            for target in (bytes(len(one.address or bytes(4))), *((bytes(16),) if six and not one.address else ())):
                for port, fd, _ in _publish(None, one, target, "", False):
                    ports.append(port)
                    fds.append(fd)
    except BaseException:
        close(fds)
        raise
    pairs = tuple([(fd, port.target_port) for fd, port in zip(fds, ports, strict=True)])
    words = tuple([f"{p.protocol} {p.address.hex()} {p.port} {p.target_port}" for p in ports])
    return Attachment(fds=tuple(fds), ports=words, relayed=pairs)


def _check_reached(network: Network, request: RunRequest) -> None:
    if network.mode and _asked(request):
        raise InvalidInput(f"the network {network.name} is a wire: its containers are reached by their own addresses",
                           path="-p")  # fmt: skip
    if network.internal and _asked(request):
        raise InvalidInput(f"the network {network.name} is internal: nothing of the host's leads there", path="-p")


def close(fds: list[int]) -> None:
    import os

    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _asked(request: RunRequest) -> list[Publish]:
    return [*request.publish, *(request.expose if request.publish_all else ())]


def check_published(request: RunRequest) -> None:
    """Raises InvalidInput when nothing can be published in the network that was asked for, or slowed."""
    if request.net_rate.into or request.net_rate.out:
        raise InvalidInput(f"--network {request.network} has no cable that could be slow", path="--net-rate",
                           next=f"--network {DEFAULT}")  # fmt: skip
    if _asked(request):
        raise InvalidInput(
            f"--network {request.network} has no ports to publish", path="--publish",
            why="the host's own network" if request.network == "host" else "the container has no network",
            next=f"--network {DEFAULT}",
        )  # fmt: skip


def _publish(
    db: Database | None, one: Publish, target: bytes, id: str, pretend: bool, *, other: bool = False
) -> Iterator[tuple[Port, int, bool]]:  # fmt: skip
    """A port, its socket, and whether something will come to that. `other`: to those of IPv6 addresses, too."""
    address = one.address or bytes(len(target))
    crossing = len(address) != len(target)
    if crossing and one.protocol != "tcp":
        raise InvalidInput(f"{address_text(address)} leads to no {one.protocol} port of a container without IPv"
                           f"{4 if len(address) == 4 else 6}", path="-p", next="a network with --ipv6")  # fmt: skip
    other = other and one.protocol == "tcp"
    serves = db is None or crossing or other
    for offset in range(one.last - one.first + 1):
        several = one.last > one.first
        candidates = (
            [one.host_first + offset] if several and one.host_first else range(one.host_first, one.host_last + 1)
        )
        failed: Conflict | None = None
        for number in candidates:
            try:
                fd, found = -1, number or 49152
                if not pretend:
                    fd, found = _reserve(one.protocol, address, number, serves=serves, other=other)
                port = Port(one.protocol, address, found, target, one.first + offset)
                try:
                    if db and (number or not pretend):
                        db.hold_port(id, port)
                except BaseException:
                    close([fd])
                    raise
                yield port, fd, serves
                break
            except Conflict as e:
                failed = e
        else:
            assert failed
            raise failed


def _reserve(protocol: str, address: bytes, number: int, *, serves: bool, other: bool) -> tuple[int, int]:
    """`serves`: somebody may come there. `other`: that of :: besides 0.0.0.0."""
    from _socket import IPPROTO_IPV6, IPV6_V6ONLY, SO_REUSEADDR, SOL_SOCKET, socket

    if protocol == "sctp":
        if not number:
            raise InvalidInput("a port of sctp is not found by itself", path="--publish", next="-p 9000:9000/sctp")
        return -1, number
    address = bytes(16) if other else address
    made = socket(
        _AF_INET if len(address) == 4 else _AF_INET6, (_STREAM if protocol == "tcp" else _DATAGRAM) | _CLOEXEC
    )
    try:
        if len(address) == 16:
            made.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0 if other else 1)
        if protocol == "tcp":
            made.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        made.bind((address_text(address), number))
        if protocol == "tcp":
            made.listen(128 if serves else 0)
        return _keep(made.fileno()), made.getsockname()[1]
    except OSError as e:
        where = f"{endpoint(address, number)}/{protocol}"
        if e.errno == errno.EADDRINUSE:
            raise Conflict(f"the port {where} is taken", why="a program of this host has it",
                           next="another port, or none: -p 80", code="port-taken") from e  # fmt: skip
        if e.errno == errno.EADDRNOTAVAIL:
            raise NotFound(f"{address_text(address)} is no address of this host", next="ip address shows them") from e
        raise Refused(f"cannot publish {where}: {e.strerror}") from e
    finally:
        made.close()


def _keep(fd: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
