"""All about a container in docker's form. Source: Docker Engine API, "Inspect a container"."""

from __future__ import annotations

from kist.plan.words import UNLIMITED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kist.engine.containers import Container
    from kist.network.network import Network
    from kist.network.places import Place
    from kist.plan.ports import Port
    from kist.plan.request import DeviceRate, MountRequest, Publish, RunRequest

NEVER = "0001-01-01T00:00:00Z"  # Go's time of nothing


def time_text(ns: int) -> str:
    """RFC 3339 with nine digits, UTC."""
    import time

    if ns <= 0:
        return NEVER
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 10**9)) + f".{ns % 10**9:09d}Z"


def described(container: Container, place: Place | None, *, size: bool = False) -> dict[str, object]:
    """`place`: see network/places.py. `size`: SizeRw, too."""
    config, request = container.config, container.config.request
    argv = (*(request.entrypoint or ()), *request.command)
    started, log = container.started, f"{container.directory}/log" if container.kept else ""
    found: dict[str, object] = {
        "Id": config.id,
        "Created": time_text(config.created_ns),
        "Path": argv[0] if argv else "",
        "Args": list(argv[1:]),
        "State": state(container),
        "Image": image_id(config.image),
        "Name": f"/{config.name}",
        "RestartCount": started.restarts if started else 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "LogPath": log if request.log_driver != "none" else "",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": request.security_opt.apparmor,
        "ExecIDs": None,
        "HostConfig": host_config(request),
        "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": f"{container.directory}/rw"} if log else None},
        "Mounts": [mount(one) for one in mounts_of(request)],
        "Config": config_of(container),
        "NetworkSettings": network_settings(container, place),
    }
    if size:
        found["SizeRw"] = size_of(container)
    return found


def health(container: Container) -> dict[str, object]:
    """Nothing where there is no health check."""
    from kist.engine.health import health_of

    found = health_of(container)
    if found is None:
        return {}
    log = [{"Start": time_text(c.started_ns), "End": time_text(c.ended_ns), "ExitCode": c.code, "Output": c.output}
           for c in found.checks]  # fmt: skip
    return {"Health": {"Status": found.status, "FailingStreak": found.streak, "Log": log}}


def image_id(manifest: str) -> str:
    """Of the image with that manifest; the manifest's own digest when it is gone."""
    from kist.errors import KistError
    from kist.store.images import ImageStore

    try:
        return ImageStore().get(manifest).id if manifest else ""
    except KistError:
        return manifest


def state(container: Container) -> dict[str, object]:
    status, started, ended = container.status, container.started, container.ended
    running = status in ("running", "paused")
    return {
        "Status": status,
        "Running": running,
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": bool(ended and ended.oom_killed),
        "Dead": False,
        "Pid": container.pid if running else 0,
        "ExitCode": ended.code if ended else 0,
        "Error": ended.error if ended else "",
        "StartedAt": time_text(started.at_ns if started else 0),
        "FinishedAt": time_text(ended.ended_ns if ended else 0),
        **health(container),
    }


def size_of(container: Container) -> int:
    """Bytes that it wrote over its image, in blocks as du(1) counts. 0 for one that keeps nothing."""
    from kist.store.usage import tree_bytes

    return tree_bytes(f"{container.directory}/rw", set()) if container.kept else 0


def mounts_of(request: RunRequest) -> tuple[MountRequest, ...]:
    return (*request.volumes, *request.mounts, *request.tmpfs)


def mount(one: MountRequest) -> dict[str, object]:
    found: dict[str, object] = {
        "Type": one.kind, "Source": one.source, "Destination": one.target,
        "Mode": ",".join(one.options) or one.relabel, "RW": not one.readonly, "Propagation": one.propagation,
    }  # fmt: skip
    if one.kind == "volume":
        found["Name"] = one.source
    elif one.kind == "bind":
        found["Propagation"] = one.propagation or "rprivate"
    return found


