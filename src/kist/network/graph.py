"""Who is connected to whom, as a picture: text for a terminal, or SVG. Pure.

host ── red            10.1.0.0/24
        ├── web        10.1.0.2  :8080 → 80/tcp
        └── db         10.1.0.3  also in blue
"""

from __future__ import annotations

from kist.plan.rtnetlink import address_text
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kist.network.database import Holder
    from kist.network.network import Network
    from kist.plan.ports import Port


class Node(Value):
    """A container in a network: its addresses there, what of the host leads to it, and what other networks it is in."""

    name: str
    addresses: tuple[str, ...]
    ports: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class Branch(Value):
    """A network. `way`: how the host is in it."""

    name: str
    way: str
    subnets: tuple[str, ...]
    nodes: tuple[Node, ...]


def graph(found: Iterable[tuple[Network, Sequence[Holder]]], ports: Mapping[str, Sequence[Port]]) -> list[Branch]:
    """`ports`: by container; they lead to its address in one of its networks."""
    pairs = list(found)
    homes: dict[str, list[str]] = {}
    for network, holders in pairs:
        for holder in holders:
            homes.setdefault(holder.container, []).append(network.name)
    branches = []
    for network, holders in pairs:
        nodes = []
        for h in holders:
            own = [a for a in (h.address4, h.address6) if a]
            led = tuple(
                [f"{_where(p)} → {p.target_port}/{p.protocol}" for p in ports.get(h.container, ()) if p.target in own]
            )
            others = tuple([name for name in homes[h.container] if name != network.name])
            nodes.append(Node(h.name or h.container[:12], tuple([address_text(a) for a in own]), led, others))
        way = f"on the wire of {network.bridge}" if network.mode else "internal" if network.internal else ""
        branches.append(Branch(network.name, way, tuple([str(subnet) for subnet in network.subnets]), tuple(nodes)))
    return branches


def _where(port: Port) -> str:
    text = address_text(port.address) if any(port.address) else ""
    return f"{f'[{text}]' if ':' in text else text}:{port.port}"


def words(node: Node) -> list[str]:
    return [*node.addresses, *node.ports, *(f"also in {name}" for name in node.others)]


def text(branches: Sequence[Branch], width: int) -> str:
    """Lines of at most `width` columns: what does not fit goes on below."""
    lines = ["host"]
    for i, branch in enumerate(branches):
        last = i == len(branches) - 1
        head = " ".join(filter(None, (branch.name, branch.way and f"({branch.way})")))
        lines += _fold("└─ " if last else "├─ ", "   " if last else "│  ", head, branch.subnets, width)
        for j, node in enumerate(branch.nodes):
            end = j == len(branch.nodes) - 1
            stem = "   " if last else "│  "
            lines += _fold(
                stem + ("└─ " if end else "├─ "), stem + ("   " if end else "│  "), node.name, words(node), width
            )
    return "".join([f"{line[:width]}\n" for line in lines])


def _fold(first: str, rest: str, name: str, said: Sequence[str], width: int) -> list[str]:
    lines, line = [], first + name
    for word in said:
        if len(line) + 2 + len(word) > width:
            lines.append(line)
            line = f"{rest}  {word}"
        else:
            line += f"  {word}"
    return [*lines, line]


# --- SVG: the host at the left, networks in the middle, containers at the right, each once

_LINE, _BOX, _COLUMNS = 18, 26, (20, 150, 470)
_COLOURS = ("#0b6e4f", "#b5179e", "#d97706", "#2563eb", "#7c3aed", "#be123c", "#0e7490", "#4d7c0f")


def svg(branches: Sequence[Branch]) -> str:
    containers: dict[str, list[tuple[int, Node]]] = {}
    for i, branch in enumerate(branches):
        for node in branch.nodes:
            containers.setdefault(node.name, []).append((i, node))
    drawn, y, middles = list[str](), 20, dict[str, int]()
    for name, places in containers.items():
        said = [f"{branches[i].name}: {', '.join([*node.addresses, *node.ports])}" for i, node in places]
        height = _BOX + _LINE * len(said)
        drawn += _box(_COLUMNS[2], y, 330, height, name, said, "#334155")
        middles[name] = y + height // 2
        y += height + 14
    high = max(y, 20 + 74 * len(branches), 80)
    step = high // max(len(branches), 1)
    lines = []
    for i, branch in enumerate(branches):
        top, colour = i * step + max((step - 60) // 2, 4), _COLOURS[i % len(_COLOURS)]
        drawn += _box(_COLUMNS[1], top, 220, 60, branch.name, [", ".join(branch.subnets), branch.way], colour)
        lines.append(_wire(_COLUMNS[0] + 80, high // 2, _COLUMNS[1], top + 30, colour, dashed=bool(branch.way)))
        lines += [_wire(_COLUMNS[1] + 220, top + 30, _COLUMNS[2], middles[n.name], colour) for n in branch.nodes]
    drawn += _box(_COLUMNS[0], high // 2 - 20, 80, 40, "host", [], "#111827")
    size = f'width="{_COLUMNS[2] + 350}" height="{high + 10}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *lines, *drawn, "</svg>", ""])


def _box(x: int, y: int, wide: int, high: int, name: str, said: Sequence[str], colour: str) -> list[str]:
    at = f'x="{x}" y="{y}" width="{wide}" height="{high}"'
    found = [f'<rect {at} rx="6" fill="white" stroke="{colour}" stroke-width="1.5"/>']
    found.append(f'<text x="{x + 10}" y="{y + 18}" font-weight="bold" fill="{colour}">{_safe(name)}</text>')
    for i, words in enumerate(said):
        found.append(f'<text x="{x + 10}" y="{y + 18 + _LINE * (i + 1)}" fill="#334155">{_safe(words)}</text>')
    return found


def _wire(x: int, y: int, to_x: int, to_y: int, colour: str, *, dashed: bool = False) -> str:
    middle = (x + to_x) // 2
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    path = f"M{x} {y} C{middle} {y} {middle} {to_y} {to_x} {to_y}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'


def _safe(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;")
