"""`kist events`."""

from __future__ import annotations

import time

from kist.errors import InvalidInput, printable
from kist.faces.cli.command import Command, Flag
from kist.faces.cli.parse import parse
from kist.plan import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kist.engine.events import Event

_FILTERS = ("container", "event", "image", "label", "type", "scope")

COMMAND = Command(
    name="events",
    usage=("[FLAG...]",),
    summary="Say what happens to the containers that are kept, from now on until Ctrl-C",
    groups=(
        (
            "Flags",
            (
                Flag("filter", "many", "KEY=VALUE", f"Only those: {', '.join(_FILTERS)}", words.plain, "f"),
                Flag("format", "one", "FORMAT", "json, or a Go template: '{{.Action}} {{.Actor.ID}}'", words.plain),
                Flag("since", "one", "TIME", "Begin then: a date, seconds since 1970, or 10m ago", words.plain),
                Flag("until", "one", "TIME", "End then", words.plain),
            ),
        ),
    ),
    examples=(("kist events --since 1h --until 0s", "what has happened in the last hour"),),
)


def main(argv: list[str]) -> int:
    parsed = parse(COMMAND, argv)
    from kist.engine.containers import Containers
    from kist.engine.events import follow, history
    from kist.faces.cli.images import filters
    from kist.store.filters import instant

    asked = filters(parsed.given.get("filter", ()), _FILTERS)
    since = instant(parsed.last("since")) if "since" in parsed.given else time.time()
    until = instant(parsed.last("until")) if "until" in parsed.given else None
    show = printer(parsed.last("format"))

    def tell(event: Event) -> None:
        if since <= event.time_ns / 1e9 and (until is None or event.time_ns / 1e9 <= until) and passes(event, asked):
            print(show(event), flush=True)

    containers = Containers()
    past = history(containers)
    for event in past:
        tell(event)
    for event in follow(containers, past, until):
        tell(event)
    return 0


def passes(event: Event, asked: Mapping[str, Sequence[str]]) -> bool:
    from kist.store.filters import has_label

    a = event.attributes
    tests: dict[str, Callable[[str], bool]] = {
        "container": lambda text: text == a["name"] or event.id.startswith(text),
        "event": event.action.__eq__,
        "image": lambda text: text in (a["image"], a["image"].rpartition(":")[0]),
        "type": "container".__eq__,
        "scope": "local".__eq__,
    }
    labels = all(has_label(a, text) for text in asked.get("label", ()))
    return labels and all(any(fit(text) for text in asked[key]) for key, fit in tests.items() if asked.get(key))


def printer(format: str) -> Callable[[Event], str]:
    """Raises InvalidInput for what is no template."""
    if not format:
        return line
    if format == "json":
        from kist.codec import dumps

        return lambda event: dumps(document(event))
    if format.startswith("table"):
        raise InvalidInput("events are no table: they come one by one", path="--format", next="json or a template")
    from kist.faces.cli.template import compile_template

    render = compile_template(format)
    return lambda event: render(document(event))


def line(event: Event) -> str:
    """`2026-11-26T12:00:00.000000000+01:00 container start ID (image=box, name=web)`."""
    seconds = event.time_ns // 10**9
    zone = time.strftime("%z", time.localtime(seconds))
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
    more = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    about = printable(f"container {event.action} {event.id} ({more})")
    return f"{when}.{event.time_ns % 10**9:09d}{zone[:3]}:{zone[3:]} {about}"


def document(event: Event) -> dict[str, object]:
    """Docker's form."""
    return {
        "status": event.action, "id": event.id, "from": event.attributes["image"],
        "Type": "container", "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": dict(event.attributes)},
        "scope": "local", "time": event.time_ns // 10**9, "timeNano": event.time_ns,
    }  # fmt: skip
