"""Published ports as values."""

from __future__ import annotations

from kist.plan.rtnetlink import address_text
from kist.value import Value

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}


class Port(Value):
    """What arrives at `port` of an address of the host's (0.0.0.0 and ::, any) goes to a container's `target`."""

    protocol: str
    address: bytes
    port: int
    target: bytes
    target_port: int

    @property
    def redirected(self) -> bool:
        """By the firewall's table; else what arrives is of the other family of addresses: see plan.steps.Proxy."""
        return len(self.address) == len(self.target)

    def __str__(self) -> str:
        return f"{endpoint(self.address, self.port)}/{self.protocol}"


def endpoint(address: bytes, port: int) -> str:
    text = address_text(address)
    return f"[{text}]:{port}" if len(address) == 16 else f"{text}:{port}"
