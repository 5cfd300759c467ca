"""`kist doctor`: what this host allows, what is missing, why it matters and how to fix it. Changes nothing."""

from __future__ import annotations

import os

from kist.engine.state import run_directory
from kist.kernel.probe import probe
from kist.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from kist.plan.facts import HostFacts

OK, LIMITED, MISSING = "ok", "limited", "missing"
CHOICES = {"Verdict": (OK, LIMITED, MISSING)}
Verdict = str


class Finding(Value):
    """`missing`: no container can be made without it; `limited`: something will be refused or done in another way."""

    name: str
    verdict: Verdict
    found: str
    matters: str = ""  # what it is for
    fix: str = ""


def examine() -> tuple[Finding, ...]:
    facts = probe()
    return tuple(_findings(facts))


def able(findings: tuple[Finding, ...]) -> bool:
    """Whether containers can be made at all."""
    return all(finding.verdict != MISSING for finding in findings)


def _findings(facts: HostFacts) -> Iterator[Finding]:
    yield _kernel(facts)
    yield _who(facts)
    yield _user_namespaces(facts)
    yield _subordinate_ids(facts)
    yield _cgroup(facts)
    yield from _cgroup_details(facts)
    yield _overlay(facts)
    yield _erofs(facts)
    yield _gzip()
    yield _seccomp(facts)
    yield _time(facts)
    if "CAP_NET_ADMIN" in facts.capabilities and not facts.in_user_namespace:
        yield _firewall()
    yield _rlimits(facts)
    yield _directory()


def _kernel(facts: HostFacts) -> Finding:
    version = f"Linux {facts.kernel[0]}.{facts.kernel[1]} on {facts.arch}"
    matters = "mounts are made detached and moved in, read-only for all mounts below: mount_setattr(2)"
    if not facts.mount_setattr:
        return Finding("kernel", MISSING, version, matters, "a kernel of 5.12 or newer")
    return Finding("kernel", OK, version, matters)


def _who(facts: HostFacts) -> Finding:
    if facts.uid:
        return Finding(
            "user", OK, f"{facts.user_name or facts.uid}, an ordinary user", "containers get a user namespace"
        )
    if facts.in_user_namespace:
        return Finding("user", OK, "root of a user namespace", "no device nodes can be made, some mounts are refused")
    from kist.plan.facts import CAPABILITIES

    absent = [name for name in CAPABILITIES[: facts.cap_last + 1] if name not in facts.capabilities]
    if absent:
        fix = "start the shell, or the container around it, with all capabilities"
        return Finding("user", LIMITED, f"root without {', '.join(absent)}", "a container can get no more", fix)
    return Finding("user", OK, "root, with all capabilities")


def _user_namespaces(facts: HostFacts) -> Finding:
    matters = "containers without root, and --userns private"
    if facts.user_namespaces:
        return Finding("user namespaces", OK, "can be made", matters)
    fix = {
        "unprivileged_userns_clone": "sysctl -w kernel.unprivileged_userns_clone=1",
        "max_user_namespaces": "sysctl -w user.max_user_namespaces=10000",
        "apparmor": "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for kist",
    }
    chosen = next((line for word, line in fix.items() if word in facts.user_namespaces_reason.lower()), "run as root")
    verdict = MISSING if facts.uid else LIMITED
    return Finding("user namespaces", verdict, facts.user_namespaces_reason, matters, chosen)


def _subordinate_ids(facts: HostFacts) -> Finding:
    matters = "more than one user inside a container (apt, postgres, --user 1000)"
    name = facts.user_name or str(facts.uid)
    if facts.uid == 0:
        found = f"{sum(r.size for r in facts.subuids)} for root" if facts.subuids else "kist's own range"
        return Finding("subordinate ids", OK, found, "ids of --userns private")
    if not (facts.subuids and facts.subgids):
        fix = f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        return Finding("subordinate ids", LIMITED, f"none for {name}: one id inside", matters, fix)
    if not (facts.newuidmap and facts.newgidmap):
        fix = "as root: apt-get install uidmap"
        return Finding("subordinate ids", LIMITED, "no newuidmap and newgidmap: one id inside", matters, fix)
    if facts.no_new_privs:
        fix = "start from a shell without no_new_privs"
        return Finding("subordinate ids", LIMITED, "no_new_privs is set: set-uid helpers don't work", matters, fix)
    return Finding("subordinate ids", OK, f"{sum(r.size for r in facts.subuids)} for {name}", matters)


def _cgroup(facts: HostFacts) -> Finding:
    matters = "limits (--memory, --cpus, --pids-limit) and what a container used"
    cgroup = facts.cgroup
    if cgroup.version == 0:
        return Finding("cgroups", LIMITED, "no cgroup file system", matters, "mount -t cgroup2 none /sys/fs/cgroup")
    if cgroup.version == 1:
        writable = sorted(name for name, v1 in cgroup.v1.items() if v1.writable and "=" not in name)
        if writable:
            return Finding("cgroups", OK, f"v1: {', '.join(writable)}", matters)
        return Finding("cgroups", LIMITED, "v1, not this user's to use", matters,
                       "run as root, or boot with systemd.unified_cgroup_hierarchy=1")  # fmt: skip
    v2 = cgroup.v2
    if v2 and v2.delegated:
        return Finding(
            "cgroups", OK, f"v2: {', '.join(sorted(v2.available)) or 'no controllers'} at {v2.base}", matters
        )
    fix = "systemd-run --user --scope -p Delegate=yes kist ..." if cgroup.systemd else "run as root"
    return Finding("cgroups", LIMITED, f"v2, {v2.base if v2 else '/'} is not delegated to this user", matters, fix)