def config_of(container: Container) -> dict[str, object]:
    request = container.config.request
    exposed: dict[str, object] = {
        f"{p}/{one.protocol}": {} for one in (*request.expose, *request.publish) for p in ports_in(one)
    }
    signal = request.stop_signal
    return {
        "Hostname": request.hostname or container.id[:12],
        "Domainname": request.domainname,
        "User": request.user,
        "AttachStdin": "stdin" in request.attach,
        "AttachStdout": not request.detach and request.attach in ((), ("stdout",)),
        "AttachStderr": not request.detach and request.attach in ((), ("stderr",)),
        "ExposedPorts": exposed,
        "Tty": request.tty,
        "OpenStdin": request.interactive,
        "StdinOnce": False,
        "Env": list(request.env),
        "Cmd": list(request.command) or None,
        "Image": request.image,
        "Volumes": {path: {} for path in request.image_volumes} or None,
        "WorkingDir": request.workdir,
        "Entrypoint": list(request.entrypoint) if request.entrypoint else None,
        "Labels": dict(request.labels),
        "StopSignal": str(signal) if signal else "SIGTERM",
        **({"StopTimeout": request.stop_timeout_s} if request.stop_timeout_s is not None else {}),
    }


def host_config(request: RunRequest) -> dict[str, object]:
    """Limits, privileges and what of the host it may see."""
    r = request

    def rates(found: Iterable[DeviceRate]) -> list[dict[str, object]]:
        return [{"Path": one.path, "Rate": one.rate} for one in found]

    return {
        "Binds": [bind_text(m) for m in r.volumes] or None,
        "ContainerIDFile": r.cidfile,
        "LogConfig": {"Type": r.log_driver, "Config": {key: str(value) for key, value in r.log_opt.items()}},
        "NetworkMode": r.network,
        **_allowed(r),
        "PortBindings": port_bindings(r.publish),
        "RestartPolicy": {"Name": r.restart.policy, "MaximumRetryCount": r.restart.most},
        "AutoRemove": r.rm,
        "CapAdd": list(r.cap_add) or None,
        "CapDrop": list(r.cap_drop) or None,
        "CgroupnsMode": r.cgroupns or "private",
        "Dns": list(r.dns),
        "DnsOptions": list(r.dns_option),
        "DnsSearch": list(r.dns_search),
        "ExtraHosts": [f"{host}:{address}" for host, address in r.add_host] or None,
        "GroupAdd": list(r.group_add) or None,
        "IpcMode": r.ipc or "private",
        "OomScoreAdj": r.oom_score_adj or 0,
        "PidMode": r.pid,
        "Privileged": r.privileged,
        "PublishAllPorts": r.publish_all,
        "ReadonlyRootfs": r.read_only,
        "SecurityOpt": _security(r),
        "Tmpfs": {m.target: ",".join(m.options) for m in r.tmpfs},
        "UTSMode": r.uts,
        "UsernsMode": r.userns,
        "ShmSize": r.shm_size_bytes or 64 << 20,
        "Sysctls": dict(r.sysctls),
        "Runtime": "kist",
        "CpuShares": r.cpu_shares or 0,
        "Memory": r.memory_bytes or 0,
        "NanoCpus": round((r.cpus or 0) * 10**9),
        "CgroupParent": r.cgroup_parent,
        "BlkioWeight": r.blkio_weight or 0,
        "BlkioWeightDevice": [{"Path": d.path, "Weight": d.rate} for d in r.blkio_weight_device],
        "BlkioDeviceReadBps": rates(r.device_read_bps),
        "BlkioDeviceWriteBps": rates(r.device_write_bps),
        "BlkioDeviceReadIOps": rates(r.device_read_iops),
        "BlkioDeviceWriteIOps": rates(r.device_write_iops),
        "CpuPeriod": r.cpu_period_us or 0,
        "CpuQuota": r.cpu_quota_us or 0,
        "CpusetCpus": ",".join(map(str, r.cpuset_cpus)),
        "CpusetMems": ",".join(map(str, r.cpuset_mems)),
        "Devices": [
            {"PathOnHost": d.source, "PathInContainer": d.target, "CgroupPermissions": d.access} for d in r.devices
        ],
        "MemoryReservation": r.memory_reservation_bytes or 0,
        "MemorySwap": r.memory_swap_bytes or (2 * r.memory_bytes if r.memory_bytes else 0),
        "MemorySwappiness": r.memory_swappiness,
        "OomKillDisable": r.oom_kill_disable,
        "Init": r.init,
        "PidsLimit": None if r.pids_limit is None else max(r.pids_limit, UNLIMITED),
        "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in r.ulimits],
    }


