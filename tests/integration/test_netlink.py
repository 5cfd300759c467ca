"""Our netlink messages on the real kernel, with ip(8) as the oracle."""

import shutil
from collections.abc import Iterator

import pytest

from containers import needs_root
from kist.errors import NetlinkFailed
from kist.kernel import netlink
from kist.plan import rtnetlink as rt
from netns import Namespace

pytestmark = [needs_root, pytest.mark.skipif(not shutil.which("ip"), reason="needs ip: apt-get install iproute2")]


@pytest.fixture
def here() -> Iterator[Namespace]:
    namespace = Namespace()
    yield namespace
    namespace.close()


@pytest.fixture
def there() -> Iterator[Namespace]:
    namespace = Namespace()
    yield namespace
    namespace.close()


def ask(namespace: Namespace, *messages: bytes) -> None:
    with namespace.netlink() as connection:
        for message in messages:
            connection.request("cannot do it", message)


def index(namespace: Namespace, name: str) -> int:
    with namespace.netlink() as connection:
        return next(link.index for link in netlink.links(connection) if link.name == name)


def test_a_bridge_and_a_cable_into_another_namespace(here: Namespace, there: Namespace) -> None:
    ask(here, rt.add_bridge("br0", mac=b"\x02\0\0\0\0\1", mtu=1400))
    bridge = index(here, "br0")
    ask(here, rt.add_veth("v0", "eth0", netns_fd=there.fd, master=bridge, mtu=1400, peer_mac=b"\x02\0\0\0\0\2"))
    link = here.link("br0")
    assert (link["address"], link["mtu"], link["linkinfo"]["info_kind"]) == ("02:00:00:00:00:01", 1400, "bridge")
    assert "UP" in link["flags"]
    data = link["linkinfo"]["info_data"]
    assert (data["forward_delay"], data["stp_state"], data["mcast_snooping"]) == (0, 0, 0)
    assert here.link("v0")["master"] == "br0"
    assert there.link("eth0")["address"] == "02:00:00:00:00:02"
    ask(here, rt.set_port(index(here, "v0"), hairpin=True, isolated=True))
    port = here.link("v0")["linkinfo"]["info_slave_data"]
    assert (port["hairpin"], port["isolated"]) == (True, True)
    ask(here, rt.delete_link(name="v0"))
    assert [link["ifname"] for link in there.ip("link", "show")] == ["lo"]


def test_addresses_routes_neighbours_and_rules(here: Namespace, there: Namespace) -> None:
    ask(here, rt.add_veth("v0", "v1", netns_fd=there.fd))
    ask(there, rt.set_link(index(there, "v1"), up=True))
    v0 = index(here, "v0")
    v4, v6 = bytes([10, 1, 0, 1]), bytes.fromhex("fd00" + "0" * 27 + "1")
    ask(
        here,
        rt.add_address(rt.Address(v4, 24, index=v0, broadcast=bytes([10, 1, 0, 255]))),
        rt.add_address(rt.Address(v6, 64, index=v0, flags=rt.NO_DAD)),
        rt.add_route(rt.Route(rt.INET, gateway=bytes([10, 1, 0, 9]))),
        rt.add_route(rt.Route(rt.INET6, bytes.fromhex("fd01") + bytes(14), 32, gateway=v6[:15] + b"\2", table=777)),
        rt.add_route(rt.Route(rt.INET, bytes(4), 0, index=1, table=100, scope=rt.SCOPE_HOST, kind=2)),
        rt.add_neighbour(v0, bytes([10, 1, 0, 9]), b"\x02\0\0\0\0\x09"),
        rt.add_rule(rt.INET, 100, priority=50, mark=0x17),
    )
    found = {a["local"]: a for a in here.link("v0")["addr_info"]}
    assert (found["10.1.0.1"]["prefixlen"], found["10.1.0.1"]["broadcast"]) == (24, "10.1.0.255")
    assert found["fd00::1"]["scope"] == "global"
    default = here.ip("route", "show", "default")[0]
    assert (default["gateway"], default["dev"]) == ("10.1.0.9", "v0")
    assert here.ip("-6", "route", "show", "table", "777")[0]["dst"] == "fd01::/32"
    assert here.ip("route", "show", "table", "100")[0]["type"] == "local"
    assert "lladdr 02:00:00:00:00:09" in here.command("ip", "neigh", "show", "nud", "permanent")
    assert any(r["priority"] == 50 and r["table"] == "100" for r in here.ip("rule", "show"))
    with here.netlink() as connection:
        assert {a.local for a in netlink.addresses(connection, v0) if a.scope == 0} == {v4, v6}
        assert any(r.gateway == bytes([10, 1, 0, 9]) and r.index == v0 for r in netlink.routes(connection))
    ask(here, rt.delete_address(rt.Address(v4, 24, index=v0)))
    assert "10.1.0.1" not in here.command("ip", "address")


def test_macvlan_and_plain_links(here: Namespace, there: Namespace) -> None:
    ask(here, rt.add_veth("v0", "v1"))
    ask(here, rt.add_macvlan("m0", index(here, "v0"), netns_fd=there.fd, mac=b"\x02\0\0\0\0\7"))
    link = there.link("m0")
    assert (link["linkinfo"]["info_data"]["mode"], link["address"]) == ("bridge", "02:00:00:00:00:07")
    ask(here, rt.set_link(index(here, "v1"), name="renamed", mtu=1300, alias="about it"))
    assert (here.link("renamed")["mtu"], here.link("renamed")["ifalias"]) == (1300, "about it")


def test_a_refusal_says_which_errno_and_what_the_kernel_says(here: Namespace, there: Namespace) -> None:
    with here.netlink() as connection:
        with pytest.raises(NetlinkFailed) as caught:
            connection.request("cannot move lo", rt.set_link(1, netns_fd=there.fd, name="x"))
        assert (caught.value.errno, bool(caught.value.why)) in ((22, True), (22, False))
        with pytest.raises(NetlinkFailed) as caught:
            connection.request("cannot add", rt.add_macvlan("m0", 99))
        assert caught.value.errno == 19
        with pytest.raises(NetlinkFailed) as caught:
            connection.request("cannot add", rt.add_address(rt.Address(bytes([10, 0, 0, 1]), 33, index=1)))
        assert "prefix" in caught.value.why
        assert "cannot add: Invalid argument" in str(caught.value)
        connection.request("still works", rt.set_link(1, up=True))


def test_a_dump_of_many_links_is_complete(here: Namespace) -> None:
    with here.netlink() as connection:
        connection.request("cables", *[rt.add_veth(f"a{i}", f"b{i}") for i in range(100)])
        names = {link.name for link in netlink.links(connection)}
    assert {f"{end}{i}" for end in "ab" for i in range(100)} <= names
    assert names == {link["ifname"] for link in here.ip("link", "show")}