def _cgroup_details(facts: HostFacts) -> Iterator[Finding]:
    cgroup = facts.cgroup
    if cgroup.version and not cgroup.swap_accounting:
        yield Finding("swap accounting", LIMITED, "the kernel does not count swap per cgroup", "--memory-swap",
                      "boot with swapaccount=1")  # fmt: skip
    if cgroup.version and not cgroup.io_weight:
        yield Finding("I/O weights", LIMITED, "no disk's scheduler weighs cgroups", "--blkio-weight",
                      "echo bfq > /sys/block/DISK/queue/scheduler")  # fmt: skip


def _overlay(facts: HostFacts) -> Finding:
    matters = "images are never written: a layer on top takes the changes"
    if "overlay" not in _filesystems():
        fix = "modprobe overlay"
        return Finding("overlay", MISSING, "not in this kernel, or its module not loaded", matters, fix)
    if facts.uid and not facts.overlay_in_userns:
        fix = "a kernel of 5.11 or newer, or run as root"
        return Finding("overlay", MISSING, "not for user namespaces before Linux 5.11", matters, fix)
    return Finding("overlay", OK, "can be mounted", matters)


def _erofs(facts: HostFacts) -> Finding:
    matters = "layers are mounted as they are instead of unpacked"
    if facts.uid or facts.in_user_namespace:
        return Finding("erofs", LIMITED, "only root may mount it: layers are unpacked", matters, "run as root")
    if facts.kernel < (6, 12):
        return Finding("erofs", LIMITED, "from files since Linux 6.12: layers are unpacked", matters, "a newer kernel")
    if "erofs" not in _filesystems():
        return Finding("erofs", LIMITED, "not in this kernel, or its module not loaded", matters, "modprobe erofs")
    return Finding("erofs", OK, "can be mounted from files", matters)


def _gzip() -> Finding:
    from kist.store.compression import gzip_module

    module, matters = gzip_module(), "half of the time that an image takes to be ready"
    if module == "zlib":
        return Finding("gzip", LIMITED, "undone by zlib, at half the speed of isal", matters, "pip install isal")
    return Finding("gzip", OK, f"undone by {module}", matters)


def _seccomp(facts: HostFacts) -> Finding:
    matters = "dangerous system calls are denied"
    if not facts.seccomp:
        return Finding("seccomp", LIMITED, "no filters: --security-opt seccomp=unconfined is needed", matters,
                       "a kernel with CONFIG_SECCOMP_FILTER")  # fmt: skip
    return Finding("seccomp", OK, "filters work", matters)


def _time(facts: HostFacts) -> Finding:
    if not facts.time_namespace:
        return Finding("time namespaces", LIMITED, "none", "--time-offset", "a kernel of 5.6 or newer")
    return Finding("time namespaces", OK, "can be made", "--time-offset")


def _firewall() -> Finding:
    from kist.kernel.netlink import Netlink
    from kist.network.others import blocked
    from kist.plan.netlink import NETFILTER

    matters = "containers in networks reach what is outside, and are reached"
    with Netlink(NETFILTER) as connection:
        found = blocked(connection)
    if not found:
        return Finding("firewall", OK, "none of others drops what networks forward", matters)
    names, fix = " and ".join([one.what for one in found]), "; ".join([one.command for one in found if not one.later])
    words = "drops what is forwarded" + ("" if fix else ": who starts a container in a network lets kist's through")
    return Finding("firewall", LIMITED if fix else OK, f"{names} {words}", matters, fix)


def _rlimits(facts: HostFacts) -> Finding:
    soft, hard = facts.rlimits.get("RLIMIT_NOFILE", (-1, -1))
    matters = "--ulimit: a container's limits end where the caller's do"
    if "CAP_SYS_RESOURCE" in facts.capabilities:
        return Finding("resource limits", OK, "can be raised", matters)
    fix = "" if facts.uid else "start kist with CAP_SYS_RESOURCE"
    return Finding(
        "resource limits", LIMITED if not facts.uid else OK, f"at most {hard} open files (now {soft})", matters, fix
    )


def _directory() -> Finding:
    path = run_directory(os.environ)
    matters = "the state of running containers"
    parent = path
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.access(parent, os.W_OK):
        return Finding("run directory", MISSING, f"{parent} cannot be written to", matters, "set KIST_RUN_DIR")
    return Finding("run directory", OK, path, matters)


def _filesystems() -> frozenset[str]:
    with open("/proc/filesystems", encoding="ascii") as file:
        return frozenset(line.split()[-1] for line in file if line.strip())


def render(findings: tuple[Finding, ...], *, width: int = 80, colour: bool = False) -> str:
    """For people: a line each, and below it what is wrong and how to mend it."""
    import textwrap

    colours = {OK: 32, LIMITED: 33, MISSING: 31}
    lines = []
    for finding in findings:
        verdict = f"{finding.verdict:<8}"
        if colour:
            verdict = f"\033[{colours[finding.verdict]}m{verdict}\033[0m"
        first, *more = textwrap.wrap(finding.found, max(width - 27, 20)) or [""]
        lines.append(f"{verdict} {finding.name:<17} {first}")
        lines += [f"{'':27}{line}" for line in more]
        if finding.verdict != OK:
            for word, text in (("for:", finding.matters), ("fix:", finding.fix)):
                if text:
                    wrapped = textwrap.wrap(text, max(width - 32, 20))
                    lines += [f"{'':27}{word if not i else '':5}{line}" for i, line in enumerate(wrapped)]
    return "\n".join(lines)
