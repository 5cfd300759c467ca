"""`kist update`: other limits, at once and for as long as the container is kept."""

from __future__ import annotations

from kist.engine.events import note
from kist.errors import InvalidInput
from kist.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kist.engine.containers import Container, Containers
    from kist.plan.request import RunRequest

FIELDS = frozenset((
    "memory_bytes", "memory_swap_bytes", "memory_reservation_bytes", "cpus", "cpu_shares", "cpu_period_us",
    "cpu_quota_us", "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight", "restart", "net_rate",
))  # fmt: skip


def update(containers: Containers, container: Container, changes: Mapping[str, object]) -> None:
    """`changes`: fields of RunRequest, of FIELDS. What runs gets them first: what the kernel refuses is not noted.

    Raises Conflict (it is not kept), InvalidInput, Unsupported, KistError.
    """
    from kist.plan.values import check

    assert FIELDS.issuperset(changes)
    with containers.locked(container):
        current = containers.find(container.id)
        old = current.config.request
        new = replace(old, **_one_way(changes), **changes)
        if new.rm and new.restart.policy != "no":
            raise InvalidInput("it contradicts --rm", path="--restart")
        check(new)
        record = current.record
        if record and not record.restarting and set(changes) - {"restart", "net_rate"}:
            _apply(record.cgroups, old, new)
        if "net_rate" in changes:
            from kist.engine.connect import limit

            limit(containers, current, new)
        current.write("config", replace(current.config, request=new))
        note(current, "update")


def _one_way(changes: Mapping[str, object]) -> dict[str, object]:
    """CPU time is said in one of two ways: the new one takes the place of the other."""
    quota = ("cpu_quota_us", "cpu_period_us")
    if "cpus" in changes:
        return {field: None for field in quota if field not in changes}
    return {"cpus": None} if any(field in changes for field in quota) else {}


def _apply(cgroups: tuple[str, ...], old: RunRequest, new: RunRequest) -> None:
    from kist.engine.runtime.resources import write_limits
    from kist.kernel.probe import probe
    from kist.plan.config import resources_of

    facts = probe()
    before, after = resources_of(old, facts), resources_of(new, facts)
    changed = {name: getattr(after, name) for name in ("memory", "cpu", "pids", "block_io")
               if getattr(after, name) != getattr(before, name)}  # fmt: skip
    write_limits(cgroups, replace(type(after)(), **changed), facts)
