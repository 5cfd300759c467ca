"""The probe's parsers on texts, and its cgroup part on directories that look like cgroup trees."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.codec import dumps
from kist.kernel import probe as module
from kist.kernel.probe import (
    Mount,
    Place,
    parse_capabilities,
    parse_kernel,
    parse_mountinfo,
    parse_own_cgroups,
    parse_rlimits,
    parse_status,
    place_cgroups,
    probe,
    why_no_user_namespace,
)
from kist.kernel.subids import parse_subids, parse_user_name
from kist.plan.facts import CgroupFacts, CgroupV1, IdRange

# --- parsers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc-v657", (6, 18)),
        ("5.15.0-91-generic", (5, 15)),
        ("6.1", (6, 1)),
        ("7", (7, 0)),
        ("6.9-rc1", (6, 9)),
        ("6-custom.3", (6, 0)),
        ("", (0, 0)),
        ("next", (0, 0)),
    ],
)
def test_kernel(release, version):
    assert parse_kernel(release) == version


def test_status():
    text = "Name:\ta:b\nUid:\t0\t0\t0\t0\nGroups:\t \nCapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nnonsense\n"
    status = parse_status(text)
    assert status == {
        "Name": "a:b",
        "Uid": "0\t0\t0\t0",
        "Groups": "",
        "CapEff": "00000000a80425fb",
        "NoNewPrivs": "1",
    }


def test_capabilities():
    assert parse_capabilities("0000000000000000") == frozenset()
    assert parse_capabilities("0000000001200001") == {"CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_SYS_RESOURCE"}
    assert parse_capabilities("0000030000000000") == {"CAP_CHECKPOINT_RESTORE", "CAP_41"}
    assert parse_capabilities("") == parse_capabilities("?") == frozenset()


@given(st.sets(st.integers(0, 63)))
def test_capabilities_one_name_a_bit(bits):
    assert len(parse_capabilities(f"{sum(1 << bit for bit in bits):016x}")) == len(bits)


LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max core file size        0                    unlimited            bytes     
Max open files            1024                 1048576              files     
Max nice priority         0                    0                    
Max stack size            18446744073709551614 18446744073709551614 bytes     
Max something new         1                    2                    
"""  # noqa: W291


def test_rlimits():
    most = 2**64 - 2
    assert parse_rlimits(LIMITS) == {
        "RLIMIT_CPU": (-1, -1),
        "RLIMIT_CORE": (0, -1),
        "RLIMIT_NOFILE": (1024, 1048576),
        "RLIMIT_NICE": (0, 0),
        "RLIMIT_STACK": (most, most),
    }


def test_mountinfo():
    text = (
        "23 27 0:22 / /sys rw - sysfs sysfs rw\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu\\040and\\134 rw,relatime shared:1 master:2 - cgroup cgroup rw,cpu,cpuacct\n"
        "41 31 0:38 /docker/ab /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw,nsdelegate\n"
        "a line - cgroup of nonsense\n"
    )
    assert parse_mountinfo(text, ("cgroup", "cgroup2")) == [
        Mount("/sys/fs/cgroup/cpu and\\", "/", "cgroup", ("rw", "cpu", "cpuacct")),
        Mount("/sys/fs/cgroup/unified", "/docker/ab", "cgroup2", ("rw", "nsdelegate")),
    ]


