"""Hosts to compile for: root on cgroup v2 and v1, an ordinary user with subordinate ids and one without.
Vary them with replace(ROOT_V2, kernel=(5, 12))."""

from kist.plan.facts import CAPABILITIES, CgroupFacts, CgroupV1, CgroupV2, HostFacts, IdRange
from kist.value import replace

CONTROLLERS = frozenset({"cpuset", "cpu", "io", "memory", "pids"})

ROOT_V2 = HostFacts(
    kernel=(6, 12),
    arch="x86_64",
    uid=0,
    gid=0,
    groups=(0,),
    user_name="root",
    capabilities=frozenset(CAPABILITIES),
    cap_last=40,
    no_new_privs=False,
    user_namespaces=True,
    user_namespaces_reason="",
    in_user_namespace=False,
    subuids=(),
    subgids=(),
    newuidmap="/usr/bin/newuidmap",
    newgidmap="/usr/bin/newgidmap",
    time_namespace=True,
    seccomp=True,
    lsm=(),
    cgroup=CgroupFacts(
        version=2,
        v2=CgroupV2(
            mount="/sys/fs/cgroup",
            path="/user.slice/user-0.slice/session-1.scope",
            base="/",
            base_is_root=True,
            available=CONTROLLERS,
            enabled=CONTROLLERS,
            delegated=True,
            other_processes=False,
        ),
        systemd=True,
        swap_accounting=True,
    ),
    nofile_max=1048576,
    rlimits={"RLIMIT_NOFILE": (1024, 1048576), "RLIMIT_NPROC": (63000, 63000), "RLIMIT_CORE": (0, -1)},
    memory_total_bytes=8 << 30,
    cpus=2,
)

ROOT_V1 = replace(
    ROOT_V2,
    cgroup=CgroupFacts(
        version=1,
        v1={
            name: CgroupV1(mount=f"/sys/fs/cgroup/{name}", path="/", writable=True)
            for name in ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
        },
        swap_accounting=True,
    ),
)

USER_V2 = replace(
    ROOT_V2,
    uid=1000,
    gid=1000,
    groups=(1000,),
    user_name="ann",
    capabilities=frozenset(),
    subuids=(IdRange(100000, 65536),),
    subgids=(IdRange(100000, 65536),),
    cgroup=CgroupFacts(
        version=2,
        v2=CgroupV2(
            mount="/sys/fs/cgroup",
            path="/user.slice/user-1000.slice/session-2.scope",
            base="/user.slice/user-1000.slice/session-2.scope",
            base_is_root=False,
            available=frozenset({"memory", "pids"}),
            enabled=frozenset(),
            delegated=False,
            other_processes=True,
        ),
        systemd=True,
        swap_accounting=True,
    ),
)

# Neither subordinate ids nor newuidmap: one id is all this user can map.
USER_ONE_ID = replace(USER_V2, subuids=(), subgids=(), newuidmap="", newgidmap="")
