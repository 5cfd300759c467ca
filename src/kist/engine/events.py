"""What has happened to containers, without a daemon: a journal, and the ends that nobody has written into it yet.

    DATA/events.N   a JSON record a line, appended by whoever acts; the highest N is written to, and five are kept

A container ends when only its supervisor looks on, a C program that writes `ended` and nothing else. So an end is told
by that file for as long as it is there, and who takes it away (the next start, rm) writes it into the journal first.
A reader merges both by time. Of containers that are not kept nothing is told.
"""

from __future__ import annotations

import os
import time

from kist.codec import decode_text, dumps
from kist.errors import InvalidInput
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kist.engine.containers import Container, Containers, Ended

_FILE_BYTES, _FILES = 1 << 20, 5
_POLL_S = 0.1  # no event of the kernel's tells of all places at once


class Event(Value):
    """`attributes`: docker's, with the container's labels."""

    time_ns: int
    action: str
    id: str
    attributes: Mapping[str, str] = {}

    @property
    def key(self) -> tuple[int, str, str]:
        return self.time_ns, self.action, self.id


def event_of(container: Container, action: str, more: Mapping[str, str], time_ns: int = 0) -> Event:
    config = container.config
    named = {"image": config.request.image or config.request.rootfs, "name": config.name}
    return Event(time_ns or time.time_ns(), action, config.id, {**config.request.labels, **named, **more})


def note(container: Container, action: str, **more: str) -> None:
    """Append what was done. A journal that can't be written stops nobody."""
    if container.kept:
        _append(_data_dir(container), event_of(container, action, more))


def note_start(container: Container) -> None:
    """When it has started; the time is that before, as its end may have been faster."""
    started = container.started
    if container.kept and started:
        _append(_data_dir(container), event_of(container, "start", {}, started.at_ns))


def _data_dir(container: Container) -> str:
    return container.directory.rpartition("/containers/")[0]


def note_end(container: Container) -> None:
    """Before its `ended` is taken away."""
    ended = container.ended if container.kept else None
    if ended and not ended.error:
        for event in end_events(container, ended):
            _append(_data_dir(container), event)


def end_events(container: Container, ended: Ended) -> list[Event]:
    """`oom` if the kernel killed in it, and `die`."""
    when = ended.ended_ns or time.time_ns()  # who was lost has no time of its own
    seconds = str(ended.wall_ns // 10**9)
    died = event_of(container, "die", {"exitCode": str(ended.code), "execDuration": seconds}, when)
    return [*([event_of(container, "oom", {}, when)] if ended.oom_killed else []), died]


def history(containers: Containers) -> list[Event]:
    """All that is known, in order of time."""
    found = {event.key: event for event in _journal(containers.data_dir)}
    for container in containers.all():
        if container.kept and (ended := container.ended) and ended.ended_ns and not ended.error:
            found.update((event.key, event) for event in end_events(container, ended))
    return sorted(found.values(), key=lambda event: event.key)


def follow(containers: Containers, seen: list[Event], until_s: float | None) -> Iterator[Event]:
    """What comes after `seen`, until that time, or for ever."""
    known = {event.key for event in seen}
    while until_s is None or time.time() < until_s:
        for event in history(containers):
            if event.key not in known:
                known.add(event.key)
                yield event
        time.sleep(_POLL_S)


def _numbers(data_dir: str) -> list[int]:
    try:
        names = os.listdir(data_dir)
    except FileNotFoundError:
        return []
    return sorted(int(n[7:]) for n in names if n.startswith("events.") and n[7:].isdigit())


def _append(data_dir: str, event: Event) -> None:
    numbers = _numbers(data_dir) or [1]
    number = numbers[-1]
    try:
        if os.path.exists(path := f"{data_dir}/events.{number}") and os.path.getsize(path) >= _FILE_BYTES:
            number += 1
            for old in numbers[: -_FILES + 1]:
                os.unlink(f"{data_dir}/events.{old}")
        fd = os.open(f"{data_dir}/events.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{dumps(event)}\n".encode())  # one write: lines of two writers never mix
        finally:
            os.close(fd)
    except OSError:
        pass  # no space: what was done is done all the same


def _journal(data_dir: str) -> Iterator[Event]:
    for number in _numbers(data_dir):
        try:
            with open(f"{data_dir}/events.{number}", "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            continue  # rotated away meanwhile
        for line in lines:
            try:
                yield decode_text(Event, line, "events")
            except InvalidInput:
                continue  # cut off when the disk was full