def _escape(path: str) -> str:
    """As the kernel's seq_path does."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in path)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.text(alphabet="/ \\\t\n0134abc-"))
def test_mountinfo_paths_come_back(point, root):
    line = f"1 2 0:3 /{_escape(root)} /{_escape(point)} rw - cgroup2 none rw\n"
    assert parse_mountinfo(line, ("cgroup2",)) == [Mount("/" + point, "/" + root, "cgroup2", ("rw",))]


def test_own_cgroups():
    text = "9:name=systemd:/init\n4:memory:/a:b/c\n3:cpu,cpuacct:/\n0::/user.slice\nnonsense\n"
    assert parse_own_cgroups(text) == {
        "name=systemd": "/init",
        "memory": "/a:b/c",
        "cpu": "/",
        "cpuacct": "/",
        "": "/user.slice",
    }


@pytest.mark.parametrize(
    ("root", "own", "path"),
    [
        ("/", "/a/b", "/a/b"),
        ("/a", "/a/b", "/b"),
        ("/a/b", "/a/b", "/"),
        ("/a", "/ab", ""),
        ("/a", "/", ""),
        ("/", "/../other", ""),  # moved out of its cgroup namespace: joined to the mount it would leave it
        ("/..", "/", ""),
        ("/", "/a..b", "/a..b"),
    ],
)
def test_own_cgroup_below_the_mount(root, own, path):
    assert place_cgroups([Mount("/m", root, "cgroup2", ("rw",))], {"": own}) == {"": Place("/m", path)}


def test_the_mount_that_shows_the_own_cgroup_is_taken():
    mounts = [Mount(f"/{n}", root, "cgroup", ("rw", "memory")) for n, root in enumerate(("/other", "/", "/a"))]
    assert place_cgroups(mounts, {"memory": "/a/b"}) == {"memory": Place("/1", "/a/b")}


def test_a_mount_hides_what_is_under_it():
    mounts = [Mount("/m", root, "cgroup2", ("rw",)) for root in ("/", "/a")]
    assert place_cgroups(mounts, {"": "/a/b"}) == {"": Place("/m", "/b")}


def test_none_of_several_mounts_shows_the_own_cgroup():
    mounts = [Mount(f"/{root}", f"/../{root}", "cgroup", ("rw", "memory")) for root in "xy"]
    assert place_cgroups(mounts, {"memory": "/"}) == {"memory": Place("/x", "")}


def test_only_controllers_of_this_process_are_placed():
    mounts = [Mount("/m", "/", "cgroup", ("rw", "xattr", "name=systemd")), Mount("/n", "/", "tmpfs", ("memory",))]
    assert place_cgroups(mounts, {"name=systemd": "/", "memory": "/", "": "/"}) == {"name=systemd": Place("/m", "/")}


# --- user namespaces, subordinate ids -----------------------------------------------------------------------------

FREE = {"uid_map": "0 0 4294967295\n", "maximum": "96365\n", "unprivileged_clone": "", "apparmor": "", "label": ""}


@pytest.mark.parametrize(
    ("host", "user", "root"),
    [
        ({}, "", ""),
        ({"unprivileged_clone": "1\n", "apparmor": "0\n"}, "", ""),
        ({"uid_map": ""}, "CONFIG_USER_NS", "CONFIG_USER_NS"),
        ({"maximum": "0\n"}, "max_user_namespaces", "max_user_namespaces"),
        ({"unprivileged_clone": "0\n"}, "unprivileged_userns_clone", ""),
        ({"apparmor": "1\n"}, "apparmor_restrict", ""),
        ({"apparmor": "1\n", "label": "unconfined\n"}, "apparmor_restrict", ""),
        ({"apparmor": "1\n", "label": "unprivileged_userns (enforce)\n"}, "apparmor_restrict", ""),
        ({"apparmor": "1\n", "label": "kist (unconfined)\n"}, "", ""),
    ],
)
def test_user_namespaces(host, user, root):
    for privileged, words in ((False, user), (True, root)):
        reason = why_no_user_namespace(**{**FREE, **host}, privileged=privileged)
        assert words in reason
        assert bool(words) == bool(reason)


def test_subids_by_name_and_number_and_nothing_else():
    text = (
        "# ann:1:1\nann:100000:65536\nanna:1:1\n1000:300000:10\n10000:1:1\nann:100000:65536\n"
        "ann:1\nann:-1:5\nann:5:0\nann:x:5\nann:4294967290:6\nann:1:2:3\nann:٣:5\nann:5:99999999999\n:7:7\n"
    )
    assert parse_subids(text, "ann", 1000) == (IdRange(100000, 65536), IdRange(300000, 10))
    assert parse_subids(text, "", 1000) == (IdRange(300000, 10),)


def test_subids_may_reach_the_last_id():
    assert parse_subids("ann:4294967290:5", "ann", 1) == (IdRange(4294967290, 5),)


@given(st.text(alphabet="ann1:0\n #x") | st.text())
def test_subids_are_ids(text):
    for found in parse_subids(text, "ann", 1):
        assert found.start >= 0
        assert 0 < found.size <= 2**32 - 1 - found.start


def test_user_name():
    passwd = "root:x:0:0::/root:/bin/sh\nshort:x:7\nann:x:1000:1000::/:/bin/sh\nbob:x:1000:1::/:/bin/sh\n+\n"
    assert [parse_user_name(passwd, uid) for uid in (0, 1000, 7, 100)] == ["root", "ann", "", ""]


# --- cgroup trees -------------------------------------------------------------------------------------------------


def tree(top: Path, files: dict[str, str]) -> Place:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Place(str(top), "/")


ROOT_FILES = {"cgroup.procs": "1\n2\n", "cgroup.controllers": "cpu memory\n", "cgroup.subtree_control": "memory\n"}


def v2(place: Place, kernel: tuple[int, int] = (6, 1)) -> CgroupFacts:
    return module._v2(place, kernel, False)


def test_v2_the_kernels_root_is_the_base(tmp_path):
    place = tree(tmp_path, {**ROOT_FILES, "user/cgroup.type": "domain\n", "user/memory.max": "max\n"})
    facts = v2(Place(place.mount, "/user"))
    assert facts.v2 is not None
    assert (facts.v2.path, facts.v2.base, facts.v2.base_is_root, facts.v2.type) == ("/user", "/", True, "")
    assert (facts.v2.delegated, facts.v2.other_processes) == (True, False)
    assert (facts.v2.available, facts.v2.enabled) == ({"cpu", "memory"}, {"memory"})


def test_v2_a_namespaces_root_without_processes_is_the_base(tmp_path):
    """As in a container whose init has moved down: containers' cgroups lie beside it, not below."""
    files = {**ROOT_FILES, "cgroup.procs": "", "cgroup.type": "domain\n", "init.scope/cgroup.procs": "1\n"}
    found = v2(Place(tree(tmp_path, files).mount, "/init.scope")).v2
    assert found is not None
    assert (found.base, found.base_is_root, found.delegated, found.other_processes) == ("/", True, True, False)