def _allowed(request: RunRequest) -> dict[str, object]:
    """kist's own: nothing without --allow-net."""
    if not request.allow_net:
        return {}
    from kist.plan.egress import words

    return {"AllowNet": [words(rule) for rule in request.allow_net]}


def _security(request: RunRequest) -> list[str] | None:
    found, options = [], request.security_opt
    if options.seccomp != "default":
        found.append(f"seccomp={options.seccomp}")
    if not options.no_new_privileges:
        found.append("no-new-privileges=false")
    if options.systempaths_unconfined:
        found.append("systempaths=unconfined")
    return found + [f"label={word}" for word in options.label] or None


def bind_text(one: MountRequest) -> str:
    options = [word for word in ("ro" if one.readonly else "", one.propagation, one.relabel) if word]
    return ":".join([one.source, one.target, *([",".join(options)] if options else [])])


def ports_in(one: Publish) -> range:
    return range(one.first, one.last + 1)


def port_bindings(published: Iterable[Publish]) -> Mapping[str, object]:
    """As asked for: "" is any port that is free."""
    from kist.plan.rtnetlink import address_text

    found: dict[str, list[dict[str, str]]] = {}
    for one in published:
        for offset, port in enumerate(ports_in(one)):
            host = str(one.host_first + (offset if one.last > one.first else 0)) if one.host_first else ""
            binding = {"HostIp": address_text(one.address) if one.address else "", "HostPort": host}
            found.setdefault(f"{port}/{one.protocol}", []).append(binding)
    return found


def bindings(ports: Iterable[Port]) -> dict[str, list[dict[str, str]]]:
    """As they are, of a container that runs."""
    from kist.plan.rtnetlink import address_text

    found: dict[str, list[dict[str, str]]] = {}
    for port in sorted(ports, key=lambda p: (p.target_port, p.protocol, len(p.address), p.port)):
        binding = {"HostIp": address_text(port.address), "HostPort": str(port.port)}
        found.setdefault(f"{port.target_port}/{port.protocol}", []).append(binding)
    return found


def network_settings(container: Container, place: Place | None) -> dict[str, object]:
    from kist.plan.rtnetlink import address_text, mac_text

    networks: dict[str, dict[str, object]] = {}
    for holder, network in place.holders if place else ():
        networks[network.name] = {
            "Aliases": list(holder.aliases) or None,
            "MacAddress": mac_text(holder.mac) if holder.mac else "",
            "NetworkID": network.id,
            "IPAddress": address_text(holder.address4) if holder.address4 else "",
            "GlobalIPv6Address": address_text(holder.address6) if holder.address6 else "",
            **_subnet(network, 4, ("Gateway", "IPPrefixLen")),
            **_subnet(network, 6, ("IPv6Gateway", "GlobalIPv6PrefixLen")),
        }
    asked = container.config.request.network
    nothing = {"IPAddress": "", "IPPrefixLen": 0, "Gateway": "", "MacAddress": "", "GlobalIPv6Address": "",
               "GlobalIPv6PrefixLen": 0, "IPv6Gateway": ""}  # fmt: skip
    first = next(iter(networks.values()), nothing)
    running = container.status in ("running", "paused")
    return {
        "SandboxKey": f"/proc/{container.pid}/ns/net" if running and asked != "host" else "",
        "Ports": bindings(place.ports) if place else {},
        **{key: first[key] for key in nothing},
        "Networks": networks or {asked: {**nothing, "NetworkID": ""}},
    }


def _subnet(network: Network, family: int, names: tuple[str, str]) -> dict[str, object]:
    from kist.plan.rtnetlink import address_text

    subnet = network.subnet(family)
    return dict(zip(names, (address_text(subnet.gateway), subnet.prefix) if subnet else ("", 0), strict=True))
