"""`kist create`: everything about a container is written down and checked, and nothing runs."""

from __future__ import annotations

import os

from kist.engine.containers import Config, Containers
from kist.engine.events import note
from kist.engine.making import check_cidfile, needs_volumes, own_stdio, write_cidfile
from kist.engine.prepare import Prepared, Source, scratch_for, setting_for
from kist.errors import InvalidInput
from kist.kernel.probe import probe
from kist.plan.setting import Stdio
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kist.engine.containers import Container
    from kist.plan.facts import HostFacts
    from kist.plan.request import RunRequest


def create(request: RunRequest, containers: Containers) -> Container:
    """Keep a container. The image is not pulled here.

    Raises what `start` would raise before its first step: a container that this host can't run is not made. Conflict
    for a name that is taken.
    """
    container, source = create_to_start(request, containers, starts=False)
    source.close()
    return container


def create_to_start(request: RunRequest, containers: Containers, *, starts: bool = True) -> tuple[Container, Source]:
    """The same for `start`, which takes what the container is made from and checks what `create` does."""
    import time

    if request.rm and request.restart.policy != "no":
        raise InvalidInput("it contradicts --rm", path="--restart", next="write one or the other")
    check_cidfile(request.cidfile)
    containers.prepare()
    id = os.urandom(32).hex()
    facts = probe()
    source = Source(request, facts, scratch_for(request, facts, f"{containers.states.base}/{id}/scratch"))
    try:
        if needs_volumes(source.request) or source.request.image_volumes:
            source.settle(containers, kept=True)
        try:
            if not starts:
                check(source, facts, id)
            config = Config(id, request.name, time.time_ns(), replace(source.request, pull="never"), source.image)
            container = containers.add(config)
        except BaseException:
            source.forget(containers)
            raise
        note(container, "create")
        if request.cidfile:
            write_cidfile(request.cidfile, id)
    except BaseException:
        source.close()
        raise
    return container, source


def check(source: Source, facts: HostFacts, id: str) -> None:
    """Compile it, on paper. Raises InvalidInput, NotFound, Refused, Unsupported."""
    from kist.engine.explain import attachment_of, joined_of

    request = source.request
    stdio = own_stdio(request, detached=True) if request.tty else Stdio(stdin="null")
    attachment = attachment_of(source, facts, id)
    setting = setting_for(request, id, source, stdio, (), attached=True, attachment=attachment)
    Prepared(request, facts, setting, source, joined_of(setting))
