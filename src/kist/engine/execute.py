"""`kist exec`: one more process in a container that runs, with its environment, user, limits and filter.

What it may do is compiled anew from the container's request: nothing is asked of the container but its /etc/passwd.
"""

from __future__ import annotations

from kist.engine.containers import is_frozen
from kist.engine.identity import RootReader, resolve
from kist.engine.making import own_stdio
from kist.errors import Conflict, Refused
from kist.kernel.probe import groups_denied, probe
from kist.kernel.program import become, open_program
from kist.plan.compile_exec import compile_exec
from kist.plan.compile_process import DEFAULT_PATH
from kist.plan.config import Found, exec_config, needs_userns
from kist.plan.facts import CAPABILITIES
from kist.plan.setting import DETACH, RUN, Files, Setting, Stdio
from kist.spec.runtime import Capabilities
from kist.value import Value, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from kist.engine.containers import Container
    from kist.plan.compile import Compiled
    from kist.plan.facts import HostFacts
    from kist.plan.request import RunRequest
    from kist.spec.runtime import Spec


class ExecRequest(Value):
    """Fields as in RunRequest; what is left empty is the container's."""

    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    interactive: bool = False
    tty: bool = False
    privileged: bool = False
    detach: bool = False


def execute(container: Container, request: ExecRequest, explainer: Sequence[str]) -> NoReturn:
    """This process becomes the supervisor of a process inside, on fds 0, 1, 2, and does not come back.

    The exit status is the command's, or 128 and its signal's number; 126 and 127 as in `run_attached`. With `detach`
    it ends as soon as the command runs, which then lives as long as the container.
    Raises Conflict when the container does not run or is paused, InvalidInput for a user it does not have.
    """
    compiled = prepare_exec(container, request)
    become(compiled.plan, open_program(), (), explainer)


def prepare_exec(container: Container, request: ExecRequest) -> Compiled:
    """The plan, for a container as it is now. Raises as `execute`."""
    pid, record, facts = container.pid, container.record, probe()
    if record is None:
        raise Conflict(f"{container.name} does not run any more", code="not-running")
    if is_frozen(record.freezer):
        raise Conflict(f"{container.name} is paused", next=f"kist unpause {container.name}", code="paused")
    whole = _request(container.config.request, request)
    identity = resolve(whole.user, whole.group_add, RootReader(f"/proc/{pid}/root"))
    spec = exec_config(whole, facts, Found(identity, _search_path(whole)), container.id)
    if request.privileged:
        if whole.allow_net and not needs_userns(whole, facts):
            raise Refused(f"{container.name} was made with --allow-net, which holds nobody who has all capabilities",
                          next="leave out --privileged", code="allow-net")  # fmt: skip
        spec = _privileged(spec, whole, facts)
    assert spec.process is not None
    stdio = Stdio(stdin="null") if request.detach else own_stdio(whole)
    setting = Setting(
        id=container.id, files=Files(), mode=DETACH if request.detach else RUN, stdio=stdio,
        groups_denied=groups_denied(f"/proc/{pid}"), find_home=request.detach, path=_search_path(whole), clamp=True,
        own_sockets=bool(whole.allow_net),
    )  # fmt: skip
    return compile_exec(spec, spec.process, facts, setting, pid, record.namespaces, record.cgroups)


def _request(own: RunRequest, request: ExecRequest) -> RunRequest:
    """The container's own request, with what is asked for in its place."""
    return replace(
        own, entrypoint=(), command=request.command, env=(*own.env, *request.env), user=request.user or own.user,
        workdir=request.workdir or own.workdir, tty=request.tty, interactive=request.interactive, attach=(),
    )  # fmt: skip


def _privileged(spec: Spec, request: RunRequest, facts: HostFacts) -> Spec:
    """All capabilities that there are for it; the filter stays the container's, as docker has it."""
    process = spec.process
    assert process is not None
    known = CAPABILITIES[: facts.cap_last + 1]
    held = tuple(name for name in known if needs_userns(request, facts) or name in facts.capabilities)
    used = held if process.user.uid == 0 else ()
    return replace(
        spec, process=replace(process, capabilities=Capabilities(bounding=held, effective=used, permitted=used))
    )


def _search_path(request: RunRequest) -> str:
    if request.image != "host":
        return DEFAULT_PATH
    from kist.engine.host_image import search_path

    return search_path()
