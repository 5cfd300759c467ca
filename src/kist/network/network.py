"""What a network is, and the words for it. Pure."""

from __future__ import annotations

from kist.errors import InvalidInput
from kist.plan.rtnetlink import address_text
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT = "bridge"  # the name of the network that is made on first use, as Docker's
DEFAULT_BRIDGE = "kist0"
MODES = ("none", "host")  # what --network means besides networks
MTU_OPTION = "com.docker.network.driver.mtu"


class Subnet(Value):
    """A range of addresses; `first` to `last` are those that containers get by themselves."""

    base: bytes
    prefix: int
    gateway: bytes
    first: int = 0  # counted from base; 0: the whole subnet
    last: int = 0

    def __str__(self) -> str:
        return f"{address_text(self.base)}/{self.prefix}"

    @property
    def size(self) -> int:
        return 1 << (len(self.base) * 8 - self.prefix)

    @property
    def family(self) -> int:
        return 4 if len(self.base) == 4 else 6

    def address(self, offset: int) -> bytes:
        return (int.from_bytes(self.base) + offset).to_bytes(len(self.base))

    def offset(self, address: bytes) -> int:
        """Negative or at least `size` for an address of elsewhere."""
        return int.from_bytes(address) - int.from_bytes(self.base) if len(address) == len(self.base) else -1

    @property
    def range(self) -> tuple[int, int]:
        """The first and the last offset that are given away, without the network's and the broadcast address."""
        spare = 1 if self.family == 4 and self.prefix < 31 else 0
        return self.first or 1, self.last or min(self.size - 1 - spare, 1 << 32)


class Network(Value):
    """A bridge of the host, its subnets, and what was said about it. Of a macvlan, `bridge` is the interface of the
    host on whose wire it is, and `mode` one of rtnetlink.MACVLAN_MODES."""

    name: str
    id: str
    bridge: str
    subnets: tuple[Subnet, ...]
    driver: str = "bridge"
    internal: bool = False
    mtu: int = 0
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    created: str = ""
    mode: str = ""

    def subnet(self, family: int) -> Subnet | None:
        return next((s for s in self.subnets if s.family == family), None)


def parse_subnet(flag: str, text: str) -> tuple[bytes, int]:
    """`10.1.0.0/16`. Raises InvalidInput, also for one with bits set behind its prefix."""
    from ipaddress import ip_network

    try:
        found = ip_network(text, strict=True)
    except ValueError as e:
        raise InvalidInput(f"{text!r} is no subnet", path=flag, why=str(e), next="10.1.0.0/24") from e
    return found.network_address.packed, found.prefixlen


def parse_address(flag: str, text: str, family: int = 0) -> bytes:
    from ipaddress import ip_address

    try:
        found = ip_address(text)
    except ValueError as e:
        raise InvalidInput(f"{text!r} is no IP address", path=flag) from e
    if family and found.version != family:
        raise InvalidInput(f"{text!r} is no IPv{family} address", path=flag)
    return found.packed


def make_subnet(text: str, *, gateway: str = "", ip_range: str = "") -> Subnet:
    """Without a gateway its first address is it. Raises InvalidInput."""
    base, prefix = parse_subnet("--subnet", text)
    bits = len(base) * 8
    if bits - prefix < 2:
        raise InvalidInput(f"{text} is too small for a gateway and a container", path="--subnet")
    subnet = Subnet(base=base, prefix=prefix, gateway=b"")
    first, last = 0, 0
    if ip_range:
        start, narrow = parse_subnet("--ip-range", ip_range)
        first = subnet.offset(start)
        last = first + (1 << (bits - narrow)) - 1
        if first < 0 or last >= subnet.size or len(start) != len(base):
            raise InvalidInput(f"{ip_range} is not within {text}", path="--ip-range")
        last = min(last, subnet.range[1])
        first = max(first, 1)
    chosen = parse_address("--gateway", gateway, subnet.family) if gateway else subnet.address(first or 1)
    if not 0 < subnet.offset(chosen) <= subnet.range[1]:
        raise InvalidInput(f"{address_text(chosen)} is not within {text}", path="--gateway")
    return Subnet(base=base, prefix=prefix, gateway=chosen, first=first, last=last)


def mac_for(address: bytes) -> bytes:
    """An address has the same MAC each time: neighbours' caches stay right when it is given to another container."""
    return b"\x02\x6b" + address[-4:]
