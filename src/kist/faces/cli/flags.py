"""The flags of `kist run` and `kist explain`, as data.

The parser, the help, docs/reference/cli.md and the keywords of `kist.run()` all read this one table. Names and meanings
are Docker's where Docker has the flag.
"""

from __future__ import annotations

from kist.faces.cli.command import Flag
from kist.plan import background as g
from kist.plan import mount_values as m
from kist.plan import values as v
from kist.plan import words as w
from kist.plan.request import PROTECTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from kist.faces.cli.command import Group, Parser


def _one(
    name: str, metavar: str, help: str, parse: Parser | None, *, short: str = "", field: str = "", alias: str = ""
) -> Flag:
    return Flag(name, "one", metavar, help, parse, short, field, alias)


def _many(
    name: str, metavar: str, help: str, parse: Parser | None, *, short: str = "", field: str = "", alias: str = ""
) -> Flag:
    return Flag(name, "many", metavar, help, parse, short, field, alias)


def _map(name: str, metavar: str, help: str, parse: Parser | None, *, short: str = "", field: str = "") -> Flag:
    return Flag(name, "map", metavar, help, parse, short, field)


def _bool(name: str, help: str, short: str = "") -> Flag:
    return Flag(name, "bool", "", help, w.boolean, short)


RUN_GROUPS: tuple[Group, ...] = (
    (
        "Container",
        (
            _one("rootfs", "DIR", "Run from this directory instead of an image; it is never written", None),
            _one("name", "NAME", "Name of the container", v.container_name),
            _bool("rm", "Forget the container when it ends"),
            _map("label", "KEY[=VALUE]", "Note something about the container", None, short="l", field="labels"),
            _many("label-file", "FILE", "Read labels from a file, one per line", None, field="labels"),
            _map("annotation", "KEY[=VALUE]", "Add an annotation to the OCI config", v.label, field="annotations"),
            _one("cidfile", "FILE", "Write the container's id to a file", None),
            _one("pull", "WHEN", "Pull the image: always, missing or never", w.choice("always", "missing", "never")),
            _one("platform", "OS/ARCH[/VARIANT]", "Of the image: one that this machine runs, or emulates", v.platform),
            _bool("quiet", "Pull without telling how far it is", "q"),
        ),
    ),
    (
        "Background",
        (
            _bool("detach", "Let it run by itself, and print its id", "d"),
            _one("restart", "POLICY", "Start it again: no, on-failure[:MOST], always or unless-stopped", g.restart),
            _one("log-driver", "NAME", "local keeps what it says for 'kist logs'; none does not", g.log_driver),
            _map("log-opt", "KEY=VALUE", "max-size=20m, max-file=5", g.log_option),
            _one("health-cmd", "COMMAND", "Shell command that says with 0 that it is well", g.health_command),
            _one("health-interval", "DURATION", "Time between two checks (30s)", g.health_time,
                 field="health_interval_s"),
            _one("health-timeout", "DURATION", "A check that takes longer has failed (30s)", g.health_time,
                 field="health_timeout_s"),
            _one("health-retries", "NUMBER", "So many failures in a row make it unhealthy (3)",
                 w.number(1, 1 << 16, unset=0)),
            _one("health-start-period", "DURATION", "Failures do not count so long", g.health_time,
                 field="health_start_period_s"),
            _one("health-start-interval", "DURATION", "Time between two checks within that (5s)", g.health_time,
                 field="health_start_interval_s"),
            _bool("no-healthcheck", "No health check, not even the image's"),
        ),
    ),
    (
        "Process",
        (
            _bool("interactive", "Keep standard input open", "i"),
            _bool("tty", "Give it a terminal", "t"),
            _many("attach", "STREAM", "Connect stdin, stdout or stderr only", v.stream, short="a"),
            _bool("sig-proxy", "Pass signals on to the command (default true)"),
            _one("detach-keys", "KEYS", "Keys that leave it running, unless --rm (ctrl-p,ctrl-q)", v.detach_keys),
            _one("entrypoint", "PROGRAM", "Run this instead of the image's entry point", None),
            _many("env", "KEY[=VALUE]", "Set an environment variable; KEY alone passes yours on", None, short="e"),
            _many("env-file", "FILE", "Read environment variables from a file", None, field="env"),
            _one("workdir", "DIR", "Working directory, made when missing", m.workdir, short="w"),
            _one("user", "USER[:GROUP]", "Run as this user: names or numbers", v.user, short="u"),
            _many("group-add", "GROUP", "Add a supplementary group", v.group),
            _one("umask", "MASK", "Permission bits that new files don't get, octal", v.umask),
            _bool("init", "Run a small init as PID 1 that reaps orphans"),
            _many("ulimit", "NAME=SOFT[:HARD]", "Limit one process: nofile=1024:2048", v.ulimit, field="ulimits"),
            _one("oom-score-adj", "NUMBER", "Whom the kernel kills first (-1000 to 1000)", w.number(-1000, 1000)),
            _one("stop-signal", "SIGNAL", "Signal that asks it to stop (SIGTERM)", v.signal_number),
            _one(
                "stop-timeout", "SECONDS", "Time to stop before it is killed; -1: for ever",
                w.number(0, 2**31, unlimited=True), field="stop_timeout_s",
            ),
            _one("timeout", "DURATION", "Kill it after this long: 90, 1m30s", v.timeout, field="timeout_s"),
        ),
    ),
    (
        "Files",
        (
            _many("volume", "[SOURCE:]TARGET[:OPTIONS]", "Show a volume, a host directory or a file inside", None,
                  short="v", field="volumes"),
            _many("mount", "KEY=VALUE[,KEY=VALUE]", "The same in words: type=volume,source=...,target=...", None,
                  field="mounts"),
            _many("volumes-from", "CONTAINER[:ro]", "With all volumes that another container has", m.volumes_from),
            _many("secret", "NAME[,KEY=VALUE]", "A file in memory, /run/secrets/NAME: target=, mode=, uid=, gid=",
                  m.secret, field="secrets"),
            _many("tmpfs", "TARGET[:OPTIONS]", "An empty directory in memory: /tmp:size=64m", m.tmpfs),
            _bool("read-only", "Make the root file system read-only"),
            _one("shm-size", "SIZE", "Size of /dev/shm (64m)", v.size_or_unset, field="shm_size_bytes"),
            _one("storage-opt", "size=SIZE", "Limit what it writes over its image", v.storage_size,
                 field="storage_opt_size_bytes"),
            _many("device", "SOURCE[:TARGET][:rwm]", "Add a device of the host", m.device, field="devices"),
            _many("device-cgroup-rule", "RULE", "Allow devices by number: 'c 10:229 rwm'", m.device_rule),
        ),
    ),
    (
        "Limits",
        (
            _one("memory", "SIZE", "Memory limit, at least 6m", v.memory, short="m", field="memory_bytes"),
            _one("memory-swap", "SIZE", "Limit of memory and swap together; -1: no limit", v.memory_swap,
                 field="memory_swap_bytes"),
            _one("memory-reservation", "SIZE", "Memory it keeps when the host runs short", v.memory,
                 field="memory_reservation_bytes"),
            _one("memory-swappiness", "PERCENT", "How readily its memory is swapped (0 to 100)",
                 w.number(0, 100, unset=-1)),
            _bool("oom-kill-disable", "Wait instead of kill when memory is short (cgroup v1)"),
            _one("cpus", "NUMBER", "How many CPUs' worth of time: 1.5", v.cpus),
            _one("cpu-shares", "NUMBER", "Share of CPU time under contention (1024)",
                 w.number(2, 262144, unset=0), short="c"),
            _one("cpu-period", "MICROSECONDS", "Period in which --cpu-quota holds",
                 w.number(1000, 1000000, unset=0), field="cpu_period_us"),
            _one("cpu-quota", "MICROSECONDS", "CPU time in each period; -1: no limit",
                 w.number(1000, v.INT64 // 1000, unset=0, unlimited=True), field="cpu_quota_us"),
            _one("cpuset-cpus", "LIST", "CPUs it may run on: 0-3,5", v.cpu_list),
            _one("cpuset-mems", "LIST", "NUMA nodes whose memory it may use", v.cpu_list),
            _one("pids-limit", "NUMBER", "Most processes and threads; -1: no limit", v.pids_limit),
            _one("blkio-weight", "WEIGHT", "Share of disk time (10 to 1000)", w.number(10, 1000, unset=0)),
            _many("blkio-weight-device", "DEVICE:WEIGHT", "The same for one disk", m.device_weight),
            _many("device-read-bps", "DEVICE:SIZE", "Bytes per second read from a disk", m.device_bps),
            _many("device-write-bps", "DEVICE:SIZE", "Bytes per second written to a disk", m.device_bps),
            _many("device-read-iops", "DEVICE:NUMBER", "Reads per second from a disk", m.device_iops),
            _many("device-write-iops", "DEVICE:NUMBER", "Writes per second to a disk", m.device_iops),
            _one("cgroup-parent", "PATH", "Make its cgroup below this one", m.cgroup_parent),
        ),
    ),
    (
        "Privileges",
        (
            _many("cap-add", "CAPABILITY", "Add a capability, or ALL", v.capability),
            _many("cap-drop", "CAPABILITY", "Drop a capability, or ALL", v.capability),
            _many("security-opt", "KEY[=VALUE]", "seccomp=FILE|unconfined, no-new-privileges=false, ...", None),
            _bool("privileged", "Give it nearly all of the host's powers"),
            _map("sysctl", "KEY=VALUE", "Set a kernel parameter of its namespaces", v.sysctl, field="sysctls"),
        ),
    ),
    (
        "Namespaces",
        (
            _one("userns", "MODE", "User namespace: private or host", v.namespace("private", "host")),
            _one("pid", "MODE", "PID namespace: private, host, container:NAME or ns:PATH",
                 v.namespace("private", "host", "join")),
            _one("ipc", "MODE", "IPC namespace: none, private, shareable or host",
                 v.namespace("none", "private", "shareable", "host")),
            _one("uts", "MODE", "Host name namespace: private or host", v.namespace("private", "host")),
            _one("cgroupns", "MODE", "Cgroup namespace: private or host", v.namespace("private", "host")),
            _one("time-offset", "DURATION", "Move its clocks since boot: 1h, boottime=1h", v.time_offset),
        ),
    ),
    (
        "Network",
        (
            _many("network", "NETWORK", "none (bridge where -p, --ip ... need one), host, bridge, pasta, one of "
                  "network create, container:NAME, ns:PATH",
                  None, alias="net"),
            _one("ip", "IP", "IPv4 address in the network", v.ipv4),
            _one("ip6", "IP", "IPv6 address in the network", v.ipv6),
            _one("mac-address", "MAC", "MAC address in the network", v.mac_address),
            _many("network-alias", "NAME", "Another name in the network", v.hostname, alias="net-alias"),
            _one("net-rate", "RATE", "How fast its networks are: 10mbit, in=10mbit,out=1gbit; 0: no limit", v.net_rate),
            _many("publish", "[[IP:]PORT:]PORT[/PROTOCOL]", "Let the host's port lead to the container's", v.publish,
                  short="p"),
            _bool("publish-all", "Publish all ports of --expose, at ports that are free", "P"),
            _many("expose", "PORT[/PROTOCOL]", "Name a port of the container's for --publish-all", v.expose),
            Flag("allow-net", "words", "NAME|ADDRESS[:PORT]", "Let it reach nothing else: names, *.names, addresses",
                 v.allow_net),
            _one("hostname", "NAME", "Host name (the container's id)", v.hostname, short="h"),
            _one("domainname", "NAME", "NIS domain name", v.hostname),
            _many("add-host", "HOST:IP", "Add a line to /etc/hosts; host-gateway: the host's address", v.add_host),
            _many("dns", "IP", "Name server", v.dns),
            _many("dns-search", "DOMAIN", "Search domain; '.': none", v.dns_search),
            _many("dns-option", "OPTION", "Option of resolv.conf(5)", v.dns_option, alias="dns-opt"),
        ),
    ),
    (
        "Only in kist",
        (
            _bool("allow-unenforced", "Run although a protection can't be enforced, and say so"),
            Flag("without", "words", "NAME[,NAME]", "Leave a protection out, for a lesson", v.without),
        ),
    ),
)  # fmt: skip

RUN_NOTES = (("Protections that --without leaves out", PROTECTIONS),)

# Docker's flags that kist does not have, and why.
LATER: Mapping[str, str] = {
    **dict.fromkeys(
        ("link", "link-local-ip"),
        "a network has names and addresses: --network, --network-alias, --ip",
    ),
    **dict.fromkeys(("cpu-rt-period", "cpu-rt-runtime"), "real-time scheduling of cgroup v1 is not offered"),
    **dict.fromkeys(
        ("cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops", "isolation"), "it is for Windows containers"
    ),
    "volume-driver": "local is the only one",
    "disable-content-trust": "kist looks at digests, not at signatures",
    "gpus": "device requests come later; --device adds single devices",
    "kernel-memory": "the kernel no longer has this limit",
    "runtime": "kist is the runtime",
    "use-api-socket": "there is no daemon",
}  # fmt: skip
LATER_SHORT: Mapping[str, str] = {}
