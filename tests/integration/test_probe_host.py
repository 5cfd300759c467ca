"""The probe on this machine agrees with what other programs and the kernel say."""

import os
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from kist.codec import decode_text
from kist.kernel.cgroup import remove_cgroups
from kist.kernel.probe import probe
from kist.plan.facts import CAPABILITIES, HostFacts

# Everything is imported before the user is left with what 12345 may read.
SCRIPT = """
import _json, os, sys, pwd
from kist.codec import dumps
from kist.kernel.probe import probe
{}
sys.stdout.write(dumps(probe()))
"""
AS_USER = "os.setgroups([7, 12345])\nos.setgid(12345)\nos.setuid(12345)"


def probe_after(statements: str, *wrapper: str) -> HostFacts:
    """The facts of a new process that has run `statements`."""
    script = f"import sys\nsys.path[:] = {sys.path!r}\n" + SCRIPT.format(statements)
    argv = [*wrapper, sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(argv, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return decode_text(HostFacts, done.stdout)


def output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@pytest.fixture(scope="module")
def facts() -> HostFacts:
    return probe()


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")


def test_id(facts):
    assert [facts.uid, facts.gid] == [int(output("id", "-u")), int(output("id", "-g"))]
    assert set(facts.groups) | {facts.gid} == set(map(int, output("id", "-G").split()))
    assert facts.user_name == output("id", "-un")


def test_uname(facts):
    assert output("uname", "-r").startswith("{}.{}".format(*facts.kernel))
    assert facts.arch == output("uname", "-m")


def test_capabilities(facts):
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    assert sum(1 << CAPABILITIES.index(name) for name in facts.capabilities) == int(status["CapEff"], 16)
    assert facts.cap_last == int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert facts.no_new_privs == (status["NoNewPrivs"] == "1")
    assert facts.seccomp == os.path.isdir("/proc/sys/kernel/seccomp")


def test_rlimits_are_what_getrlimit_says(facts):
    names = [name for name in dir(resource) if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"]
    expected = {name: resource.getrlimit(getattr(resource, name)) for name in names}
    assert {name: facts.rlimits[name] for name in names} == expected


def test_machine(facts):
    assert facts.cpus == os.cpu_count()
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert facts.memory_total_bytes == int(total.split()[1]) * 1024
    assert facts.time_namespace == os.path.exists("/proc/self/ns/time")


def test_every_cgroup_is_where_this_process_is(facts):
    places = [v1.mount + v1.path for v1 in facts.cgroup.v1.values()]
    if facts.cgroup.v2:
        places.append(facts.cgroup.v2.mount + facts.cgroup.v2.path)
    if not places:
        pytest.skip("needs a cgroup file system")
    for place in places:
        assert str(os.getpid()) in Path(place, "cgroup.procs").read_text().split()


def test_every_v1_controller_of_the_kernel_is_found(facts):
    if facts.cgroup.version != 1:
        pytest.skip("needs cgroup v1")
    lines = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
    assert facts.cgroup.v1.keys() >= {
        name for name, hierarchy, _, enabled in lines if enabled == "1" and hierarchy != "0"
    }


def test_newuidmap(facts):
    if not shutil.which("newuidmap"):
        pytest.skip("needs newuidmap (package uidmap)")
    assert os.path.samefile(facts.newuidmap, shutil.which("newuidmap"))
    assert os.path.samefile(facts.newgidmap, shutil.which("newgidmap"))


def test_an_ordinary_user(root, facts):
    user = probe_after(AS_USER)
    assert (user.uid, user.gid, set(user.groups), user.user_name) == (12345, 12345, {7, 12345}, "")
    assert (user.capabilities, user.subuids, user.in_user_namespace) == (frozenset(), (), False)
    assert user.cgroup.version == facts.cgroup.version
    assert not any(v1.writable for v1 in user.cgroup.v1.values())
    assert user.cgroup.v2 is None or not user.cgroup.v2.delegated
    if not user.user_namespaces:
        pytest.skip(f"needs user namespaces: {user.user_namespaces_reason}")
    subprocess.run(["unshare", "--user", "true"], user=12345, group=12345, check=True)


def test_limits_and_no_new_privs_are_those_of_this_process():
    facts = probe_after(
        "import resource, ctypes\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (99, 100))\n"
        "assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0"  # PR_SET_NO_NEW_PRIVS
    )
    assert facts.rlimits["RLIMIT_NOFILE"] == (99, 100)
    assert facts.no_new_privs


def test_inside_a_user_namespace(facts):
    if not facts.user_namespaces:
        pytest.skip(f"needs user namespaces: {facts.user_namespaces_reason}")
    inside = probe_after("", "unshare", "--user", "--map-root-user")
    assert (inside.uid, inside.in_user_namespace, facts.in_user_namespace) == (0, True, False)
    assert inside.capabilities >= {"CAP_SYS_ADMIN", "CAP_MKNOD"}


def test_without_user_namespaces_left(root):
    close = "open('/proc/sys/user/max_user_namespaces', 'w').write('0')"
    facts = probe_after(close, "unshare", "--user", "--map-root-user")  # the sysctl is of this namespace only
    assert (facts.user_namespaces, facts.user_namespaces_reason) == (False, "the sysctl user.max_user_namespaces is 0")


def _mounts(facts: HostFacts) -> list[str]:
    return [facts.cgroup.v2.mount] if facts.cgroup.v2 else sorted({v1.mount for v1 in facts.cgroup.v1.values()})


def test_a_read_only_cgroup_tree_is_not_writable(root, facts):
    if not facts.cgroup.version:
        pytest.skip("needs a cgroup file system")
    remount = "".join(f"mount -o remount,bind,ro {mount} && " for mount in _mounts(facts))
    inside = probe_after("", "unshare", "--mount", "sh", "-c", remount + 'exec "$@"', "sh")
    assert inside.cgroup.version == facts.cgroup.version
    assert not any(v1.writable for v1 in inside.cgroup.v1.values())
    assert inside.cgroup.v2 is None or not inside.cgroup.v2.delegated
    writable = facts.cgroup.v2.delegated if facts.cgroup.v2 else facts.cgroup.v1["memory"].writable
    assert writable, "control: the tree is not writable outside either"


def test_no_cgroup_file_system(root):
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    mounts = [fields[4] for fields in lines if fields[fields.index("-") + 1] in ("cgroup", "cgroup2")]
    unmount = "".join(f"umount -l {mount} && " for mount in reversed(mounts))
    inside = probe_after("", "unshare", "--mount", "sh", "-c", unmount + 'exec "$@"', "sh").cgroup
    assert (inside.version, inside.v1, inside.v2, inside.swap_accounting) == (0, {}, None, False)


@pytest.fixture
def group(root, facts) -> Iterator[str]:
    """The directory of a new memory (v1) or plain (v2) cgroup."""
    if not facts.cgroup.version:
        pytest.skip("needs a cgroup file system")
    mount = facts.cgroup.v2.mount if facts.cgroup.v2 else facts.cgroup.v1["memory"].mount
    path = f"{mount}/kist-test-{uuid.uuid4().hex[:12]}"
    os.mkdir(path)
    yield path
    remove_cgroups([path])


def test_a_bind_mount_of_the_own_cgroup(group, facts):
    """As in a container without a cgroup namespace: the mount shows a part of the tree, /proc/self/cgroup all of it."""
    mount = os.path.dirname(group)
    bind = f'echo $$ > {group}/cgroup.procs && mount --bind {group} {mount} && exec "$@"'
    inside = probe_after("", "unshare", "--mount", "sh", "-c", bind, "sh").cgroup
    place = inside.v2 or inside.v1["memory"]
    assert (place.mount, place.path) == (mount, "/")


def test_a_cgroup_namespace(group, facts):
    enter = f'echo $$ > {group}/cgroup.procs && exec unshare --cgroup "$@"'
    inside = probe_after("", "sh", "-c", enter, "sh").cgroup
    place = inside.v2 or inside.v1["memory"]
    # The mount is older than the namespace and shows more than that: the own cgroup can't be named below it.
    assert (place.mount, place.path) == (os.path.dirname(group), "/")
