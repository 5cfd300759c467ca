"""Which containers are meant: the filters of `kist ps`. Source: docker ps, "Filtering"."""

from __future__ import annotations

import re

from kist.engine.inspect import mounts_of, ports_in
from kist.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kist.engine.containers import Container, Containers
    from kist.network.places import Place
    from kist.plan.request import Publish

    Test = Callable[[Container], bool]

STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
FILTERS = ("ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network", "publish",
           "since", "status", "volume")  # fmt: skip
OF_ALL = ("status", "exited")  # who asks so means those that do not run, too


def selected(
    everyone: Sequence[Container], asked: Mapping[str, Sequence[str]], containers: Containers,
    places: Mapping[str, Place],
) -> list[Container]:  # fmt: skip
    """Of several values of a key one has to fit, of labels all. Raises InvalidInput, NotFound."""
    tests: list[Test] = []
    for key, values in asked.items():
        each = [_test(key, value, containers, places) for value in values]
        tests.append(_all(each) if key == "label" else _any(each))
    return [container for container in everyone if all(test(container) for test in tests)]


def _any(tests: Sequence[Test]) -> Test:
    return lambda container: any(test(container) for test in tests)


def _all(tests: Sequence[Test]) -> Test:
    return lambda container: all(test(container) for test in tests)


def _test(key: str, value: str, containers: Containers, places: Mapping[str, Place]) -> Test:
    if key in ("before", "since"):
        when = containers.find(value).config.created_ns
        return lambda c: c.config.created_ns < when if key == "before" else c.config.created_ns > when
    if key == "status":
        if value not in STATUSES:
            raise InvalidInput(f"{value!r} is no status", path="--filter status", next=f"one of: {', '.join(STATUSES)}")
        return lambda c: c.status == value
    if key == "exited":
        code = _number(value)
        return lambda c: c.status == "exited" and (ended := c.ended) is not None and ended.code == code
    if key == "name":
        pattern = _pattern(value)
        return lambda c: bool(pattern.search(c.name) or pattern.search(f"/{c.name}"))
    if key in ("publish", "expose"):
        first, last, protocol = _ports(value)
        return lambda c: _has_port(c, first, last, protocol, places if key == "publish" else None)
    return _simple(key, value, places)


def _simple(key: str, value: str, places: Mapping[str, Place]) -> Test:
    from kist.store.filters import has_label

    def network(c: Container) -> bool:
        place = places.get(c.id)
        names = [name for _, n in place.holders for name in (n.name, n.id)] if place else []
        return value in names or value == c.config.request.network

    tests: dict[str, Test] = {
        "id": lambda c: c.id.startswith(value),
        "label": lambda c: has_label(c.config.request.labels, value),
        "ancestor": lambda c: _is_ancestor(c, value),
        "network": network,
        "volume": lambda c: any(value in (m.source, m.target) for m in mounts_of(c.config.request)),
        "health": lambda c: value == _health(c),
        "is-task": lambda _: value in ("false", "0"),
    }
    return tests[key]


def _health(container: Container) -> str:
    from kist.engine.health import health_of

    health = health_of(container)
    return health.status if health else "none"


def _is_ancestor(container: Container, value: str) -> bool:
    name, digest = container.config.request.image, container.config.image
    known = {name, name if ":" in name.rpartition("/")[2] else f"{name}:latest", digest}
    return value in known or (len(value) >= 12 and digest.removeprefix("sha256:").startswith(value))


def _number(value: str) -> int:
    try:
        return int(value)
    except ValueError as e:
        raise InvalidInput(f"{value!r} is no exit status", path="--filter exited", next="exited=1") from e


def _pattern(value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error as e:
        raise InvalidInput(f"{value!r} is no regular expression", path="--filter name", why=str(e)) from e


def _ports(value: str) -> tuple[int, int, str]:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", value)
    if not found:
        raise InvalidInput(f"{value!r} is no port", path="--filter", next="publish=80, expose=8000-8010/tcp")
    return int(found[1]), int(found[2] or found[1]), found[3] or "tcp"


def _has_port(c: Container, first: int, last: int, protocol: str, published: Mapping[str, Place] | None) -> bool:
    """Docker's `publish` means the port of the host's, `expose` the container's."""
    if published is not None and (place := published.get(c.id)):
        return any(p.protocol == protocol and first <= p.port <= last for p in place.ports)
    request = c.config.request

    def fits(one: Publish) -> bool:
        numbers = (one.host_first, one.host_last) if published is not None else (one.first, one.last)
        return one.protocol == protocol and numbers[0] <= last and numbers[1] >= first

    return any(fits(one) for one in (*request.publish, *(request.expose if published is None else ())) if ports_in(one))