@pytest.mark.parametrize(("path", "base"), [("/a/b", "/a/b"), ("/a/kist-supervisor", "/a"), ("/kist-supervisor", "/")])
@pytest.mark.parametrize("procs", ["", "me", "others"])
def test_v2_a_delegated_cgroup_is_the_base(tmp_path, path, base, procs):
    held = {"": "", "me": f"{os.getpid()}\n", "others": f"{os.getpid()}\n1\n"}[procs]
    files = {f"{base[1:]}/{name}".lstrip("/"): text for name, text in ROOT_FILES.items()}
    files |= {f"{base[1:]}/cgroup.procs".lstrip("/"): held, f"{base[1:]}/cgroup.type".lstrip("/"): "domain\n"}
    place = tree(tmp_path, {**files, "cgroup.type": "domain\n", "cgroup.procs": held})
    found = v2(Place(place.mount, path)).v2
    assert found is not None
    top = base == "/" and not procs  # nobody else lives there: as good as the kernel's own root
    assert (found.path, found.base, found.base_is_root, found.type) == (path, base, top, "domain")
    assert (found.delegated, found.other_processes) == (True, procs == "others")


def test_v2_not_delegated_without_every_file_that_a_move_needs(tmp_path):
    for missing in ("cgroup.procs", "cgroup.subtree_control"):
        top = tmp_path / missing
        tree(top, {name: text for name, text in ROOT_FILES.items() if name != missing} | {"cgroup.type": "domain"})
        found = v2(Place(str(top), "/")).v2
        assert found is not None
        assert not found.delegated


@pytest.mark.parametrize(
    ("files", "kernel", "counts"),
    [
        ({"memory.max", "memory.swap.max"}, (5, 15), True),
        ({"memory.max"}, (6, 1), False),
        (set(), (5, 15), False),  # not shown here, and it may have been switched off
    ],
)
def test_v2_swap(tmp_path, files, kernel, counts):
    place = tree(tmp_path, {**ROOT_FILES, **dict.fromkeys(files, "max\n")})
    assert v2(place, kernel).swap_accounting is counts


