import facts
import pytest

from kist.codec import decode_text, dumps
from kist.plan.facts import CAPABILITIES, HostFacts
from kist.value import replace


@pytest.mark.parametrize("host", [facts.ROOT_V1, facts.ROOT_V2, facts.USER_V2, facts.USER_ONE_ID])
def test_facts_survive_json(host: HostFacts):
    assert decode_text(HostFacts, dumps(host).encode()) == host


def test_facts_are_frozen():
    with pytest.raises(AttributeError):
        facts.ROOT_V2.uid = 1  # type: ignore[misc]


def test_capabilities_have_the_kernels_numbers():
    numbers = {"CAP_CHOWN": 0, "CAP_SETPCAP": 8, "CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24, "CAP_MKNOD": 27}
    numbers |= {"CAP_SETFCAP": 31, "CAP_AUDIT_READ": 37, "CAP_CHECKPOINT_RESTORE": 40}  # linux/capability.h
    assert {name: CAPABILITIES.index(name) for name in numbers} == numbers
    assert len(set(CAPABILITIES)) == 41


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("overlay_in_userns", (5, 11)),
        ("tmpfs_user_xattr", (6, 6)),
        ("mount_setattr", (5, 12)),
        ("pidfd", (5, 4)),
        ("clone_into_cgroup", (5, 7)),
        ("exec_switches_timens", (6, 3)),
    ],
)
def test_what_the_kernel_version_brings(name: str, since: tuple[int, int]):
    before = (since[0], since[1] - 1)
    assert [getattr(replace(facts.ROOT_V2, kernel=kernel), name) for kernel in (before, since, (10, 0))] == [0, 1, 1]


def test_clone_into_cgroup_needs_v2():
    assert not facts.ROOT_V1.clone_into_cgroup
