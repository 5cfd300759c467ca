"""Messages to systemd, byte by byte, and limits in its words."""

import pytest

from kist.engine.runtime import scope
from kist.errors import InvalidInput
from kist.kernel.systemd import Property, _split, _Writer
from kist.plan.facts import CgroupFacts
from kist.spec.runtime import Cpu, Memory, Pids, Resources


def written(kind: str, value: object) -> bytes:
    writer = _Writer()
    writer.put(kind, value)
    return bytes(writer.data)


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        ("s", "ab", b"\2\0\0\0ab\0"),
        ("b", True, b"\1\0\0\0"),
        ("t", 2**64 - 1, b"\xff" * 8),
        ("i", -1, b"\xff" * 4),
        ("g", "as", b"\2as\0"),
        ("v", ("u", 5), b"\1u\0\0\5\0\0\0"),
        ("as", ["a"], b"\6\0\0\0\1\0\0\0a\0"),
        ("at", [], b"\0\0\0\0\0\0\0\0"),  # padded to the elements' alignment, which does not count
        ("a(sv)", [("a", ("b", False))], b"\x10\0\0\0\0\0\0\0\1\0\0\0a\0\1b\0\0\0\0\0\0\0\0"),
        ("ay", b"\3", b"\1\0\0\0\3"),
    ],
)
def test_wire_format(kind, value, data):
    assert written(kind, value) == data


def test_complete_types():
    assert _split("ssa(sv)a(sa(sv))u") == ["s", "s", "a(sv)", "a(sa(sv))", "u"]


@pytest.mark.parametrize(
    ("path", "slice", "unit"),
    [
        ("machine.slice:libpod:abc", "machine.slice", "libpod-abc.scope"),
        (":cri:abc", None, "cri-abc.scope"),
        ("a.slice::abc", "a.slice", "abc.scope"),
        ("", None, "kist-id.scope"),
    ],
)
def test_unit_names(path, slice, unit):
    found = scope.unit_names(path, "id")
    assert found[1] == unit
    assert found[0] == slice or slice is None


@pytest.mark.parametrize("path", ["/a/b", "a:b", "a:b:", "a:b:c.slice", "a:b:c:d"])
def test_paths_that_name_no_scope(path):
    with pytest.raises(InvalidInput):
        scope.unit_names(path, "id")


def test_limits_in_systemd_s_words():
    resources = Resources(
        memory=Memory(limit=1 << 20, swap=3 << 20), cpu=Cpu(shares=1024, quota=5000, period=20000, cpus="0,3"),
        pids=Pids(0),
    )  # fmt: skip
    v2 = {p.name: p.value for p in scope.resource_properties(resources, facts(2))}
    assert v2 == {
        "MemoryMax": 1 << 20, "MemorySwapMax": 2 << 20, "CPUWeight": 100, "CPUQuotaPerSecUSec": 250000,
        "CPUQuotaPeriodUSec": 20000, "AllowedCPUs": b"\x09", "TasksMax": 1,
    }  # fmt: skip
    v1 = {p.name: p.value for p in scope.resource_properties(resources, facts(1))}
    assert v1 == {"MemoryLimit": 1 << 20, "CPUShares": 1024, "CPUQuotaPerSecUSec": 250000,
                  "CPUQuotaPeriodUSec": 20000, "TasksMax": 1}  # fmt: skip


def facts(version: int):
    class Facts:
        cgroup = CgroupFacts(version=version)

    return Facts()


@pytest.mark.parametrize(
    ("key", "text", "found"),
    [
        ("TimeoutStopSec", "5", Property("TimeoutStopUSec", "t", 5_000_000)),
        ("CollectMode", "'inactive'", Property("CollectMode", "s", "inactive")),
        ("IOWeight", "uint64 42", Property("IOWeight", "t", 42)),
        ("Delegate", "true", Property("Delegate", "b", True)),
        ("Wants", "['a.service', 'b.service']", Property("Wants", "as", ["a.service", "b.service"])),
        ("Nice", "-5", Property("Nice", "i", -5)),
    ],
)
def test_annotations(key, text, found):
    assert scope._annotated({f"org.systemd.property.{key}": text, "other": "x"}) == [found]


@pytest.mark.parametrize(("key", "text"), [("A1", "5"), ("Nice", "five"), ("Nice", "float 5"), ("X", "")])
def test_annotations_that_mean_nothing(key, text):
    with pytest.raises(InvalidInput):
        scope._annotated({f"org.systemd.property.{key}": text})
