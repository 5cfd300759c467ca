"""`kist network graph`, from networks and who is in them."""

from xml.etree import ElementTree

from kist.network.database import Holder
from kist.network.graph import graph, svg, text
from kist.network.network import Network, make_subnet
from kist.plan.ports import Port

WEB, DB = b"\x0a\1\0\2", b"\x0a\1\0\3"
RED = Network("red", "1" * 64, "kist-1", (make_subnet("10.1.0.0/24"), make_subnet("fd00:1::/64")))
BACK = Network("back", "2" * 64, "kist-2", (make_subnet("10.2.0.0/24"),), internal=True)
LAN = Network("lan", "3" * 64, "eth0", (make_subnet("192.0.2.0/24"),), driver="macvlan", mode="bridge")
FOUND = [
    (RED, [Holder("w" * 64, "red", "web", WEB, b"\xfd" + bytes(14) + b"\2"), Holder("d" * 64, "red", "", DB)]),
    (BACK, [Holder("d" * 64, "back", "<db>", b"\x0a\2\0\2")]),
    (LAN, []),
]
PORTS = {"w" * 64: [Port("tcp", bytes(4), 8080, WEB, 80), Port("udp", b"\x7f\0\0\1", 53, WEB, 53)]}
DRAWN = """\
host
├─ red  10.1.0.0/24  fd00:1::/64
│  ├─ web  10.1.0.2  fd00::2  :8080 → 80/tcp  127.0.0.1:53 → 53/udp
│  └─ dddddddddddd  10.1.0.3  also in back
├─ back (internal)  10.2.0.0/24
│  └─ <db>  10.2.0.2  also in red
└─ lan (on the wire of eth0)  192.0.2.0/24
"""
BOXES = ("│", "├─", "└─")


def test_text() -> None:
    assert text(graph(FOUND, PORTS), 80) == DRAWN
    narrow = text(graph(FOUND, PORTS), 40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert [w for w in narrow.split() if w not in BOXES] == [w for w in DRAWN.split() if w not in BOXES]
    assert text([], 80) == "host\n"


def test_svg() -> None:
    root = ElementTree.fromstring(svg(graph(FOUND, PORTS)))
    words = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"host", "red", "back", "lan", "web", "<db>", "dddddddddddd"} <= {*words}
    assert "red: 10.1.0.2, fd00::2, :8080 → 80/tcp, 127.0.0.1:53 → 53/udp" in words
    assert len([element for element in root.iter() if element.tag.endswith("path")]) == 3 + 3