def v1_places(top: Path) -> dict[str, Place]:
    files = {"memory/memory.memsw.limit_in_bytes": "", "cpu/cpu.rt_runtime_us": "", "cpuset/cpuset.effective_cpus": ""}
    tree(top, {**files, "cpuset/own/cpuset.effective_cpus": "1\n", "cpuset/cpuset.effective_cpus": "0-1\n"})
    return {
        "memory": Place(f"{top}/memory", "/gone"),
        "cpu": Place(f"{top}/cpu", ""),
        "cpuset": Place(f"{top}/cpuset", "/own"),
    }


def test_v1_roots_containers_are_made_at_the_top(tmp_path):
    facts = module._v1(v1_places(tmp_path), True, False)
    assert facts.v1 == {
        "memory": CgroupV1(f"{tmp_path}/memory", "/gone", True),
        "cpu": CgroupV1(f"{tmp_path}/cpu", "/", True),
        "cpuset": CgroupV1(f"{tmp_path}/cpuset", "/own", True),
    }
    assert (facts.swap_accounting, facts.realtime, facts.cpuset_cpus) == (True, True, "0-1")


def test_v1_a_users_containers_are_made_below_the_own_cgroup(tmp_path):
    facts = module._v1(v1_places(tmp_path), False, False)
    assert {name: v1.writable for name, v1 in facts.v1.items()} == {"memory": False, "cpu": True, "cpuset": True}
    assert (facts.swap_accounting, facts.realtime, facts.cpuset_cpus) == (False, True, "1")


@pytest.mark.parametrize(
    ("mounted", "version"),
    [
        ((), 0),
        (("cgroup2",), 2),
        (("memory", "pids"), 1),
        (("memory", "cgroup2"), 1),  # hybrid
        (("net_cls", "cgroup2"), 2),
        (("name=systemd", "cgroup2"), 2),
        (("net_cls",), 1),
    ],
)
def test_version(tmp_path, monkeypatch, mounted, version):
    monkeypatch.setattr(
        module, "_read", {"/proc/self/cgroup": "3:memory:/\n4:pids:/\n5:net_cls:/\n6:name=systemd:/\n0::/\n"}.get
    )
    mounts = [
        Mount(f"{tmp_path}/{name}", "/", "cgroup2" if name == "cgroup2" else "cgroup", ("rw", name)) for name in mounted
    ]
    monkeypatch.setattr(module, "_v2", lambda *_: CgroupFacts(version=2))
    assert module._cgroup(mounts, (6, 1), True).version == version


# --- odd hosts ----------------------------------------------------------------------------------------------------


def test_nothing_readable(monkeypatch):
    monkeypatch.setattr(module, "_read", lambda path: "")
    facts = probe()
    assert facts.cgroup.version == 0
    assert (facts.capabilities, facts.rlimits, facts.subuids) == (frozenset(), {}, ())
    assert not (facts.user_namespaces or facts.seccomp or facts.in_user_namespace)


@given(
    st.dictionaries(
        st.sampled_from(["cgroup", "mountinfo", "status", "limits", "uid_map", "subuid", "passwd"]), st.text()
    )
)
def test_nonsense_never_raises(texts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_read", lambda path: texts.get(path.rpartition("/")[2], ""))
        dumps(probe()).encode()


@given(st.text(alphabet="0123456789:/=., -cgroup2memory\\\n"))
def test_text_like_the_kernels_never_raises(text):
    for parse in (parse_status, parse_rlimits, parse_own_cgroups, parse_kernel, parse_capabilities):
        parse(text)
    place_cgroups(parse_mountinfo(text, ("cgroup", "cgroup2")), parse_own_cgroups(text))


def test_bytes_that_are_not_utf8_can_be_printed(tmp_path):
    (tmp_path / "file").write_bytes(b"caf\xe9:1:2\n")
    text = module._read(str(tmp_path / "file"))
    assert text == "caf\\xe9:1:2\n"
    assert module._read(str(tmp_path / "missing")) == module._read(str(tmp_path)) == ""
