"""`kist ps`."""

from __future__ import annotations

from kist.errors import printable
from kist.faces.cli.columns import ago, print_rows, size_words
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from kist.engine.containers import Container
    from kist.network.places import Place
    from kist.plan.ports import Port

HEADS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "RunningFor": "CREATED", "CreatedAt": "CREATED AT",
    "Status": "STATUS", "State": "STATE", "Ports": "PORTS", "Names": "NAMES", "Size": "SIZE", "Labels": "LABELS",
    "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS",
}  # fmt: skip
_ON = ("all", "latest", "no-trunc", "quiet", "size")

COMMAND = Command(
    name="ps",
    usage=("[FLAG...]",),
    summary="List the containers that run, or all",
    groups=(
        (
            "Flags",
            (
                Flag("all", "bool", "", "Also those that do not run", words.boolean, "a"),
                Flag("filter", "many", "KEY=VALUE", "Only those: name, id, label, status, exited, ancestor, ...",
                     words.plain, "f"),
                Flag("format", "one", "FORMAT", "table, json, or a Go template: '{{.ID}} {{.Status}}'", words.plain),
                Flag("last", "one", "NUMBER", "The last ones that were made, running or not",
                     words.number(0, 1 << 31, unlimited=True), "n"),
                Flag("latest", "bool", "", "The last one", words.boolean, "l"),
                Flag("no-trunc", "bool", "", "Whole ids and commands", words.boolean),
                Flag("quiet", "bool", "", "Only the ids", words.boolean, "q"),
                Flag("size", "bool", "", "What each wrote over its image", words.boolean, "s"),
            ),
        ),
    ),
    examples=(
        ("kist ps -aq --filter status=exited", "the ids of those that have ended"),
        ("kist ps --format '{{.Names}}: {{.Ports}}'", "in your own words"),
    ),
)  # fmt: skip


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    on = {name: words.boolean(f"--{name}", parsed.last(name, "false")) for name in _ON}
    from kist.engine.containers import Containers, Still
    from kist.engine.select import FILTERS, OF_ALL, selected
    from kist.faces.cli.images import filters
    from kist.network.places import places

    format, asked = parsed.last("format"), filters(parsed.given.get("filter", ()), FILTERS)
    last = int(str(words.number(0, 1 << 31, unlimited=True)("--last", parsed.last("last", "-1"))))
    last = 1 if on["latest"] else last
    every = on["all"] or last >= 0 or any(key in asked for key in OF_ALL)
    containers = Containers()
    everyone = sorted(map(Still, containers.all()), key=lambda c: -c.config.created_ns)
    where = places(containers.states, [record for c in everyone if (record := c.record)])
    found = selected([c for c in everyone if every or c.status in _UP], asked, containers, where)
    found = found[:last] if last >= 0 else found
    if on["quiet"] and not format:
        print("".join([f"{c.id if on['no-trunc'] else c.id[:12]}\n" for c in found]), end="")
        return 0
    sizes = on["size"] or ".Size" in format
    rows = [row(c, where.get(c.id), whole=on["no-trunc"], size=sizes) for c in found]
    columns = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
    print_rows(rows, HEADS, (*columns, *(("Size",) if on["size"] else ())), format)
    return 0


_UP = ("running", "paused", "restarting")


def row(container: Container, place: Place | None, *, whole: bool, size: bool = False) -> dict[str, object]:
    """What `ps` shows of one."""
    import time

    from kist.engine.inspect import mounts_of, size_of

    config, request = container.config, container.config.request
    labels, mounts = request.labels, mounts_of(request)
    created = config.created_ns / 1e9
    networks = [network.name for _, network in place.holders] if place else [request.network]
    return {
        "ID": config.id if whole else config.id[:12],
        "Image": request.image or request.rootfs,
        "Command": _command((*(request.entrypoint or ()), *request.command), whole),
        "RunningFor": ago(created),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(created)),
        "State": container.status,
        "Status": status_words(container),
        "Ports": ports_words(container, place),
        "Names": config.name,
        "Size": size_words(size_of(container)) if size else "0B",
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": lambda key: labels.get(key, ""),
        "Mounts": ",".join(m.source or m.target for m in mounts if m.kind != "tmpfs"),
        "LocalVolumes": str(sum(m.kind == "volume" for m in mounts)),
        "Networks": ",".join(networks),
    }


def _command(argv: Iterable[str], whole: bool) -> str:
    text = printable(" ".join(argv))
    return f'"{text}"' if whole or len(text) <= 20 else f'"{text[:19]}…"'


def ports_words(container: Container, place: Place | None) -> str:
    """`0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 443/tcp`, with runs of ports as ranges: 8000-8003->80-83/tcp."""
    if container.status not in _UP:
        return ""
    ports = sorted(place.ports if place else (), key=lambda p: (p.protocol, len(p.address), p.address, p.target_port))
    runs: list[list[Port]] = []
    for port in ports:
        before = runs[-1][-1] if runs else None
        if before and (before.protocol, before.address, before.port + 1, before.target_port + 1) == (
            port.protocol, port.address, port.port, port.target_port
        ):  # fmt: skip
            runs[-1].append(port)
        else:
            runs.append([port])
    found = [_run(run) for run in runs]
    published = {(p.protocol, p.target_port) for p in ports}
    for one in container.config.request.expose:
        numbers = [n for n in range(one.first, one.last + 1) if (one.protocol, n) not in published]
        if numbers:
            found.append(f"{_range(numbers[0], numbers[-1])}/{one.protocol}")
    return ", ".join(found)


def _run(run: list[Port]) -> str:
    from kist.plan.ports import endpoint

    first, last = run[0], run[-1]
    host = endpoint(first.address, first.port).rpartition(":")[0]
    ports, targets = _range(first.port, last.port), _range(first.target_port, last.target_port)
    return f"{host}:{ports}->{targets}/{first.protocol}"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def status_words(container: Container) -> str:
    """`Up 3 minutes (Paused)`, `Exited (137) 2 hours ago`, in docker's words."""
    status, started, ended = container.status, container.started, container.ended
    if status in ("running", "paused"):
        since = started.at_ns if started else container.config.created_ns
        up = f"Up {ago(since / 1e9).removesuffix(' ago')}"
        return up + (" (Paused)" if status == "paused" else _health_words(container))
    if status == "restarting":
        return f"Restarting ({ended.code if ended else 0}) {ago(ended.ended_ns / 1e9) if ended else ''}".rstrip()
    if status == "exited" and ended:
        return f"Exited ({ended.code})" + (f" {ago(ended.ended_ns / 1e9)}" if ended.ended_ns else "")
    return status.capitalize()


def _health_words(container: Container) -> str:
    if not container.config.request.health_cmd:
        return ""
    from kist.engine.health import STARTING, health_of

    health = health_of(container)
    return "" if not health else " (health: starting)" if health.status == STARTING else f" ({health.status})"
