"""The messages of rtnetlink as bytes, and back."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.errors import InvalidInput
from kist.plan import netlink as nl
from kist.plan import rtnetlink as rt


def test_a_message_has_a_header_a_body_and_padded_attributes() -> None:
    made = rt.set_link(7, up=True, name="eth0")
    assert made == pack("<IHHII", 44, 16, 0x5, 0, 0) + pack("<BxHiII", 0, 0, 7, 1, 1) + b"\x09\0\x03\0eth0\0\0\0\0"


def test_a_batch_numbers_its_messages() -> None:
    (first, second) = nl.replies(nl.batch([rt.set_link(1, up=True), rt.set_link(2, up=False)]))
    assert (first.sequence, second.sequence) == (0, 1)
    assert rt.read_link(first).index == 1


def test_the_place_of_the_namespace_is_found_however_deep_it_is() -> None:
    for made in (
        rt.add_veth("a", "eth0", netns_fd=rt.UNKNOWN, peer_mac=bytes(6)),
        rt.set_link(3, name="x", netns_fd=rt.UNKNOWN),
    ):
        at = rt.netns_at(made)
        assert made[at - 4 : at + 4] == pack("<HHI", 8, 28, rt.UNKNOWN)
    with pytest.raises(ValueError):
        rt.netns_at(rt.set_link(3, name="x"))


def test_links_addresses_and_routes_can_be_read_back() -> None:
    (reply,) = nl.replies(rt.set_link(9, up=True, name="br0", mac=b"\x02\0\0\0\0\1", mtu=1400, master=4, alias="kist"))
    link = rt.read_link(reply)
    assert link == rt.Link(9, "br0", True, mtu=1400, mac=b"\x02\0\0\0\0\1", master=4, alias="kist")
    address = rt.Address(bytes([10, 0, 0, 2]), 24, index=5, flags=0x280, broadcast=bytes([10, 0, 0, 255]))
    (reply,) = nl.replies(rt.add_address(address))
    assert rt.read_address(reply) == address
    route = rt.Route(rt.INET6, bytes(15) + b"\1", 128, index=3, table=1000, metric=7)
    (reply,) = nl.replies(rt.add_route(route))
    assert rt.read_route(reply) == route


def test_a_refusal_comes_with_the_kernels_own_words() -> None:
    words = nl.attribute(1, "no such thing")
    original = rt.set_link(1, up=True)[:16]
    capped = pack("<IHHII", 36 + len(words), 2, 0x300, 4, 0) + pack("<i", -19) + original + words
    (reply,) = nl.replies(capped)
    assert nl.acknowledgement(reply) == nl.Acknowledgement(4, 19, "no such thing")
    whole = rt.set_link(1, up=True)  # not capped: all of the request comes back before the words
    answer = pack("<IHHII", 20 + len(whole) + len(words), 2, 0x200, 1, 0) + pack("<i", -22) + whole + words
    (reply,) = nl.replies(answer)
    assert nl.acknowledgement(reply) == nl.Acknowledgement(1, 22, "no such thing")


def test_addresses_are_written_as_people_do() -> None:
    assert rt.address_text(bytes([192, 0, 2, 1])) == "192.0.2.1"
    assert rt.address_text(bytes.fromhex("20010db8" + "0" * 23 + "1")) == "2001:db8::1"
    assert rt.mac_text(b"\x02\xab\0\0\0\1") == "02:ab:00:00:00:01"


@given(st.binary(max_size=200))
def test_nothing_that_arrives_makes_the_decoders_crash(data: bytes) -> None:
    try:
        for reply in nl.replies(data):
            nl.acknowledgement(reply)
            nl.attributes(reply.body)
            nl.listed(reply.body)
    except InvalidInput:
        pass


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=30)), unique_by=lambda pair: pair[0]))
def test_attributes_round_trip(pairs: list[tuple[int, bytes]]) -> None:
    assert nl.attributes(b"".join(nl.attribute(kind, data) for kind, data in pairs)) == dict(pairs)
