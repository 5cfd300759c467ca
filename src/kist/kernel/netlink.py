"""A netlink socket: requests out, the kernel's answers back. The messages are plan.netlink's and plan.rtnetlink's.

`_socket` is what the module socket wraps, without its 4 ms of import: this is on the way of `kist run --network`.
"""

from __future__ import annotations

import os

from kist.errors import NetlinkFailed
from kist.plan.netlink import ACK, DUMP_INTERRUPTED, NETFILTER, ROUTE, Reply, acknowledgement, batch, replies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.plan.rtnetlink import Address, Link, Route

_AF_NETLINK, _SOL_NETLINK = 16, 270
_RAW_CLOEXEC = 3 | 0o2000000
_CAP_ACK, _EXT_ACK, _STRICT = 10, 11, 12  # socket options: NETLINK_*
_RCVBUF_BYTES = 1 << 20
_MOST_BYTES = 1 << 16  # a message from the kernel has 32 KiB at most
_AGREED, _NO_ERROR = b"\2\0", bytes(4)
_ATTEMPTS = 20


class Netlink:
    """A connection to one of the kernel's netlink families, in the network namespace where it was made: here, or by
    somebody who lent the fd `made`."""

    def __init__(self, protocol: int = ROUTE, *, made: int | None = None) -> None:
        from _socket import SO_RCVBUF, SOL_SOCKET, socket

        self.protocol = protocol
        self._socket = socket(_AF_NETLINK, _RAW_CLOEXEC, protocol, made)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        if protocol == NETFILTER:  # an answer for each message of a batch arrives before the first is read
            self._socket.setsockopt(SOL_SOCKET, SO_RCVBUF, _RCVBUF_BYTES)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Of nf_tables without waiting for its end: see launcher/network.c, let_go."""
        try:
            if self.protocol == NETFILTER:
                self._let_go()
        finally:
            self._socket.close()

    def _let_go(self) -> None:
        from _socket import AF_UNIX, SCM_RIGHTS, SOCK_DGRAM, SOL_SOCKET, socketpair
        from struct import pack

        here, there = socketpair(AF_UNIX, SOCK_DGRAM)
        here.sendmsg([b"\0"], [(SOL_SOCKET, SCM_RIGHTS, pack("<ii", self._socket.fileno(), there.fileno()))])
        here.close()
        there.close()

    def request(self, what: str, *messages: bytes) -> list[Reply]:
        """Send messages in one call and return what came besides acknowledgements.

        Raises NetlinkFailed for the first that failed; of rtnetlink, the kernel takes those after it all the same.
        """
        self._socket.send(batch(messages))
        found: list[Reply] = []
        failed = None
        asked = [bool(message[6] & ACK) for message in messages]
        acknowledged = 0
        expected = sum(asked)
        while acknowledged < expected:
            data = self._socket.recv(_MOST_BYTES)
            if len(data) == 36 and data.startswith(_AGREED, 4) and data.startswith(_NO_ERROR, 16):
                acknowledged += 1  # as almost all do
                continue
            for reply in replies(data):
                answer = acknowledgement(reply)
                if answer is None:
                    found.append(reply)
                    continue
                acknowledged += 1
                if answer.error and not asked[answer.sequence]:  # of a whole transaction
                    raise refused(what, answer.error, answer.words)
                if answer.error and failed is None:
                    failed = answer
        if failed:
            raise refused(what, failed.error, failed.words)
        return found

    def dump(self, what: str, message: bytes) -> list[Reply]:
        """All of a kind. What changes meanwhile makes the kernel say so: then it is asked again."""
        for _ in range(_ATTEMPTS):
            found = self._dump(what, message)
            if not any(reply.flags & DUMP_INTERRUPTED for reply in found):
                return found
        raise NetlinkFailed(f"{what}: it changes all the time", errno=4)

    def _dump(self, what: str, message: bytes) -> list[Reply]:
        self._socket.send(message)
        found: list[Reply] = []
        while True:
            for reply in replies(self._socket.recv(_MOST_BYTES)):
                answer = acknowledgement(reply)
                if answer is None:
                    found.append(reply)
                elif answer.error:
                    raise refused(what, answer.error, answer.words)
                else:
                    return found


def refused(what: str, error: int, words: str) -> NetlinkFailed:
    """The error for an errno, with the kernel's own words as its reason."""
    return NetlinkFailed(f"{what}: {os.strerror(error)}", errno=error, why=words)


def links(connection: Netlink) -> list[Link]:
    from kist.plan.rtnetlink import get_links, read_link

    return [read_link(reply) for reply in connection.dump("cannot list interfaces", get_links())]


def addresses(connection: Netlink, index: int = 0) -> list[Address]:
    from kist.plan.rtnetlink import get_addresses, read_address

    found = [read_address(r) for r in connection.dump("cannot list addresses", get_addresses(index))]
    return [address for address in found if not index or address.index == index]


def routes(connection: Netlink) -> list[Route]:
    from kist.plan.rtnetlink import get_routes, read_route

    return [read_route(reply) for reply in connection.dump("cannot list routes", get_routes())]
