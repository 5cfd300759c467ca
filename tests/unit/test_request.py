"""From a command line to a RunRequest, by the one table of flags."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kist.codec import decode, plain
from kist.errors import InvalidInput, KistError, NotFound
from kist.faces.cli.flags import LATER, RUN_GROUPS
from kist.faces.cli.parse import HelpAsked, flags_of, parse
from kist.faces.cli.request import Caller, read_text, run_request, this_process
from kist.faces.cli.run import COMMAND
from kist.plan.request import (
    AllowRule,
    DeviceRate,
    DeviceRequest,
    DeviceRule,
    MountRequest,
    NetRate,
    Publish,
    Restart,
    RunRequest,
    SecretRequest,
    SecurityOpt,
    Ulimit,
)

FLAGS = list(flags_of(COMMAND))


def request(*argv: str, files: Mapping[str, str] = {}, environ: Mapping[str, str] = {}) -> RunRequest:
    parsed = parse(COMMAND, argv)
    caller = Caller(environ=environ, directory=lambda: "/home/ann", read=lambda _flag, path: files[path])
    return run_request(parsed.given, parsed.arguments, caller)


def test_an_image_and_its_command() -> None:
    assert request("host", "ls", "-l") == RunRequest(image="host", command=("ls", "-l"))
    assert request("--rootfs", "x", "ls") == RunRequest(rootfs="/home/ann/x", command=("ls",))
    assert request("--rootfs", "/x") == RunRequest(rootfs="/x")


def test_something_to_run_is_needed() -> None:
    with pytest.raises(InvalidInput, match="missing"):
        request("--rm")


EVERY_FLAG = """
--name web --rm -l a=1 -l a=2 --annotation b=3 --cidfile id --pull never --platform linux/aarch64/V8 -q
-d --restart on-failure:2 --log-driver none --log-opt max-size=1m --log-opt max-file=2
-i -t -a STDOUT --sig-proxy=false --detach-keys ctrl-a --entrypoint sh -e A=1 -w /w/ -u 1:2 --group-add 7 --umask 027
--init --ulimit nofile=1:2 --oom-score-adj -5 --stop-signal TERM --stop-timeout 3 --timeout 1m
--volumes-from web:ro --secret key
-v ./a:/b:ro --mount type=bind,src=/c,dst=/d --tmpfs /t:size=1m --read-only --shm-size 2m --storage-opt size=3m
--device /dev/fuse --device-cgroup-rule c\t1:3\tr
-m 64m --memory-swap 128m --memory-reservation 32m --memory-swappiness 5 --oom-kill-disable -c 512
--cpu-period 1000 --cpu-quota 2000 --cpuset-cpus 0-1 --cpuset-mems 0 --pids-limit 9 --blkio-weight 10
--blkio-weight-device /dev/a:11 --device-read-bps /dev/a:1k --device-write-bps /dev/a:2k --device-read-iops /dev/a:3
--device-write-iops /dev/a:4 --cgroup-parent /p
--cap-add net_raw --cap-drop all --security-opt no-new-privileges=false --privileged --sysctl net.core.somaxconn=1
--userns host --pid host --ipc none --uts private --cgroupns host --time-offset 5
--network red --network blue --ip 10.1.0.2 --ip6 fd00::2 --mac-address 02:00:00:00:00:01 --network-alias db
--net-rate in=8kbit,out=1gbit
-p 127.0.0.1:8000-8002:80/udp -P --expose 7
-h box --domainname dom --add-host a:1.2.3.4 --dns 1.1.1.1 --dns-search b --dns-option ndots:1
--health-cmd true --health-interval 1 --health-timeout 2 --health-retries 4 --health-start-period 5
--health-start-interval 6 --no-healthcheck
--allow-unenforced --without pidns,netns --without netns
"""


def test_every_flag_reaches_its_field() -> None:
    argv = [word.replace("\t", " ") for word in EVERY_FLAG.replace("\n", " ").split(" ") if word]
    made = request(*argv, "host")
    assert made == RunRequest(
        image="host",
        name="web",
        rm=True,
        labels={"a": "2"},
        annotations={"b": "3"},
        cidfile="/home/ann/id",
        pull="never",
        platform="linux/arm64/v8",
        quiet=True,
        detach=True,
        restart=Restart("on-failure", 2),
        log_driver="none",
        log_opt={"max-size": 1 << 20, "max-file": 2},
        health_cmd=("/bin/sh", "-c", "true"),
        no_healthcheck=True,
        health_interval_s=1.0,
        health_timeout_s=2.0,
        health_start_period_s=5.0,
        health_start_interval_s=6.0,
        health_retries=4,
        interactive=True,
        tty=True,
        attach=("stdout",),
        sig_proxy=False,
        detach_keys=b"\x01",
        entrypoint=("sh",),
        env=("A=1",),
        workdir="/w",
        user="1:2",
        group_add=("7",),
        umask=0o27,
        init=True,
        ulimits=(Ulimit("nofile", 1, 2),),
        oom_score_adj=-5,
        stop_signal=15,
        stop_timeout_s=3,
        timeout_s=60.0,
        volumes=(MountRequest(kind="bind", source="/home/ann/a", target="/b", readonly=True, create_source=True),),
        mounts=(MountRequest(kind="bind", source="/c", target="/d"),),
        tmpfs=(MountRequest(kind="tmpfs", target="/t", size_bytes=1 << 20),),
        volumes_from=(("web", True),),
        secrets=(SecretRequest("key", "/run/secrets/key"),),
        read_only=True,
        shm_size_bytes=2 << 20,
        storage_opt_size_bytes=3 << 20,
        devices=(DeviceRequest("/dev/fuse", "/dev/fuse"),),
        device_cgroup_rule=(DeviceRule("c", 1, 3, "r"),),
        memory_bytes=64 << 20,
        memory_swap_bytes=128 << 20,
        memory_reservation_bytes=32 << 20,
        memory_swappiness=5,
        oom_kill_disable=True,
        cpu_shares=512,
        cpu_period_us=1000,
        cpu_quota_us=2000,
        cpuset_cpus=(0, 1),
        cpuset_mems=(0,),
        pids_limit=9,
        blkio_weight=10,
        blkio_weight_device=(DeviceRate("/dev/a", 11),),
        device_read_bps=(DeviceRate("/dev/a", 1024),),
        device_write_bps=(DeviceRate("/dev/a", 2048),),
        device_read_iops=(DeviceRate("/dev/a", 3),),
        device_write_iops=(DeviceRate("/dev/a", 4),),
        cgroup_parent="/p",
        cap_add=("CAP_NET_RAW",),
        cap_drop=("ALL",),
        security_opt=SecurityOpt(no_new_privileges=False),
        privileged=True,
        sysctls={"net.core.somaxconn": "1"},
        userns="host",
        pid="host",
        ipc="none",
        uts="private",
        cgroupns="host",
        time_offset=made.time_offset,
        network="red",
        more_networks=("blue",),
        ip=bytes((10, 1, 0, 2)),
        ip6=bytes.fromhex("fd00" + "0" * 27 + "2"),
        mac_address=b"\x02\0\0\0\0\1",
        network_alias=("db",),
        net_rate=NetRate(1000, 125_000_000),
        publish=(Publish("udp", 80, 80, bytes((127, 0, 0, 1)), 8000, 8002),),
        publish_all=True,
        expose=(Publish("tcp", 7, 7),),
        hostname="box",
        domainname="dom",
        add_host=(("a", "1.2.3.4"),),
        dns=("1.1.1.1",),
        dns_search=("b",),
        dns_option=("ndots:1",),
        allow_unenforced=True,
        without=("pidns", "netns"),
    )
    default = RunRequest(image="host")
    unset = {f for f in RunRequest.__fields__ if getattr(made, f) == getattr(default, f)}
    assert unset == {
        "image",
        "rootfs",
        "command",
        "cpus",
        "image_volumes",
        "allow_net",
    }  # the rest were all set by a flag
    assert request("--cpus", "1.5", "host").cpus == 1.5
    assert request("--allow-net", "a.b:1", "host").allow_net == (AllowRule("a.b", first=1, last=1),)


def test_every_flag_has_a_field_and_every_field_a_flag() -> None:
    assert {flag.request_field for flag in FLAGS} == set(RunRequest.__fields__) - {
        "image",
        "command",
        "image_volumes",
        "more_networks",
    }


def test_flag_names_are_unique() -> None:
    names = [name for flag in FLAGS for name in (flag.name, flag.alias) if name]
    shorts = [flag.short for flag in FLAGS if flag.short]
    assert len(names) == len(set(names))
    assert len(shorts) == len(set(shorts))
    assert not set(names) & set(LATER)
    assert not any(flag.kind == "bool" and flag.metavar for flag in FLAGS)
    assert {flag.kind for flag in FLAGS} == {"bool", "one", "many", "words", "map"}
    assert all(flag.metavar or flag.kind == "bool" for flag in FLAGS)
    assert all(heading for heading, _ in RUN_GROUPS)


def test_keywords_of_the_python_face() -> None:
    keywords = {flag.keyword for flag in FLAGS}
    assert len(keywords) == len(FLAGS)
    assert all(keyword.isidentifier() for keyword in keywords)
    assert keywords >= {"memory", "cpus", "pids_limit", "timeout", "network", "hostname", "env", "user", "workdir"}
    assert keywords >= {"volumes", "tmpfs", "read_only", "rootfs", "ulimits", "sysctls", "label_file", "env_file"}


def test_the_last_one_wins() -> None:
    assert request("--memory", "64m", "--memory", "0", "--rm", "--rm=false", "host") == RunRequest(image="host")


def test_an_earlier_value_is_checked_all_the_same() -> None:
    with pytest.raises(InvalidInput):
        request("--memory", "x", "--memory", "64m", "host")


def test_environment_comes_from_files_then_flags() -> None:
    made = request(
        *("--env-file", "f", "-e", "A=2", "-e", "HOME", "-e", "UNSET", "host"),
        files={"f": "A=1\nB=1\nTERM\nGONE\n"},
        environ={"HOME": "/root", "TERM": "xterm"},
    )
    assert made.env == ("A=2", "B=1", "TERM=xterm", "HOME=/root", "UNSET")


def test_the_callers_environment_stays_outside_unless_asked_for() -> None:
    assert request("host", environ={"SECRET": "x"}).env == ()


def test_an_environment_value_must_be_utf8() -> None:
    with pytest.raises(InvalidInput):
        request("-e", "BAD", "host", environ={"BAD": "\udcff"})


def test_labels_come_from_files_then_flags() -> None:
    made = request("--label-file", "f", "-l", "a=2", "host", files={"f": "a=1\nb\n# no\n"})
    assert made.labels == {"a": "2", "b": ""}


def test_a_seccomp_profile_is_read() -> None:
    assert request("--security-opt", "seccomp=p", "host", files={"p": "{}"}).security_opt.seccomp == "{}"


def test_an_empty_entrypoint_is_none_at_all() -> None:
    assert request("--entrypoint", "", "host").entrypoint == ()


def test_contradictions_are_found() -> None:
    with pytest.raises(InvalidInput, match="--memory-swap"):
        request("--memory", "64m", "--memory-swap", "32m", "host")
    with pytest.raises(InvalidInput, match="--tmpfs"):
        request("-v", "/a:/b", "--tmpfs", "/b/", "host")


def test_a_missing_working_directory_matters_only_to_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    caller = this_process()
    assert run_request({"volume": ["/a:/b"]}, ["host"], caller).volumes[0].source == "/a"
    with pytest.raises(NotFound):
        run_request({"volume": ["./a:/b"]}, ["host"], caller)
    monkeypatch.chdir(tmp_path)


def test_files_are_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("A=ä\n", "utf-8")
    assert read_text("--env-file", str(path)) == "A=ä\n"
    path.write_bytes(b"A=1\nB=\xff\n")
    with pytest.raises(InvalidInput, match="line 2"):
        read_text("--env-file", str(path))
    path.write_bytes(b"x" * (1 << 20))
    assert len(read_text("--env-file", str(path))) == 1 << 20
    path.write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(InvalidInput, match="1 MiB"):
        read_text("--env-file", str(path))
    with pytest.raises(InvalidInput, match="directory"):
        read_text("--env-file", str(tmp_path))
    with pytest.raises(NotFound) as caught:
        read_text("--env-file", str(tmp_path / "none"))
    assert caught.value.exit_code == 125


def test_a_pipe_is_a_file_too() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"A=1\n")
    os.close(writer)
    assert read_text("--env-file", f"/dev/fd/{reader}") == "A=1\n"
    os.close(reader)


@given(
    st.lists(st.tuples(st.sampled_from(FLAGS), st.text(max_size=10) | st.sampled_from(["0", "64m", "/a:/b", "a=b"])))
)
def test_any_flags_end_in_a_request_or_an_error_of_ours(given_: list[tuple[object, str]]) -> None:
    argv = [f"--{flag.name}={text}" for flag, text in given_]
    try:
        made = request(*argv, "host", files=dict.fromkeys((text for _, text in given_), "{}"))
    except (KistError, HelpAsked):
        return
    assert decode(RunRequest, plain(made)) == made


CABLED = [("-p", "80:80"), ("-P",), ("--ip", "10.1.0.2"), ("--network-alias", "db"), ("--net-rate", "1mbit")]


@pytest.mark.parametrize("flags", CABLED)
def test_what_needs_a_cable_asks_for_one(flags: tuple[str, ...]) -> None:
    assert request(*flags, "host").network == "bridge"
    assert request(*flags, "--network", "none", "host").network == "none"
    assert request(*flags, "--network", "red", "host").network == "red"
    assert request(*flags, "--allow-net", "a.b", "host").network == "none"
